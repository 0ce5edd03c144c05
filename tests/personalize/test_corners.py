import numpy as np
import pytest

from eclipse.data.images import encode_png
from eclipse.errors import ConfigError, DataError
from eclipse.files import sha256
from eclipse.personalize.corners import read_corners

TWO = """
- prompt: a dog in a hat
  subjects: {dog: pictures/dog.png}
- prompt: a cat
  canny: pictures/edges.png
"""

GREY = np.full((16, 16, 3), 128, np.uint8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in ("dog", "edges"):
        (tmp_path / "pictures" / f"{name}.png").write_bytes(encode_png(GREY))
    (tmp_path / "pictures" / "broken.png").write_bytes(b"not a picture")
    return tmp_path


def read(folder, text, **settings):
    (folder / "corners.yaml").write_text(text)
    return read_corners(folder / "corners.yaml", limit=2, **settings)


def test_pictures_are_found_beside_the_file(folder):
    dog, cat = read(folder, TWO)
    assert (dog.prompt, dog.spans, dog.canny) == ("a dog in a hat", ((2, 5),), None)
    assert [(s.name, s.file) for s in dog.subjects] == [("dog", folder / "pictures/dog.png")]
    assert np.array_equal(dog.pictures[0].image, GREY)
    assert (cat.prompt, cat.subjects, cat.canny) == ("a cat", (), folder / "pictures/edges.png")
    assert np.array_equal(cat.control.image, GREY)


def test_captions_name_what_is_used(folder):
    dog, cat = read(folder, TWO)
    assert (dog.caption, cat.caption) == ("a dog in a hat (dog = dog.png)", "a cat (edges = edges.png)")
    assert [corner.caption for corner in read(folder, "[{prompt: a}, {prompt: b}]")] == ["a", "b"]


def test_record_names_files_with_their_hashes(folder):
    dog = read(folder, TWO)[0].record()
    digest = sha256(folder / "pictures/dog.png")
    file = {"file": str(folder / "pictures/dog.png"), "sha256": digest}
    assert dog == {"prompt": "a dog in a hat", "subjects": {"dog": file}, "canny": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{prompt: a}]", "1 corners; give 2 .* or 4"),
        ("[{prompt: a}, {prompt: b}, {prompt: c}]", "3 corners"),
        ("[]", "0 corners"),
        ("prompt: a", "list of 2 or 4 corners"),
        ("", "list of 2 or 4 corners"),
        ("- {prompt: a}\n- just words", "corner 2: 'just words' is no mapping"),
        ("[{prompt: a}, {subjects: {}}]", "corner 2: prompt is missing"),
        ("[{prompt: a}, {prompt: '  '}]", "corner 2: prompt is empty"),
        ("[{prompt: no}, {prompt: b}]", "corner 1: prompt: .*string.*False"),
        ("[{prompt: a, subject: {}}, {prompt: b}]", "corner 1: subject: unknown field; known: prompt, subjects, canny"),
        ("[{prompt: a, subjects: [dog]}, {prompt: b}]", "corner 1: subjects: .*dictionary"),
        ("[{prompt: a, subjects: {dog: 3}}, {prompt: b}]", "corner 1: subjects.dog: .*string.*3"),
        ("[{prompt: a, subjects: {no: dog.png}}, {prompt: b}]", "corner 1: subjects.*string.*False"),
        ("[{prompt: a}, {prompt: b, subjects: {dog: cat.png}}]", "corner 2: subjects.dog: 'cat.png' is no file"),
        ("[{prompt: a}, {prompt: b, canny: pictures}]", "corner 2: canny: 'pictures' is no file"),
        ("- prompt: a\n  subjects: {dog: pictures/dog.png, dog: x.png}\n- prompt: b", "'dog' is written twice.*line 2"),
        ("- prompt: [", "not valid YAML"),
    ],
)
def test_errors_name_file_corner_and_field(folder, text, message):
    with pytest.raises(ConfigError, match=f"corners.yaml: .*{message}") as caught:
        read(folder, text)
    assert "\n" not in str(caught.value)


def test_missing_or_binary_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none.yaml: no such file.*--grid"):
        read_corners(tmp_path / "none.yaml", limit=4)
    (tmp_path / "corners.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_corners(tmp_path / "corners.yaml", limit=4)


@pytest.mark.parametrize(
    ("subjects", "message"),
    [
        ("{cat: pictures/dog.png}", "cat: not in the prompt; it could be a, dog, and, another"),
        ("{dog: pictures/dog.png}", "dog: occurs 2 times.*dog#1 or dog#2"),
        ("{dog#3: pictures/dog.png}", "dog#3: .*occurs 2 times"),
        ("{dog#0: pictures/dog.png}", "after # comes which occurrence"),
        ("{dog#1: pictures/broken.png}", "broken.png: is not a picture"),
        ("{dog#1: pictures/dog.png, dog#2: pictures/dog.png, and: pictures/dog.png}", "3 subjects, but .* up to 2"),
    ],
)
def test_nouns_and_pictures_are_checked_as_for_generate(folder, subjects, message):
    text = f"[{{prompt: a cat}}, {{prompt: a dog and another dog, subjects: {subjects}}}]"
    with pytest.raises(DataError, match=f"corners.yaml: corner 2: .*{message}"):
        read(folder, text)


def test_two_of_a_noun(folder):
    text = "{prompt: a dog and a dog, subjects: {dog#2: pictures/dog.png, dog#1: pictures/edges.png}}"
    corner, _ = read(folder, f"[{text}, {{prompt: b}}]")
    assert corner.spans == ((12, 15), (2, 5))
    request = corner.request(32, seed=5)
    assert [subject.picture.shape for subject in request.subjects] == [(32, 32, 3)] * 2
    assert (request.prompt, request.seeds, request.control) == ("a dog and a dog", (5,), None)


def test_edges_become_a_control_picture_of_the_encoders_size(folder):
    request = read(folder, TWO)[1].request(32, seed=0)
    assert request.control.shape == (32, 32, 3) and not request.control.any()  # an even picture has no edges
