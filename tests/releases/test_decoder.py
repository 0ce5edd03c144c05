import json

import pytest
from huggingface_hub import constants

from eclipse.errors import CheckpointError
from eclipse.files import sha256, tree_digest, write_json
from eclipse.releases.decoder import DecoderReference, locate, pin, read_reference
from eclipse.releases.store import Releases

FILES = (
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "movq/config.json",
    "movq/diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
)
SOURCE, REVISION = "kandinsky-community/kandinsky-2-2-decoder", "0123456789" * 4


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A local cache in Hugging Face's layout: blobs, and a snapshot of links to them."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def fill(cache, *, source=SOURCE, pipeline="KandinskyV22Pipeline", files=FILES):
    """Put a decoder into ``cache``; the reference to it and its snapshot."""
    folder = cache / f"models--{source.replace('/', '--')}"
    snapshot = folder / "snapshots" / REVISION
    for number, name in enumerate(files):
        blob = folder / "blobs" / str(number)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_text(json.dumps({"_class_name": pipeline}) if name == "model_index.json" else f"bytes of {name}")
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    return DecoderReference(source, REVISION, {name: sha256(snapshot / name) for name in files}), snapshot


def test_a_pinned_decoder_is_found_in_the_local_cache(cache):
    reference, snapshot = fill(cache)
    assert locate(reference) == snapshot
    assert reference.digest == tree_digest(snapshot)  # the same name by reference as inside


def test_a_missing_decoder_is_named_with_its_revision(cache):
    reference, _ = fill(cache)
    missing = DecoderReference("kandinsky-community/another", REVISION, reference.files)
    with pytest.raises(CheckpointError, match=f"kandinsky-community/another@{REVISION}: model_index.json is not in"):
        locate(missing)


def test_a_missing_file_is_named(cache):
    reference, snapshot = fill(cache)
    (snapshot / FILES[2]).unlink()
    with pytest.raises(CheckpointError, match=f"{SOURCE}@{REVISION}: {FILES[2]} is not in.*hf download"):
        locate(reference)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused_and_named(cache, name):
    reference, snapshot = fill(cache)
    blob = (snapshot / name).resolve()
    blob.write_text(blob.read_text().replace("s", "S"))
    with pytest.raises(CheckpointError, match=f"{name}: not the file that {SOURCE}@{REVISION} is pinned to"):
        locate(reference)


def test_another_class_of_decoder_is_refused(cache):
    files = ("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors")
    reference, _ = fill(cache, source="some/sd", pipeline="StableDiffusionPipeline", files=files)
    with pytest.raises(CheckpointError, match="some/sd@.*is a StableDiffusionPipeline.*KandinskyPipeline"):
        locate(reference)


@pytest.mark.parametrize("left_out", FILES)
def test_a_reference_has_to_pin_all_that_is_loaded(cache, left_out):
    reference, _ = fill(cache)
    files = {name: digest for name, digest in reference.files.items() if name != left_out}
    with pytest.raises(CheckpointError, match="its files lack"):
        locate(DecoderReference(SOURCE, REVISION, files))


GOOD = {"source": SOURCE, "revision": REVISION, "files": {"model_index.json": "a" * 64}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"revision": "main"}, "write the full commit of kandinsky-community/kandinsky-2-2-decoder"),
        ({"revision": REVISION[:12]}, "40 hexadecimal digits"),
        ({"revision": None}, "40 hexadecimal digits"),
        ({"source": "../../etc"}, "OWNER/NAME"),
        ({"source": "owner/.."}, "OWNER/NAME"),
        ({"files": {}}, "files is empty"),
        ({"files": {"../x": "a" * 64}}, "no path in a repository"),
        ({"files": {"/etc/passwd": "a" * 64}}, "no path in a repository"),
        ({"files": {"a//b": "a" * 64}}, "no path in a repository"),
        ({"files": {"model_index.json": "abc"}}, "model_index.json needs its SHA-256"),
        ({"more": 1}, "nothing else"),
    ],
)
def test_a_wrong_reference_is_refused_by_field(tmp_path, change, message):
    write_json(tmp_path / "decoder.json", {**GOOD, **change})
    with pytest.raises(CheckpointError, match=message):
        read_reference(tmp_path / "decoder.json")


def test_releases_keep_the_reference_instead_of_the_decoder(cache, tmp_path):
    reference, _ = fill(cache)
    (tmp_path / "frozen/clip").mkdir(parents=True)
    (tmp_path / "frozen/clip/weights").write_text("clip")
    write_json(tmp_path / "frozen/decoder.json", {"source": SOURCE, "revision": REVISION, "files": reference.files})
    releases = Releases(tmp_path / "releases")
    folder = releases.frozen(releases.add_frozen(tmp_path / "frozen"))
    assert read_reference(folder / "decoder.json") == reference
    assert sorted(path.name for path in folder.iterdir()) == ["clip", "decoder.json"]


def test_a_decoder_is_pinned_as_it_lies_in_the_cache(cache):
    reference, snapshot = fill(cache, files=(*FILES, "unet/diffusion_pytorch_model.fp16.safetensors"))
    pinned = pin(SOURCE, REVISION)
    assert set(pinned.files) == set(FILES) and locate(pinned) == snapshot
    assert pinned.files == {name: reference.files[name] for name in FILES}
    with pytest.raises(CheckpointError, match="40 hexadecimal digits"):
        pin(SOURCE, "main")
