"""The stages that make frozen models from nothing; each continues where it was stopped.

Without ``dataset`` they train on the mini world; with it, on that dataset's training split.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import VQModel

from eclipse.config import Params
from eclipse.config.frozen import FitParams
from eclipse.errors import CheckpointError
from eclipse.files import atomic_folder, sha256, write_json
from eclipse.models.clip import FrozenClip, save_clip
from eclipse.pretrain.clip import CLIP_CONFIG, train_clip
from eclipse.pretrain.decoder import save_decoder, train_decoder
from eclipse.pretrain.fit import FitSettings
from eclipse.pretrain.movq import encode, train_movq
from eclipse.pretrain.oracle import train_oracle
from eclipse.pretrain.pairs import Pairs, load_pairs
from eclipse.world.oracle import save_oracle
from eclipse.world.pool import make_pool
from eclipse.world.scene import Mix

DIGESTS = "digests.json"


def oracle(params: Params, *, out: Path, checkpoints: Path) -> dict[str, float]:
    """Train the oracle that reads scenes."""
    pool = make_pool(20_000, seed=_seed(params, 4), twins=False)
    settings = _settings(params.frozen.oracle, params, ema=0.99)
    save_oracle(train_oracle(pool, settings, checkpoints / "oracle.pt"), out)
    return {}


def clip(params: Params, *, out: Path, checkpoints: Path, dataset: Path | None = None) -> dict[str, float]:
    """Train the frozen CLIP."""
    pairs: Pairs = load_pairs(dataset) if dataset else make_pool(40_000, _seed(params, 1), edges=0.08, crops=0.1)
    settings = _settings(params.frozen.clip, params, weight_decay=0.05)
    model = train_clip(pairs, settings, checkpoints / "clip.pt")
    with atomic_folder(out) as beside:
        save_clip(model, CLIP_CONFIG, beside, name=f"{params.profile}-clip")
    return {}


def movq(params: Params, *, out: Path, checkpoints: Path, dataset: Path | None = None) -> dict[str, float]:
    """Train the MoVQ that turns pictures into latents and back."""
    images = make_pool(8_000, _seed(params, 2), twins=False).images if dataset is None else load_pairs(dataset).images
    model = train_movq(images, _settings(params.frozen.movq, params, ema=0.995), checkpoints / "movq.pt")
    with atomic_folder(out) as beside:
        model.save_pretrained(beside)
    return {}


def decoder(
    params: Params, *, clip: Path, movq: Path, out: Path, checkpoints: Path, dataset: Path | None = None
) -> dict[str, float]:
    """Train the decoder UNet between the two and save the whole Kandinsky 2.2 decoder folder."""
    if dataset is None:
        images = make_pool(40_000, _seed(params, 3), twins=False, mix=Mix(0.35, 0.45, 0.2)).images
    else:
        images = load_pairs(dataset).images
    frozen = FrozenClip.load(clip)
    embeds = torch.cat([frozen.encode_image(images[i : i + 256]) for i in range(0, len(images), 256)]).cpu()
    vq = VQModel.from_pretrained(movq).eval()
    settings = _settings(params.frozen.decoder, params, ema=0.999, warmup=100, save_every=200)
    unet = train_decoder(
        encode(vq, images), embeds, frozen.encode_nothing()[0].cpu(), settings, checkpoints / "decoder.pt"
    )
    save_decoder(unet, vq, out)
    return {}


def pack(params: Params, *, clip: Path, decoder: Path, oracle: Path, out: Path, metrics: Path) -> dict[str, float]:
    """Measure the models on scenes never trained on; ship them with a card each and a file of digests."""
    from eclipse.pretrain.quality import measure, write_cards  # needs the trained models' rooms, no other stage does

    with atomic_folder(out) as beside:
        for name, folder in (("clip", clip), ("decoder", decoder), ("oracle", oracle)):
            shutil.copytree(folder, beside / name)
        figures = measure(beside, params)
        write_cards(beside, figures, params)
        write_json(beside / DIGESTS, file_digests(beside))
    write_json(metrics, figures)
    return figures


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below ``folder`` but the digest file itself, by relative path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (DIGESTS, "README.md"))
    return {p.relative_to(folder).as_posix(): sha256(p) for p in files}


def check_digests(folder: Path, expected: dict[str, str]) -> None:
    """Raise :class:`CheckpointError` naming the first file that is missing, foreign or different."""
    found = file_digests(folder)
    for name in sorted(set(expected) | set(found)):
        if found.get(name) != expected.get(name):
            state = "missing" if name not in found else "not listed" if name not in expected else "changed"
            raise CheckpointError(
                f"{folder / name}: {state} (see {folder / DIGESTS}); restore it (git checkout {folder})"
            )


def _settings(fit: FitParams, params: Params, **extra: float) -> FitSettings:
    return FitSettings(steps=fit.steps, batch_size=fit.batch_size, lr=fit.lr, seed=params.frozen.seed, **extra)  # type: ignore[arg-type]


def _seed(params: Params, which: int) -> int:
    return params.frozen.seed * 1000 + 101 * which
