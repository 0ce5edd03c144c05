from made_clips import SCALE, as_pipeline, random_model

from eclipse.cli import main
from eclipse.models.clip import FrozenClip


def test_a_pipelines_towers_are_imported_by_the_command(tmp_path, capsys):
    source, out = str(as_pipeline(random_model(), tmp_path / "in")), tmp_path / "out"
    assert main(["import-clip", source, "--out", str(out)]) == 2
    assert "--logit-scale" in capsys.readouterr().err and not out.exists()
    assert main(["import-clip", source, "--out", str(out), "--logit-scale", str(SCALE)]) == 0
    assert abs(FrozenClip.load(out, device="cpu").logit_scale - SCALE) < 1e-3
