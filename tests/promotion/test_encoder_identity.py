"""A prior goes into force only with the CLIP that it was trained on."""

import json
import shutil

import pytest
from made_reviews import FROZEN

from eclipse.errors import CheckpointError


def test_promotion_with_another_clip_is_refused(world, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(FROZEN, other)
    config = json.loads((other / "clip" / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True  # the same weights, another function
    (other / "clip" / "open_clip_config.json").write_text(json.dumps(config))
    world.review(1)
    with pytest.raises(CheckpointError, match=r"other/clip: is the CLIP .* but the prior was trained on .*--frozen"):
        world.promote(1, frozen=other)
    assert not world.roles() and not world.aliases().get("champion")
    assert world.promote(1).outcome == "promoted"
