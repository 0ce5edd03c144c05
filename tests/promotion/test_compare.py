import numpy as np
import pytest
import torch
from made_subjects import COUNT, make_data, make_frozen, tiny_params

from eclipse.config.decoder import DecoderParams
from eclipse.embeddings.header import read_header
from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.files import write_json
from eclipse.models.checkpoint import prior_hash, save_prior
from eclipse.models.prior import EclipsePrior
from eclipse.promotion import compare
from eclipse.promotion.compare import Ground, Side, _digest, check_encoder, measure, params_digest, rule_of
from eclipse.stages import evaluate

RULE = {"images": 5, "bootstrap": 1000}
TOKENS = {"eclipse-0.2": 3, "eclipse-1.0": 3, "lambda-0.2": 4}


def params(**promote):
    return tiny_params(promote={**RULE, **promote})


def save(folder, point, *, encoder="", width=16):
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}
    save_prior(EclipsePrior(width, 16, additional_embeddings=TOKENS[point], **sizes), folder)
    made = {"point": point, "seed": 0, "encoder_hash": encoder, "dataset_digest": "d" * 64}
    write_json(folder / "training.json", made)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An annotated small world with random frozen models, and untrained priors."""
    root = tmp_path_factory.mktemp("compare")
    make_frozen(root / "frozen")
    make_data(root, root / "frozen", COUNT)
    encoder = read_header(root / "store").weights_hash
    for point in TOKENS:
        save(root / "priors" / point, point, encoder=encoder)
    return root


def ground(root, variant="eclipse", **other):
    return Ground(variant, **{name: root / name for name in ("store", "dataset", "frozen")} | other)


def side(root, point):
    return Side.of(root / "priors" / point, "1")


@pytest.fixture(scope="module")
def found(made, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return {
        point: measure(side(made, point), ground(made), params(), cache) for point in ("eclipse-0.2", "eclipse-1.0")
    }


def test_both_draw_the_same_prompts_and_only_those(made, found):
    a, b = found["eclipse-0.2"], found["eclipse-1.0"]
    assert a.table.splits == ("test_seen",) * 3 + ("test_held_out",) * 5
    assert (a.table.ids, a.table.captions) == (b.table.ids, b.table.captions)
    assert a.table.ids[:4] == ("test_seen-000", "test_seen-001", "test_seen-002", "test_held_out-000")
    assert a.images.shape == (8, 64, 64, 3) and not np.array_equal(a.images, b.images)
    assert {"composition", "cosine", "r1_all", "colour"} <= set(a.table.measured())
    assert all(len(values) == 8 for values in a.table.scores.values())


def test_figures_and_pictures_are_those_of_the_evaluation(made, found, tmp_path):
    settings = tiny_params({"images": 5, "bootstrap": 100})
    evaluate.run(
        settings, store=made / "store", frozen=made / "frozen", dataset=made / "dataset",
        prior=made / "priors" / "eclipse-0.2", out=tmp_path / "d", metrics=tmp_path / "m.json",
        point="eclipse-0.2", seed=0,
    )  # fmt: skip
    images = [np.load(tmp_path / "d" / "images" / f"{split}.npy") for split in ("test_seen", "test_held_out")]
    assert np.array_equal(np.concatenate(images), found["eclipse-0.2"].images)


def test_what_was_measured_is_read_again_until_something_changes(made, tmp_path, monkeypatch):
    first = measure(side(made, "eclipse-0.2"), ground(made), params(), tmp_path)
    drawn = []
    monkeypatch.setattr(compare, "_measure", lambda *given: drawn.append(given) or first)
    again = measure(side(made, "eclipse-0.2"), ground(made), params(margin=0.3, sheet_prompts=3), tmp_path)
    assert not drawn and again.table.ids == first.table.ids and np.array_equal(again.images, first.images)
    for name, values in first.table.scores.items():
        assert np.array_equal(again.table.scores[name], values, equal_nan=True)
    measure(side(made, "eclipse-1.0"), ground(made), params(), tmp_path)
    measure(side(made, "eclipse-0.2"), ground(made), params(images=4), tmp_path)
    other = tiny_params({"seed": 1}, promote=RULE)
    measure(side(made, "eclipse-0.2"), ground(made), other, tmp_path)
    assert len(drawn) == 3 and len(list(tmp_path.iterdir())) == 4


def test_a_damaged_cache_is_told(made, tmp_path):
    measure(side(made, "eclipse-0.2"), ground(made), params(images=1), tmp_path)
    next(tmp_path.glob("*/images.npy")).write_bytes(b"no array")
    with pytest.raises(DataError, match=r"unreadable \(.*\); delete it and review again"):
        measure(side(made, "eclipse-0.2"), ground(made), params(images=1), tmp_path)


def test_subjects_are_drawn_from_their_own_store(made, tmp_path):
    own = ground(made, "lambda-eclipse")
    candidate = measure(side(made, "lambda-0.2"), own, params(), tmp_path)
    baseline = made / "priors" / "eclipse-0.2"
    reference = measure(Side.reference("lambda-eclipse", baseline), own, params(), tmp_path)
    assert candidate.table.ids == reference.table.ids and len(candidate.images) == 8
    assert {"both", "rest", "concept", "cosine"} <= set(candidate.table.measured())
    assert not np.array_equal(candidate.images, reference.images)
    with pytest.raises(CheckpointError, match="kind eclipse, but lambda-eclipse is needed here"):
        measure(side(made, "eclipse-0.2"), own, params(), tmp_path)


def test_the_reference_is_the_text_embedding_itself(made, tmp_path):
    reference = Side.reference("eclipse", made / "none")
    assert (reference.point, reference.prior_hash, reference.version) == ("text", None, None)
    table = measure(reference, ground(made), params(), tmp_path).table
    assert table.scores["text_cosine"] == pytest.approx(np.ones(8))


def test_without_an_oracle_its_metrics_are_missed_by_name(made, tmp_path):
    bare = tmp_path / "frozen"
    bare.mkdir()
    for name in ("clip", "decoder"):
        (bare / name).symlink_to(made / "frozen" / name)
    where = ground(made, frozen=bare)
    with pytest.raises(ConfigError, match=r"promote.metric composition: not measured .* there are clip_score, cosine"):
        measure(side(made, "eclipse-0.2"), where, params(images=2), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    found = measure(side(made, "eclipse-0.2"), where, params(images=2, metric="r1_all"), tmp_path / "cache")
    assert "composition" not in found.table.scores


def test_splits_without_records_are_no_ground(made, tmp_path):
    with pytest.raises(DataError, match="has no records in test_new; set promote.splits"):
        measure(side(made, "eclipse-0.2"), ground(made), params(splits=["test_new"]), tmp_path)


def test_a_side_knows_where_it_comes_from(made):
    header = read_header(made / "store")
    own = side(made, "eclipse-0.2")
    assert own.prior_hash == prior_hash(made / "priors" / "eclipse-0.2") and own.dataset == "d" * 64
    check_encoder(own, "candidate", header)
    check_encoder(Side("text", None), "reference", header)
    with pytest.raises(CheckpointError, match="mini version 2: was trained on another CLIP .* cannot be compared"):
        check_encoder(Side("eclipse-0.2", None, encoder_hash="f" * 64), "mini version 2", header)


def test_facts_change_with_what_they_are_of_and_leave_out_what_is_not_here(made, tmp_path):
    facts = ground(made).facts()
    assert set(facts) == {"store_hash", "dataset_digest", "encoder_hash", "frozen_digest"}
    assert ground(made, store=tmp_path / "none", frozen=tmp_path / "none").facts() == {}
    other = tmp_path / "frozen"
    make_frozen(other)
    (other / "decoder" / "model_index.json").write_text("{}")
    assert ground(made, frozen=other).facts()["frozen_digest"] != facts["frozen_digest"]


def test_places_are_those_of_the_graph():
    text, subjects = Ground.of("eclipse"), Ground.of("lambda-eclipse")
    assert [str(path) for path in (text.store, text.dataset, text.frozen)] == [
        "artifacts/store", "artifacts/dataset", "artifacts/frozen",
    ]  # fmt: skip
    assert str(subjects.store) == "artifacts/subjects/store" and subjects.frozen == text.frozen


def test_the_digest_changes_with_the_rule_and_with_how_pictures_are_made_and_not_with_what_is_shown():
    digest = params_digest(params())
    assert params_digest(params(sheet_prompts=3)) == digest
    assert params_digest(tiny_params({"bootstrap": 200}, promote=RULE)) == digest
    assert params_digest(params(margin=0.3)) != digest
    assert params_digest(tiny_params({"seed": 3}, promote=RULE)) != digest


def with_decoder(**decoder):
    given = params()
    return given.model_copy(update={"decoder": DecoderParams(**decoder)})


ALIKE = ({}, {"precision": "fp32"}, {"offload": "none"}, {"tiled": False})
OTHERWISE = ({"precision": "fp16"}, {"precision": "bf16"}, {"tiled": True}, {"compile": True})


def test_of_the_decoder_only_what_is_not_float32_whole_and_uncompiled_counts():
    before = _digest({
        "promote": params().promote.model_dump(mode="json", exclude={"sheet_prompts"}),
        "evaluate": params().evaluate.model_dump(
            mode="json", include={"seed", "diffusion_steps", "diffusion_guidance", "decode"}
        ),
    })  # fmt: skip
    assert {params_digest(with_decoder(**settings)) for settings in ALIKE} == {before}
    assert len({before, *(params_digest(with_decoder(**settings)) for settings in OTHERWISE)}) == 1 + len(OTHERWISE)


def test_pictures_of_another_precision_are_drawn_anew_and_those_of_the_same_are_not(made, tmp_path, monkeypatch):
    first = measure(side(made, "eclipse-0.2"), ground(made), params(), tmp_path)
    drawn = []
    monkeypatch.setattr(compare, "_measure", lambda *given: drawn.append(given) or first)
    for settings in ALIKE:
        measure(side(made, "eclipse-0.2"), ground(made), with_decoder(**settings), tmp_path)
    assert not drawn
    measure(side(made, "eclipse-0.2"), ground(made), with_decoder(precision="bf16"), tmp_path)
    assert len(drawn) == 1
    monkeypatch.setattr(compare, "pick", lambda: torch.device("cuda"))
    measure(side(made, "eclipse-0.2"), ground(made), with_decoder(precision="fp32"), tmp_path)
    assert len(drawn) == 1
    measure(side(made, "eclipse-0.2"), ground(made), with_decoder(), tmp_path)  # on a GPU auto is fp16
    assert len(drawn) == 2
    assert params_digest(with_decoder()) == params_digest(params())  # whoever signs may have another machine


def test_the_rule_of_subjects_names_their_scores():
    rule, metric = rule_of(params(categories=["colour", "shape"]).promote, "lambda-eclipse")
    assert metric == "both" and rule.categories == ("subject_colour", "subject_shape", "rest")
    rule, metric = rule_of(params().promote, "eclipse")
    assert metric == "composition" and rule == params().promote
    for wrong in ({"metric": "manifold"}, {"categories": ["colour", "fid"]}):
        with pytest.raises(ConfigError, match="less is better"):
            rule_of(params(**wrong).promote, "eclipse")
