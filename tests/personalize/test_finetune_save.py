"""From concepts to a decoder folder that the unmodified pipeline loads."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22Pipeline
from made_decoder import make_decoder
from safetensors.torch import load_file

from eclipse.config.subjects import FinetuneParams
from eclipse.errors import CheckpointError, ConfigError, TrainingError
from eclipse.models.decoder import load_decoder
from eclipse.personalize.finetune_data import Concept
from eclipse.personalize.finetune_save import Source, finetune_decoder, loss_summary, save_finetuned, weights_type

UNET = "unet/diffusion_pytorch_model.safetensors"


class TinyClip:
    projection_dim, weights_hash = 3, "c" * 64

    def encode_image(self, images):
        return torch.from_numpy(images).float().mean((1, 2)) / 255


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> Path:
    """A decoder in fp16 with a card, and a stale second copy of the UNet's weights."""
    folder = make_decoder(tmp_path_factory.mktemp("source") / "decoder", 3)
    KandinskyV22Pipeline.from_pretrained(folder).to(torch.float16).save_pretrained(folder)
    (folder / "README.md").write_text("# A decoder\n\nIts figures.\n")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"stale")
    return folder


def concept(name="toy", seed=0) -> Concept:
    image = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)
    return Concept(name, (image,), {"0.png": f"{seed}" * 64})


def finetuned(half, tmp_path, concepts=None, **changes):
    settings = FinetuneParams(lr=1e-3, batch_size=1, **changes)
    return finetune_decoder(
        concepts or [concept()], Source(TinyClip(), half), settings, steps=3, seed=0,
        out=tmp_path / "out", checkpoints=tmp_path / "states",
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_the_unets_weights_and_the_notes_change(half, tmp_path):
    finetuned(half, tmp_path)
    before, after = files(half), files(tmp_path / "out")
    assert set(after) - set(before) == {"finetune.json"}
    assert set(before) - set(after) == {"unet/diffusion_pytorch_model.bin"}
    changed = {name for name in set(before) & set(after) if before[name] != after[name]}
    assert changed == {UNET, "README.md"}
    assert after["README.md"].decode().endswith("# A decoder\n\nIts figures.\n")
    assert "finetuned on toy (3 steps" in after["README.md"].decode()
    old, new = load_file(half / UNET), load_file(tmp_path / "out" / UNET)
    assert {k: (v.shape, v.dtype) for k, v in old.items()} == {k: (v.shape, v.dtype) for k, v in new.items()}


def test_the_unmodified_pipeline_loads_it_and_draws_otherwise(half, tmp_path):
    finetuned(half, tmp_path)
    KandinskyV22Pipeline.from_pretrained(tmp_path / "out", local_files_only=True)
    embeds = torch.rand(1, 3, generator=torch.Generator().manual_seed(0))
    pictures = [
        load_decoder(folder, device="cpu").decode(embeds, seeds=[0], steps=2) for folder in (half, tmp_path / "out")
    ]
    assert pictures[0].shape == pictures[1].shape and not np.array_equal(*pictures)


def test_the_record_says_where_it_comes_from(half, tmp_path):
    record = finetuned(half, tmp_path, [concept(), concept("other", 1)])
    assert json.loads((tmp_path / "out" / "finetune.json").read_text()) == record
    assert record["concepts"] == {"toy": {"0.png": "0" * 64}, "other": {"0.png": "1" * 64}}
    assert (record["steps"], record["seed"], record["encoder_hash"]) == (3, 0, "c" * 64)
    assert record["params"]["lr"] == 1e-3 and "checkpoint_every" not in record["params"]
    assert record["loss"]["steps"] == 3 and len(record["loss"]["mean_of_parts"]) == 3
    assert str(tmp_path) not in json.dumps(record)


def test_the_same_command_again_changes_nothing_and_leaves_no_state(half, tmp_path):
    finetuned(half, tmp_path)
    first = (tmp_path / "out" / UNET).stat().st_mtime_ns
    finetuned(half, tmp_path)
    assert (tmp_path / "out" / UNET).stat().st_mtime_ns == first
    assert not list((tmp_path / "states").iterdir())
    finetuned(half, tmp_path, [concept(seed=2)])
    assert (tmp_path / "out" / UNET).stat().st_mtime_ns != first


def test_adapters_are_merged_into_an_ordinary_folder(half, tmp_path):
    finetuned(half, tmp_path, lora_rank=2)
    old, new = load_file(half / UNET), load_file(tmp_path / "out" / UNET)
    assert old.keys() == new.keys()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed and all(".attentions." in name for name in changed)


def test_no_folder_of_something_else_is_replaced(half, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "photo.png").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="exists and is no finetuned decoder"):
        finetuned(half, tmp_path)
    assert (tmp_path / "out" / "photo.png").read_bytes() == b"mine"
    with pytest.raises(ConfigError, match="is the decoder that is finetuned"):
        finetune_decoder(
            [concept()], Source(TinyClip(), half), FinetuneParams(), steps=1, seed=0, out=half, checkpoints=tmp_path
        )


def test_a_missing_decoder_and_weights_too_large_for_their_type_are_refused(half, tmp_path):
    with pytest.raises(CheckpointError, match="no model_index.json"):
        finetuned(tmp_path / "nowhere", tmp_path)
    with pytest.raises(CheckpointError, match=r"no diffusion_pytorch_model\.safetensors"):
        weights_type(tmp_path)
    unet = load_decoder(half, device="cpu").pipeline.unet
    with torch.no_grad():
        unet.conv_in.weight[0, 0, 0, 0] = 1e6
    with pytest.raises(TrainingError, match=r"conv_in\.weight is not finite in torch\.float16"):
        save_finetuned(half, unet, tmp_path / "large", {"concepts": {}, "steps": 1})
    assert not (tmp_path / "large").exists()


def test_loss_is_told_in_ten_parts():
    state = SimpleNamespace(rows=[{"loss": float(i)} for i in range(20)])
    assert loss_summary(state)["mean_of_parts"] == [0.5 + 2 * i for i in range(10)]
