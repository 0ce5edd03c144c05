import pytest
from made_published import random_prior

from eclipse.cli import main
from eclipse.models.checkpoint import save_prior


@pytest.fixture
def prior(tmp_path):
    save_prior(random_prior(), tmp_path / "prior")
    return str(tmp_path / "prior")


def test_upstream_needs_no_frozen_models(prior, tmp_path):
    out = tmp_path / "out"
    assert (
        main(["export-prior", str(out), "--to", "upstream", "--prior", prior, "--frozen", str(tmp_path / "none")]) == 0
    )
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "config.json", "diffusion_pytorch_model.safetensors",
    ]  # fmt: skip


def test_a_form_that_there_is_not(prior, tmp_path, capsys):
    assert main(["export-prior", str(tmp_path / "out"), "--to", "onnx", "--prior", prior]) == 2
    assert "write upstream or diffusers" in capsys.readouterr().err
