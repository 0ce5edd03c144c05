import pytest
from made_clips import SCALE, as_pipeline, random_model

from eclipse.cli import main
from eclipse.models.clip import FrozenClip


def test_a_pipelines_towers_are_imported_by_the_command(tmp_path, capsys):
    source, out = str(as_pipeline(random_model(), tmp_path / "in")), tmp_path / "out"
    assert main(["import-clip", source, "--out", str(out)]) == 2
    assert "--logit-scale" in capsys.readouterr().err and not out.exists()
    assert main(["import-clip", source, "--out", str(out), "--logit-scale", str(SCALE)]) == 0
    assert abs(FrozenClip.load(out, device="cpu").logit_scale - SCALE) < 1e-3


@pytest.mark.parametrize("revision", [[], ["--revision", "main"]])
def test_the_error_for_a_missing_commit_tells_the_whole_command(tmp_path, capsys, revision):
    out = tmp_path / "out"
    assert main(["import-clip", "some/clip", "--out", str(out), *revision]) == 2
    said = capsys.readouterr().err
    assert "https://huggingface.co/some/clip/commits/main" in said
    assert f"python -m eclipse import-clip some/clip --out {out} --revision COMMIT" in said
