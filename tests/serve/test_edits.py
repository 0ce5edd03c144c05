"""Pictures with one's own subjects and edges: as a form, as JSON, and what is wrong with either."""

from __future__ import annotations

import numpy as np
import pytest
from made_picture import b64, edges_png, pixels, subject_png

PATH = "/v1/images/edits"
PROMPT = "a star left of a heart and a star"
STAR, HEART = subject_png("red"), subject_png("blue")


def form(client, nouns=("star#1", "heart"), images=(STAR, HEART), edges=None, files=(), **fields):
    sent = [("image[]", (f"{i}.png", image, "image/png")) for i, image in enumerate(images)]
    sent += [("edges", ("edges.png", edges, "image/png"))] if edges else []
    return client.post(PATH, data={"prompt": PROMPT, "noun[]": list(nouns), **fields}, files=[*sent, *files])


def json(client, subjects=(("star#1", STAR), ("heart", HEART)), **fields):
    listed = [{"noun": noun, "image": b64(image)} for noun, image in subjects]
    return client.post(PATH, json={"prompt": PROMPT, "subjects": listed, **fields})


def picture(response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return pixels(response.json()["data"][0]["b64_json"])


def error(response) -> dict[str, str]:
    assert response.status_code == 400, response.text
    return response.json()["error"]


class TestPersonalisation:
    def test_form_and_json_are_the_same(self, client):
        edges = edges_png()
        one = form(client, edges=edges, seed="5", n="2", steps="3", guidance="2.5", scheduler="ddim")
        other = json(client, edges=b64(edges), seed=5, n=2, steps=3, guidance=2.5, scheduler="ddim")
        assert one.json()["model"] == other.json()["model"] == "eclipse-prior-lambda-eclipse-mini"
        for mine, yours in zip(one.json()["data"], other.json()["data"], strict=True):
            assert np.array_equal(pixels(mine["b64_json"]), pixels(yours["b64_json"]))
        assert one.json()["usage"]["input_tokens_details"]["image_tokens"] == 3

    def test_every_subject_the_words_and_the_edges_matter(self, client):
        seed = {"seed": 5}
        plain = picture(json(client, **seed))
        for changed in (
            json(client, [("star#1", STAR)], **seed),
            json(client, [("star#2", STAR), ("heart", HEART)], **seed),
            json(client, [("star#1", HEART), ("heart", STAR)], **seed),
            json(client, edges=b64(edges_png()), **seed),
        ):
            assert not np.array_equal(plain, picture(changed))
        assert np.array_equal(plain, picture(json(client, [("heart", HEART), ("star#1", STAR)], **seed)))

    def test_edges_alone_are_enough(self, client):
        assert form(client, (), (), edges=edges_png(), seed="1").status_code == 200

    def test_the_manifest_tells_the_subjects(self, client):
        request = json(client).json()["data"][0]["manifest"]["request"]
        assert [(item["noun"], item["span"]) for item in request["subjects"]] == [("star", [2, 6]), ("heart", [17, 22])]

    def test_field_names_without_brackets_work_too(self, client):
        files = [("image", ("a.png", STAR)), ("image", ("b.jpg", subject_png("blue", kind="JPEG")))]
        answer = client.post(PATH, data={"prompt": PROMPT, "noun": ["star#1", "heart"]}, files=files)
        assert answer.status_code == 200

    def test_a_data_url_is_a_picture_and_not_a_place(self, client):
        subject = {"noun": "heart", "image": f"data:image/png;base64,{b64(HEART)}"}
        assert client.post(PATH, json={"prompt": PROMPT, "subjects": [subject]}).status_code == 200


class TestRefusals:
    @pytest.mark.parametrize(
        ("nouns", "says"),
        [
            (("star", "heart"), "occurs 2 times in the prompt; say which"),
            (("star#3", "heart"), "count from star#1"),
            (("heart", "heart"), "both stand for 'heart'"),
            (("star#1", "moon"), "moon: not in the prompt; it could be a, star"),
            (("star#1",), "1 for 2 image files"),
            (("star#1", "heart", "a"), "3 for 2 image files"),
            (("star#0", "heart"), "pattern"),
            (("star#x", "heart"), "pattern"),
            (("", "heart"), "pattern"),
            (("   ", "heart"), "is empty"),
        ],
    )
    def test_nouns(self, client, nouns, says):
        told = error(form(client, nouns))
        assert says in told["message"] and told["param"].startswith("noun")
        assert "--subject" not in told["message"]

    def test_more_subjects_than_priors_know(self, client):
        prompt = "one two three four five"
        subjects = [{"noun": word, "image": b64(STAR)} for word in prompt.split()]
        told = error(client.post(PATH, json={"prompt": prompt, "subjects": subjects}))
        assert "5 subjects" in told["message"]

    def test_nothing_to_edit_with(self, client):
        assert "at least one subject" in error(json(client, []))["message"]

    def test_a_prior_that_takes_no_subjects(self, client):
        told = error(json(client, model="eclipse-prior-eclipse-mini"))
        assert told["param"] == "model" and "takes no subjects" in told["message"]

    def test_an_address_instead_of_a_picture(self, client):
        for place in ("http://127.0.0.1:1/a.png", "file:///etc/passwd", "/etc/passwd"):
            told = error(client.post(PATH, json={"prompt": PROMPT, "subjects": [{"noun": "heart", "image": place}]}))
            assert told["param"] == "subjects.0.image" and "no URL or path is ever opened" in told["message"]
            told = error(client.post(PATH, data={"prompt": PROMPT, "noun": "heart", "image": place}, files={"x": ""}))

    def test_a_file_where_none_belongs_and_text_where_one_does(self, client):
        assert error(form(client, files=[("prompt", ("p.txt", b"a star"))]))["param"] == "prompt"
        sent = client.post(PATH, data={"prompt": PROMPT, "noun": "heart", "image": "x"}, files={"edges": b"x"})
        assert error(sent)["param"] == "image"

    def test_bad_pictures_are_told_by_their_field(self, client):
        assert error(form(client, images=(STAR, b"GIF89a")))["param"] == "image.1"
        assert error(json(client, [("heart", b"nonsense")]))["param"] == "subjects.0.image"
        large = subject_png(size=1001)
        told = error(form(client, images=(STAR, large)))
        assert told["code"] == "image_too_large" and "at most 1 million" in told["message"]
        assert error(form(client, edges=b"x" * 100))["param"] == "edges"

    @pytest.mark.parametrize(
        ("fields", "param"),
        [({"n": "x"}, "n"), ({"n": "0"}, "n"), ({"guidance": "nan"}, "guidance"), ({"guidance": "inf"}, "guidance"),
         ({"foo": "1"}, "foo"), ({"mask": "1"}, "mask"), ({"subjects": "[]"}, "subjects"), ({"prompt": ""}, "prompt")],
    )  # fmt: skip
    def test_fields_of_a_form(self, client, fields, param):
        assert error(form(client, **fields))["param"] == param

    def test_a_field_given_twice(self, client):
        assert error(form(client, seed=["1", "2"]))["param"] == "seed"

    @pytest.mark.parametrize(
        ("kind", "body", "status"),
        [
            ("text/plain", b"x", 415),
            ("", b"x", 415),
            ("multipart/form-data", b"x", 400),
            ("multipart/form-data; boundary=b", b"--b\r\nbroken", 400),
            ("multipart/form-data; boundary=b", b"", 400),
            ("application/json", b"{", 400),
            ("application/json", b"[]", 400),
            ("application/json", b'{"prompt": NaN}', 400),
            ("application/json", b'{"prompt": "\\ud800"}', 400),
            ("application/json", b"\xff\xfe", 400),
            ("application/json", b"[" * 100_000, 400),
        ],
    )
    def test_broken_bodies(self, client, kind, body, status):
        answer = client.post(PATH, content=body, headers={"Content-Type": kind} if kind else {})
        assert answer.status_code == status, answer.text
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    def test_a_form_of_too_many_parts(self, client):
        sent = [("noun[]", "a")] * 100
        body = (
            "".join(f'--b\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in sent) + "--b--\r\n"
        )
        answer = client.post(PATH, content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert "64" in error(answer)["message"]
