"""The model card of a selected prior."""

from __future__ import annotations

from typing import Any

from eclipse.config.params import Params
from eclipse.evaluate.summary import has_edges, takes_subjects

_DECIMALS = {"fid": 2}


def model_card(
    selection: dict[str, Any], lineage: dict[str, Any], estimates: dict[str, dict[str, Any]], params: Params
) -> str:
    """Markdown: what it is, how it was trained, why it was chosen, its validation metrics and where it comes from.

    ``selection`` is selection.json, ``lineage`` training.json, ``estimates`` the validation metrics of the chosen run.
    """
    name = f"{selection['point']}-{selection['seed']}"
    sections = [
        _front(name, selection["point"]),
        _purpose(selection["point"]) + " It works only with the CLIP named under Lineage.",
        "## Data\n\n" + _data(params),
        "## Training\n\n" + _table(("parameter", "value"), list(_training(lineage, params).items())),
        f"## Selection\n\n{selection['rule']}\n\n" + _candidates(selection),
        "## Metrics (validation)\n\nMean and 95 % bootstrap interval over prompts. Test splits are in the report.\n\n"
        + _metrics(estimates),
        "## Lineage\n\n" + _table(("what", "value"), sorted(_flat(lineage).items())),
        "## Limits\n\nMeasured only on captions of the data above; other words, styles and languages were not seen.",
    ]
    return "\n\n".join(sections) + "\n"


def _front(name: str, point: str) -> str:
    method = "lambda-eclipse" if takes_subjects(point) else "eclipse"
    return (
        "---\nlicense: apache-2.0\nlibrary_name: eclipse\npipeline_tag: text-to-image\n"
        f"tags: [{method}, unclip, text-to-image-prior]\n---\n\n# {name}"
    )


def _purpose(point: str) -> str:
    if not takes_subjects(point):
        return (
            "A time-free text-to-image prior: it maps a caption's CLIP text states to a CLIP image embedding in one "
            "forward pass; a frozen diffusion decoder makes the picture."
        )
    edges = (
        "An edge map can be given as control."
        if has_edges(point)
        else "It was trained without edge maps: its control is always that of no picture."
    )
    return (
        "A λ-ECLIPSE prior: it maps a caption with CLIP embeddings of subjects' pictures in the places of their nouns "
        f"to a CLIP image embedding in one forward pass; a frozen diffusion decoder makes the picture. {edges}"
    )


def _data(params: Params) -> str:
    if params.data.source == "world":
        world = params.data.world
        return (
            f"The mini world: {world.train} captioned scenes for training (seed {world.seed}, caption noise "
            f"{world.caption_noise:g}), {world.evaluation} in each evaluation split."
        )
    return f"Captioned images ingested from {params.data.source} (`{params.data.path}`, split seed {params.data.seed})."


def _training(lineage: dict[str, Any], params: Params) -> dict[str, Any]:
    recorded = ("point", "lam", "seed", "mse_reduction", "temperature")
    from_file: dict[str, Any] = {key: lineage[key] for key in recorded if key in lineage}
    wanted = ("steps", "batch_size", "lr", "weight_decay", "warmup", "ema", "precision", "mse_reduction")
    trained = {**params.train.model_dump(), **lineage.get("train_params", {})}
    return {**{key: trained[key] for key in wanted}, **from_file, **params.prior.model_dump()}


def _candidates(selection: dict[str, Any]) -> str:
    rows = [
        (c["point"], f"{c['metric']:.4f}", f"{c['cosine']:.4f}", c["verdict"])
        for c in sorted(selection["candidates"], key=lambda c: -c["metric"])
    ]
    return _table(("point", f"{selection['metric']}, {selection['split']}", "cosine, val_seen", "verdict"), rows)


def _metrics(estimates: dict[str, dict[str, Any]]) -> str:
    names = sorted({name for metrics in estimates.values() for name in metrics})
    rows = [(name, *(_entry(name, estimates[split].get(name)) for split in estimates)) for name in names]
    return _table(("metric", *estimates), rows)


def _entry(name: str, entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "–"
    value, low, high = (f"{entry[key]:.{_DECIMALS.get(name, 3)}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}] (n = {entry['n']})"


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat
