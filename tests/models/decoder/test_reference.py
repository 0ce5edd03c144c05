"""Decoders by reference: every class of them pinned, found and opened from a cache in Hugging Face's layout."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from made_decoder import make_decoder
from made_decoders import make_kandinsky21, make_karlo

from eclipse.errors import CheckpointError
from eclipse.files import tree_digest, write_json
from eclipse.models.decoder import decoder_digest, decoder_folder, load_decoder, open_decoder
from eclipse.models.decoder.reference import DecoderReference, locate, pin

SOURCE, REVISION, P = "some-one/decoder", "0123456789" * 4, 12
MAKERS = {"kandinsky22": make_decoder, "kandinsky21": make_kandinsky21, "karlo": make_karlo}


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Put a folder into a local cache as the repository's snapshot, with a card and weights that nobody asked for."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(folder: Path) -> Path:
        snapshot = cache / f"models--{SOURCE.replace('/', '--')}" / "snapshots" / REVISION
        shutil.copytree(folder, snapshot)
        (snapshot / "README.md").write_text("a card")
        for config in folder.glob("*/config.json"):
            weights = "model" if config.parent.name == "text_encoder" else "diffusion_pytorch_model"
            (snapshot / config.parent.name / f"{weights}.fp16.safetensors").write_bytes(b"not asked for")
            (snapshot / config.parent.name / f"{weights}.bin").write_bytes(b"never opened")
        return snapshot

    return put


def drawn(decoder):
    return decoder.decode(torch.ones(1, P), seeds=[1], steps=2, prompts=["a cat"])


@pytest.mark.parametrize("name", MAKERS)
def test_by_reference_it_is_the_same_decoder(publish, tmp_path, name):
    folder = MAKERS[name](tmp_path / "d", P)
    snapshot = publish(folder)
    reference = pin(SOURCE, REVISION)
    assert not [file for file in reference.files if file.endswith((".bin", ".md")) or "fp16" in file]
    assert not [file for file in reference.files if file.startswith("prior")]  # which nothing is drawn with
    frozen = tmp_path / "frozen"
    write_json(frozen / "decoder.json", asdict(reference))
    assert decoder_folder(frozen) == snapshot and decoder_digest(frozen) == reference.digest
    assert np.array_equal(drawn(open_decoder(frozen, device="cpu")), drawn(load_decoder(folder, device="cpu")))


@pytest.mark.parametrize("name", MAKERS)
def test_all_that_is_loaded_has_to_be_pinned(publish, tmp_path, name):
    publish(MAKERS[name](tmp_path / "d", P))
    reference = pin(SOURCE, REVISION)
    needed = [
        file for file in reference.files if not file.endswith(("special_tokens_map.json", "generation_config.json"))
    ]
    for left_out in needed:
        files = {file: digest for file, digest in reference.files.items() if file != left_out}
        with pytest.raises(CheckpointError, match="its files lack"):
            locate(DecoderReference(SOURCE, REVISION, files))


def test_weights_in_shards_are_pinned_with_their_list(publish, tmp_path):
    folder = make_decoder(tmp_path / "d", P)
    unet = load_decoder(folder, device="cpu").pipeline.unet
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet", max_shard_size="500KB")
    shards = sorted(path.name for path in (folder / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    publish(folder)
    reference = pin(SOURCE, REVISION)
    assert {f"unet/{name}" for name in (*shards, "diffusion_pytorch_model.safetensors.index.json")} < set(
        reference.files
    )
    assert drawn(load_decoder(locate(reference), device="cpu")).shape == (1, 64, 64, 3)
    files = {file: digest for file, digest in reference.files.items() if file != f"unet/{shards[1]}"}
    with pytest.raises(CheckpointError, match=f"its files lack unet/{shards[1]}"):
        locate(DecoderReference(SOURCE, REVISION, files))


def test_weights_of_half_precision_only_are_taken_as_such(publish, tmp_path):
    folder = make_decoder(tmp_path / "d", P)
    load_decoder(folder, device="cpu").pipeline.to(torch.float16).save_pretrained(folder, variant="fp16")
    for part in ("unet", "movq"):
        (folder / part / "diffusion_pytorch_model.safetensors").unlink()
    assert drawn(load_decoder(folder, device="cpu")).shape == (1, 64, 64, 3)
    publish(folder)
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in pin(SOURCE, REVISION).files


def test_a_repository_without_safetensors_is_refused_with_what_is_missing(publish, tmp_path):
    folder = make_decoder(tmp_path / "d", P)
    snapshot = publish(folder)
    for file in (snapshot / "movq").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(CheckpointError, match="has no movq/diffusion_pytorch_model.safetensors"):
        pin(SOURCE, REVISION)


def test_inside_and_by_reference_at_once_is_refused(tmp_path):
    make_decoder(tmp_path / "decoder", P)
    assert decoder_folder(tmp_path) == tmp_path / "decoder"
    assert decoder_digest(tmp_path) == tree_digest(tmp_path / "decoder")
    (tmp_path / "decoder.json").write_text(json.dumps({}))
    with pytest.raises(CheckpointError, match="either decoder/ or decoder.json"):
        decoder_folder(tmp_path)
