"""The command, and the server after it."""

import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants
from made_cache import REVISION, put
from made_clips import as_transformers, random_model
from made_decoder import make_decoder
from made_published import WIDTH, random_prior, write_published

from eclipse.cli import main
from eclipse.models.published import PRIORS
from eclipse.serve.load import load

_, TEXT, SUBJECTS = PRIORS
PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with nothing trained in it, on a machine that has fetched the published weights (tiny ones)."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("ECLIPSE_RELEASES", raising=False)
    clip = random_model(text={"hidden_size": WIDTH, "intermediate_size": 80})
    put(tmp_path / "hub", TEXT.encoder.repo, as_transformers(clip, tmp_path / "clip"), TEXT.encoder.revision)
    put(tmp_path / "hub", TEXT.decoder.repo, make_decoder(tmp_path / "decoder", WIDTH), TEXT.decoder.revision)
    put(tmp_path / "hub", SUBJECTS.repo, write_published(random_prior(4), tmp_path / "prior"))
    root = tmp_path / "root"
    root.mkdir()
    shutil.copyfile(PARAMS, root / "params.yaml")
    monkeypatch.chdir(root)
    return root


def test_import_prior_and_then_serve(root, capsys):
    assert main(["import-prior", SUBJECTS.repo]) == 2
    said = capsys.readouterr().err
    assert "write the full commit" in said and f"https://huggingface.co/{SUBJECTS.repo}/commits/main" in said
    assert f"python -m eclipse import-prior {SUBJECTS.repo} --revision COMMIT" in said
    assert main(["import-prior", SUBJECTS.repo, "--revision", REVISION]) == 0
    serving = load(root)
    try:
        (prior,) = serving.catalogue.served.priors
        assert prior.model == "eclipse-prior-lambda-eclipse-kandinsky"
        card = serving.catalogue.card(prior)
        assert card.release == "imported" and card.lineage["imported.revision"] == REVISION
        assert card.lineage["imported.trained_by"].startswith("the source")
        origin = serving.identity.origin(prior.prior_hash)
        assert origin.training.point is None and origin.data.dataset_digest is None
    finally:
        serving.engine.close(0)


def test_frozen_models_are_taken_from_the_parameters(root, tmp_path):
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["frozen"] |= {
        "hub": {"encoder": {"repo": str(tmp_path / "clip")}, "decoder": {"repo": str(tmp_path / "decoder")}}
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    assert main(["import-prior", SUBJECTS.repo, "--revision", REVISION, "--out", "there"]) == 0
    assert (root / "there/frozen/decoder/unet").is_dir() and not (root / "there/frozen/decoder.json").exists()
