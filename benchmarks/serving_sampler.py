"""DPM-Solver++ 2M at 15 and 20 steps against DDIM at 50: what the oracle reads in the pictures, and UNet calls.

    python benchmarks/serving_sampler.py --artifacts artifacts

Embeddings of one prior for the first prompts of a held-out split are drawn by each sampler with the same decoder
seeds, and the oracle judges whether the pictures show what the captions ask for. Differences to DDIM are paired over
prompts, with 95 % bootstrap intervals; DDIM again with other seeds shows how large a difference is that means nothing.
Prints a table and a JSON line. Exits with 1 when the interval of ``--metric`` does not hold 0 at ``--steps`` steps, or
when the fewest UNet calls saved are below ``--require``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eclipse.config.params import EvaluateParams
from eclipse.embeddings.store import Store
from eclipse.evaluate.bootstrap import Estimate, paired_difference
from eclipse.evaluate.generate import predict_split, prompt_seeds, read_targets
from eclipse.evaluate.judge import Judge
from eclipse.evaluate.split import real_pictures
from eclipse.models.checkpoint import load_prior
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import load_decoder

Scores = dict[str, NDArray[np.float64]]
REFERENCE = "ddim"


@dataclass(frozen=True)
class Run:
    """One sampler on all prompts: per-prompt ``scores``, UNet ``calls`` of a picture, wall ``seconds`` of a picture."""

    scores: Scores
    calls: float
    seconds: float


class Bench:
    """The models, and ẑ_x [N, P] of the prompts."""

    def __init__(self, options: argparse.Namespace) -> None:
        frozen, params = options.artifacts / "frozen", EvaluateParams()
        clip = FrozenClip.load(frozen / "clip")
        self.judge = Judge.load(clip, frozen)
        self.decoder = load_decoder(frozen / "decoder", device=clip.device)
        self.negative = clip.encode_nothing()
        self.guidance = options.guidance
        store = Store.open(options.artifacts / "store", options.split, expect_weights_hash=clip.weights_hash)
        count = min(options.images, len(store))
        self.ids = store.table()["id"].to_pylist()
        seeds = prompt_seeds(options.split, self.ids, "prior", params.seed)
        prior = load_prior(options.prior or options.artifacts / "selected", device=clip.device)
        self.embeds = predict_split(prior, store, seeds, params, desc=options.split)[0][:count]
        self.ids = self.ids[:count]
        self.text = read_targets(store).prompt_embeds[:count]
        self.split = options.split
        self.meta: list[dict[str, Any]] = real_pictures(options.artifacts / "dataset", options.split, self.ids)[1]

    def run(self, scheduler: str, steps: int, *, seed: int = 0) -> Run:
        """Draw all prompts and judge them; decoder seeds follow from ``seed``."""
        calls: list[int] = []
        hook = self.decoder.pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
        began = time.perf_counter()
        images = self.decoder.decode(
            self.embeds,
            seeds=prompt_seeds(self.split, self.ids, "decoder", seed),
            steps=steps,
            scheduler=scheduler,
            guidance=self.guidance,
            negative_embeds=self.negative,
            batch_size=len(self.ids),
        )
        seconds = (time.perf_counter() - began) / len(images)
        hook.remove()
        scores: Scores = dict(self.judge.categories(images, self.meta))
        scores["clip_score"] = self.judge.clip_score(images, self.text)
        return Run(scores, len(calls), seconds)


def differences(run: Run, reference: Run) -> dict[str, Estimate]:
    """Metric → mean paired difference to ``reference`` with its interval, where it is defined on any prompt."""
    found = {name: paired_difference(run.scores[name], reference.scores[name]) for name in run.scores}
    return {name: value for name, value in found.items() if value is not None}


def show(runs: dict[str, Run], against: dict[str, dict[str, Estimate]]) -> None:
    """The table: a block for each sampler, a line for each metric."""
    for name, run in runs.items():
        print(f"\n{name}: {run.calls:g} UNet calls, {run.seconds:.3f} s a picture")
        for metric, values in run.scores.items():
            shown = f"  {metric:12s} {np.nanmean(values):6.3f}"
            if name in against and metric in against[name]:
                gap = against[name][metric]
                inside = "within" if gap.low <= 0 <= gap.high else "OUTSIDE"
                shown += (
                    f"  difference {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] n={gap.n}, {inside} the noise"
                )
            print(shown)


def report(options: argparse.Namespace, names: Sequence[str], runs: dict[str, Run]) -> int:
    """Print, and the exit code."""
    reference = runs[REFERENCE]
    against = {name: differences(run, reference) for name, run in runs.items() if name != REFERENCE}
    show(runs, against)
    ratios = {name: reference.calls / runs[name].calls for name in names}
    gaps = {name: {metric: gap.to_dict() for metric, gap in found.items()} for name, found in against.items()}
    print(json.dumps({"n": len(reference.scores["clip_score"]), "call_ratio": ratios, "differences": gaps}))
    within = all(against[name][options.metric].low <= 0 <= against[name][options.metric].high for name in names)
    return 0 if within and min(ratios.values()) >= options.require else 1


def main() -> int:
    """Measure, print, and say by the exit code whether the requirement holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="frozen, store and dataset of a run")
    parser.add_argument("--prior", type=Path, help="folder of the prior (default: selected in --artifacts)")
    parser.add_argument("--split", default="test_held_out", help="evaluation split (default test_held_out)")
    parser.add_argument("--images", type=int, default=200, help="prompts (default 200)")
    parser.add_argument("--steps", type=int, nargs="+", default=[15, 20], help="DPM-Solver++ steps (default 15 20)")
    parser.add_argument("--reference-steps", type=int, default=50, help="DDIM steps (default 50)")
    parser.add_argument("--guidance", type=float, default=3.0, help="decoder guidance (default 3)")
    parser.add_argument("--metric", default="composition", help="what decides (default composition)")
    parser.add_argument("--require", type=float, default=2.5, help="least ratio of UNet calls (default 2.5)")
    options = parser.parse_args()
    bench = Bench(options)
    runs = {REFERENCE: bench.run("ddim", options.reference_steps)}
    runs["ddim, other seeds"] = bench.run("ddim", options.reference_steps, seed=1)
    names = [f"dpm++ {steps}" for steps in options.steps]
    for name, steps in zip(names, options.steps, strict=True):
        runs[name] = bench.run("dpm++", steps)
    return report(options, names, runs)


if __name__ == "__main__":
    sys.exit(main())
