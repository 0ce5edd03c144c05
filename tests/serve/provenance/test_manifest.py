"""What a manifest holds, and that it reads back as it was written."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_manifests import (
    AT,
    COMMIT,
    DECODER,
    DRAWING,
    ENCODER,
    NAME,
    PRIOR,
    made_drawn,
    made_manifest,
    made_prompt,
    made_served,
    noise,
)

from eclipse.config.decoder import DecoderParams
from eclipse.config.serve import ServeParams
from eclipse.errors import DataError
from eclipse.serve.provenance.canonical import canonical, parse_manifest, pixels_hash
from eclipse.serve.provenance.identity import Identity, compute
from eclipse.serve.provenance.manifest import manifest
from eclipse.serve.provenance.told import tell_compute
from eclipse.serve.types import Blend, Drawing, Prompt, Wanted


def test_the_hash_of_pixels_is_over_shape_and_bytes():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert pixels_hash(image) == hashlib.sha256(b"2x2x3" + bytes(range(12))).hexdigest()
    assert pixels_hash(image.reshape(4, 1, 3)) != pixels_hash(image)
    assert pixels_hash(np.asfortranarray(image)) == pixels_hash(image)


def test_it_tells_what_was_asked_made_and_by_whom():
    made = made_manifest(made_prompt(edges=True))
    assert made["schema"] == "eclipse.manifest/1"
    assert made["created"] == "2026-01-02T03:04:05.000+00:00"
    assert made["image"] == {"sha256": pixels_hash(noise()), "height": 16, "width": 24}
    assert made["request"] == {
        "prompt": "a red star left of a blue heart",
        "subjects": [{"noun": "star", "span": [6, 10], "sha256": pixels_hash(noise(1, 8, 8))}],
        "control": pixels_hash(noise(2, 8, 8)),
        "blend": None,
        "model": NAME,
        "negative_prompt": "",
        "seed": 7,
        "steps": 15,
        "scheduler": "dpm++",
        "guidance": 3.0,
        "height": 16,
        "width": 24,
    }
    assert made["prior"] == {
        "hash": PRIOR,
        "variant": "eclipse",
        "role": "champion",
        "release": "sequence-7",
        "registered": {"name": NAME, "version": "3"},
    }
    assert made["frozen"] == {"encoder_hash": ENCODER, "decoder_hash": DECODER}
    assert made["training"] == {"method": "eclipse", "point": "eclipse-0.2", "lam": 0.2, "seed": 0, "steps": 400}
    assert made["data"] == {
        "dataset_digest": "d" * 64,
        "store_hash": "5" * 64,
        "dvc_lock": "6" * 64,
        "commit": COMMIT,
    }
    assert made["service"]["name"] == "eclipse-priors"
    assert made["compute"]["slots"] == ServeParams().slots


def test_a_blend_tells_both_prompts_and_the_point_between():
    request = made_manifest(Blend(made_prompt(), Prompt("a green disc"), 0.25))["request"]
    blend = request["blend"]
    assert (request["prompt"], request["subjects"], request["control"]) == (None, [], None)
    assert (blend["at"], blend["mode"]) == (0.25, "slerp")
    assert blend["first"]["subjects"][0]["noun"] == "star"
    assert blend["second"] == {"prompt": "a green disc", "subjects": [], "control": None}


def test_what_is_not_known_of_a_prior_is_null():
    names = ("lam", "eclipse.git.commit", "registered.version", "train_params.steps")
    made = made_manifest(served=made_served(**dict.fromkeys(names)))
    assert made["prior"]["registered"] is None
    assert (made["training"]["lam"], made["training"]["steps"], made["data"]["commit"]) == (None, None, None)


def test_a_lineage_that_nobody_writes_is_named():
    with pytest.raises(DataError, match=r"prior: lineage: commit: .*; register it again"):
        made_manifest(served=made_served(**{"eclipse.git.commit": "main"}))


def test_a_server_knows_its_earlier_priors_after_a_switch_and_no_others():
    before = Identity.of(made_served(), ServeParams())
    served = made_served()
    newer = served.priors[0].__class__(NAME, "eclipse", "champion", "9" * 64, served.priors[0].folder, "4", {})
    after = before.knowing(served.__class__((newer,), *list(vars(served).values())[1:-1], "sequence-8"))
    assert after.origin(PRIOR).prior.release == "sequence-7"
    assert after.origin("9" * 64).prior.release == "sequence-8"
    with pytest.raises(DataError, match="none of this server's"):
        before.origin("9" * 64)


def test_equal_bits_depend_on_the_parameters_of_the_batches_too():
    assert compute(ServeParams(slots=2, exact=False)) != compute(ServeParams())
    assert compute(ServeParams()) == compute(ServeParams())


def test_the_decoders_precision_is_told_where_it_is_not_fp32():
    for precision in ("auto", "fp32", "bf16"):  # auto is fp32 on a CPU
        identity = Identity.of(made_served(), ServeParams(), DecoderParams(precision=precision))
        made = manifest(made_drawn(), Wanted(made_prompt(), 7), DRAWING, identity, created=AT)
        read, said = parse_manifest(canonical(made), "x")
        assert read == made and said.compute.precision == identity.compute.precision
        assert made["compute"].get("precision") == ("bf16" if precision == "bf16" else None)
        assert ("decoder in bf16" in tell_compute(said.compute)) == (precision == "bf16")


@given(st.text(), st.text(), st.integers(0, 2**63 - 1), st.floats(0, 20), st.floats(0, 1))
def test_any_unicode_request_reads_back_as_it_was(text, negative, seed, guidance, at):
    drawing = Drawing(15, "dpm++", guidance, 16, 24, negative)
    wanted = Wanted(Blend(Prompt(text), Prompt(negative), at, "linear"), seed)
    made = manifest(made_drawn(), wanted, drawing, Identity.of(made_served(), ServeParams()), created=AT)
    content = canonical(made)
    read, said = parse_manifest(content, "x")
    assert read == made == json.loads(content)
    assert [shown.prompt for shown in said.request.shown] == [text, negative]
    assert (said.request.seed, said.request.guidance, said.request.blend.at) == (seed, guidance, at)


def test_a_text_that_is_no_unicode_is_refused():
    with pytest.raises(DataError, match="cannot be written as JSON"):
        made_manifest(Prompt("a \ud800 star"))


CONTENT = canonical(made_manifest())


@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found(at, change):
    changed = bytearray(CONTENT)
    changed[at] ^= change
    with pytest.raises(DataError):
        parse_manifest(bytes(changed), "x")


def _with_new_digest(change):
    value = made_manifest()
    del value["digest"]
    change(value)
    return canonical({**value, "digest": hashlib.sha256(canonical(value)).hexdigest()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.update(schema="eclipse.manifest/2"), "schema 'eclipse.manifest/2'"),
        (lambda value: value.update(more=1), "more: Extra inputs"),
        (lambda value: value.pop("data"), "data: Field required"),
        (lambda value: value["request"].update(seed="7"), r"request\.seed"),
        (lambda value: value["request"].update(prompt=None), "either a prompt with its pictures or a blend"),
        (lambda value: value["data"].update(commit="--output=x"), r"data\.commit"),
        (lambda value: value["prior"].update(hash="../../x"), r"prior\.hash"),
    ],
)
def test_another_schema_is_refused_though_its_digest_holds(change, message):
    with pytest.raises(DataError, match=message):
        parse_manifest(_with_new_digest(change), "x")


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b'{"a":NaN}', b"\xff", b"[" * 100_000, b'{"digest":1}'])
def test_what_is_no_manifest_is_refused(content):
    with pytest.raises(DataError, match="^x: its manifest"):
        parse_manifest(content, "x")


def test_equal_content_in_another_form_is_refused():
    with pytest.raises(DataError, match="it was changed"):
        parse_manifest(json.dumps(made_manifest(), indent=1).encode(), "x")
