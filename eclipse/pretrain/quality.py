"""Measures the mini world's frozen models on scenes rendered for this purpose alone, and writes their model cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from eclipse.config import Params
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import Decoder, load_decoder
from eclipse.pretrain.movq import encode, to_signed
from eclipse.world.captions import caption
from eclipse.world.oracle import HEADS, Oracle, judge, labels
from eclipse.world.pool import Pool, make_pool
from eclipse.world.render import render
from eclipse.world.scene import COLOURS, PAIRS, SHAPES, TEXTURES, Mix, Scene, random_scene, swapped

FRESH = 900_000  # seeds from here on are used by no training pool
Figures = dict[str, float]


def measure(folder: Path, params: Params, *, scenes: int = 1000, pictures: int = 256) -> Figures:
    """All figures of the models in ``folder`` (clip, decoder, oracle), as ``model.what`` → value.

    ``scenes`` distinct scenes judge CLIP; ``pictures`` single-object and as many two-object scenes judge the decoder.
    """
    torch.manual_seed(FRESH)
    clip, oracle = FrozenClip.load(folder / "clip"), Oracle.load(folder / "oracle")
    decoder = load_decoder(folder / "decoder", device="cpu")
    figures = {f"oracle.{k}": v for k, v in oracle_accuracy(oracle, 2 * scenes).items()}
    figures |= {f"clip.{k}": v for k, v in clip_figures(clip, scenes).items()}
    figures |= {f"clip.probe_{k}": v for k, v in probes(clip).items()}
    for kind, mix in (("single", Mix(1, 0, 0)), ("pair", Mix(0, 1, 0)), ("count", Mix(0, 0, 1))):
        pool = make_pool(pictures, FRESH + len(kind), mix=mix, twins=False)
        figures |= {f"decoder.{kind}_{k}": v for k, v in decoder_figures(clip, decoder, oracle, pool, params).items()}
    return {name: round(float(value), 4) for name, value in figures.items()}


def oracle_accuracy(oracle: Oracle, size: int) -> Figures:
    """Accuracy of each head where it has something to say, on ``size`` fresh scenes."""
    pool = make_pool(size, FRESH + 1, twins=False)
    seen, target = oracle.read(pool.images), labels(list(pool.scenes))
    result = {}
    for head, words in HEADS.items():
        applies = (target[head] >= 0).numpy()
        result[head] = float((seen.words[head][applies] == np.array(words)[target[head].numpy()[applies]]).mean())
    return result


def clip_figures(clip: FrozenClip, size: int) -> Figures:
    """Text → image R@1 among ``size`` distinct scenes, swapped-attribute tests, and the modality gap."""
    rng = np.random.default_rng(FRESH + 2)
    distinct: dict[str, Scene] = {}
    while len(distinct) < size:
        scene = random_scene(rng)
        distinct[scene.key()] = scene
    scenes = list(distinct.values())
    x = F.normalize(_images(clip, _render(scenes, rng)), dim=1)
    y = F.normalize(_texts(clip, [caption(s, rng) for s in scenes]), dim=1)
    similarity = y @ x.T
    figures = {
        "r1_text_to_image": (similarity.argmax(1) == torch.arange(size)).float().mean().item(),
        "gap_matched_cosine": similarity.diag().mean().item(),
        "gap_centroid_distance": (x.mean(0) - y.mean(0)).norm().item(),
        "gap_image_image_cosine": _off_diagonal(x @ x.T),
        "gap_text_text_cosine": _off_diagonal(y @ y.T),
    }
    for what in ("colour", "shape", "texture", "place"):
        name = "relation" if what == "place" else f"swapped_{what}"
        figures[name] = _swap_test(clip, scenes, what, rng)
    return figures


def probes(clip: FrozenClip, size: int = 9000) -> Figures:
    """Accuracy of a two-layer MLP that reads one attribute from z_x of single-object scenes (one ninth held back)."""
    pool = make_pool(size, FRESH + 3, mix=Mix(1, 0, 0), twins=False)
    z = _images(clip, pool.images)
    z = (z - z.mean(0)) / z.std(0)
    result = {}
    for name, words in (("colour", COLOURS), ("shape", SHAPES), ("texture", TEXTURES)):
        target = torch.tensor([words.index(getattr(scene.things[0], name)) for scene in pool.scenes])
        result[name] = _probe(z, target, len(words), cut=size * 8 // 9)
    return result


def decoder_figures(clip: FrozenClip, decoder: Decoder, oracle: Oracle, pool: Pool, params: Params) -> Figures:
    """Oracle accuracy on pictures decoded from the true z_x and, as the MoVQ's own bound, on its reconstructions."""
    settings = params.evaluate.decode
    z = _images(clip, pool.images)
    decoded = decoder.decode(
        z, seeds=list(range(len(z))), steps=settings.steps, scheduler=settings.scheduler, guidance=settings.guidance,
        negative_embeds=clip.encode_nothing().cpu(), batch_size=settings.batch_size,
    )  # fmt: skip
    vq = decoder.movq
    with torch.no_grad():
        parts = [vq.decode(h, force_not_quantize=True).sample for h in encode(vq, pool.images).split(64)]
    rebuilt = torch.cat(parts).clamp(-1, 1)
    error = ((rebuilt - to_signed(pool.images)) / 2).square().mean((1, 2, 3))
    figures = {"movq_psnr": (-10 * error.log10()).mean().item()}
    again = ((rebuilt + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    for prefix, images in (("", decoded), ("movq_", again)):
        seen = oracle.read(images)
        scores = [judge(scene, seen.one(i)) for i, scene in enumerate(pool.scenes)]
        figures |= {prefix + key: float(np.mean([s[key] for s in scores])) for key in scores[0]}
    return figures


def write_cards(folder: Path, figures: Figures, params: Params) -> None:
    """Write README.md into clip/, decoder/ and oracle/: what it is, how it was made, what was measured."""
    for name, text in _CARDS.items():
        rows = [f"| {k.partition('.')[2]} | {v:.4f} |" for k, v in figures.items() if k.startswith(f"{name}.")]
        fits: dict[str, Any] = {part: getattr(params.frozen, part).model_dump() for part in _PARTS[name]}
        made = "; ".join(
            f"{part}: {f['steps']} steps of {f['batch_size']}, peak lr {f['lr']}" for part, f in fits.items()
        )
        head = f"Trained by `make pretrain` on rendered scenes ({made}; seed {params.frozen.seed}), on a CPU."
        licence = "Licence: Apache-2.0. Weights: fp16 safetensors."
        figures_are = "Measured by the same command on scenes rendered for the measurement alone:"
        table = ["| figure | value |", "|---|---|", *rows]
        card = "\n".join([f"# {text}", "", head, licence, "", figures_are, "", *table, ""])
        (folder / name / "README.md").write_text(card, encoding="utf-8")


_PARTS = {"clip": ("clip",), "decoder": ("movq", "decoder"), "oracle": ("oracle",)}
_CARDS = {
    "clip": "Mini CLIP\n\nopen_clip's `CLIP` (ModifiedResNet image tower, causal text tower, bundled tokenizer) for "
    "64 × 64 scenes, their edge maps and their masked crops. The modality gap was opened on purpose: see `open_gap`.",
    "decoder": "Mini Kandinsky 2.2 decoder\n\nMoVQ (`VQModel`, spatial norm) and UNet (`UNet2DConditionModel`, image "
    "embeddings as only condition); loads with the unmodified `KandinskyV22Pipeline`.",
    "oracle": "Oracle\n\nReads layout, background and both things' colour, shape and texture from a 64 × 64 scene.",
}


def _render(scenes: list[Scene], rng: np.random.Generator) -> NDArray[np.uint8]:
    return np.stack([render(scene, rng).image for scene in scenes])


def _images(clip: FrozenClip, images: NDArray[np.uint8]) -> Tensor:
    return torch.cat([clip.encode_image(images[i : i + 256]).cpu() for i in range(0, len(images), 256)])


def _texts(clip: FrozenClip, captions: list[str]) -> Tensor:
    parts = [captions[i : i + 256] for i in range(0, len(captions), 256)]
    return torch.cat([clip.encode_text(clip.tokenize(part)).prompt_embeds.cpu() for part in parts])


def _off_diagonal(matrix: Tensor) -> float:
    n = len(matrix)
    return ((matrix.sum() - matrix.trace()) / (n * (n - 1))).item()


def _swap_test(clip: FrozenClip, scenes: list[Scene], what: str, rng: np.random.Generator) -> float:
    """Share of pair pictures closer to their own caption than to the one with one attribute (or the place) swapped."""
    pairs = [s for s in scenes if s.layout in PAIRS and swapped(s, what) != s]
    x = F.normalize(_images(clip, _render(pairs, rng)), dim=1)
    right = F.normalize(_texts(clip, [caption(s, rng) for s in pairs]), dim=1)
    wrong = F.normalize(_texts(clip, [caption(swapped(s, what), rng) for s in pairs]), dim=1)
    return ((x * right).sum(1) > (x * wrong).sum(1)).float().mean().item()


def _probe(z: Tensor, target: Tensor, classes: int, cut: int) -> float:
    torch.manual_seed(FRESH)
    net = nn.Sequential(nn.Linear(z.shape[1], 256), nn.ReLU(), nn.Linear(256, classes))
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    for _ in range(25):
        for index in torch.randperm(cut).split(200):
            optimizer.zero_grad()
            F.cross_entropy(net(z[index]), target[index]).backward()
            optimizer.step()
    return (net(z[cut:]).argmax(1) == target[cut:]).float().mean().item()
