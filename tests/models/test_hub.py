import http.server
import json
import threading
from typing import ClassVar

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import build_hf_headers
from made_cache import REVISION, put

from eclipse.errors import CheckpointError
from eclipse.models.hub import fetch, is_local, listing

REPO = "kandinsky-community/kandinsky-2-2-prior"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model/prior").mkdir(parents=True)
    (tmp_path / "model/model_index.json").write_text("{}")
    (tmp_path / "model/prior/config.json").write_text('{"a": 1}')
    return tmp_path / "model"


def test_a_file_is_found_in_the_cache_without_a_network(cache, folder):
    snapshot = put(cache, REPO, folder)
    assert fetch(REPO, REVISION, "prior/config.json") == snapshot / "prior/config.json"
    assert listing(REPO, REVISION) == ["model_index.json", "prior/config.json"]


def test_a_folder_is_its_own_repository(cache, folder):
    assert fetch(str(folder), None, "prior/config.json") == folder / "prior/config.json"
    assert listing(str(folder), None) == ["model_index.json", "prior/config.json"]
    with pytest.raises(CheckpointError, match=f"has no revision; leave {REVISION} out"):
        fetch(str(folder), REVISION, "model_index.json")
    with pytest.raises(CheckpointError, match=r"model/prior/other\.json: no such file"):
        fetch(str(folder), None, "prior/other.json")


@pytest.mark.parametrize(
    "ask", [lambda: fetch(REPO, REVISION, "prior/model.safetensors"), lambda: listing(REPO, REVISION)]
)
def test_what_is_missing_is_named_with_what_to_run(cache, ask):
    with pytest.raises(CheckpointError) as error:
        ask()
    message = str(error.value)
    assert f"{REPO}@{REVISION}" in message and str(cache) in message
    assert f"hf download {REPO}" in message and f"--revision {REVISION}" in message
    assert "\n" not in message


def test_the_missing_file_is_part_of_the_command(cache):
    with pytest.raises(CheckpointError, match=rf"hf download {REPO} prior/x\.json --revision {REVISION}"):
        fetch(REPO, REVISION, "prior/x.json")


@pytest.mark.parametrize("revision", [None, "main", "0123456", REVISION.upper().replace("0", "A"), ""])
def test_a_revision_that_may_move_is_refused(cache, revision):
    with pytest.raises(CheckpointError, match="may move; write the full commit"):
        fetch(REPO, revision, "model_index.json")


def test_a_missing_revision_is_told_with_where_it_is_shown(cache):
    with pytest.raises(CheckpointError) as error:
        is_local(REPO, None, again=f"hf download {REPO} --revision ")
    assert f"https://huggingface.co/{REPO}/commits/main" in str(error.value)
    assert str(error.value).endswith(f": hf download {REPO} --revision COMMIT")


@pytest.mark.parametrize("repo", ["nothing/../there", "a/b/c", "/no/such/folder", "https://huggingface.co/a/b", ""])
def test_neither_folder_nor_repository(cache, repo, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="neither a folder nor a repository"):
        is_local(repo, REVISION)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a//b", "", "a/../b", "."])
def test_a_name_cannot_leave_the_repository(cache, folder, name):
    with pytest.raises(CheckpointError, match="no path in a repository"):
        fetch(str(folder), None, name)


class _Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for one repository of one file, for one that is gated and for none."""

    seen: ClassVar[list[str | None]] = []

    def do_HEAD(self):
        self._answer(b"")

    def do_GET(self):
        self._answer(b"hello")

    def _answer(self, body):
        self.seen.append(self.headers.get("Authorization"))
        if "/gated/" in self.path:
            self._refuse(403, "GatedRepo")
            return
        if "/missing/" in self.path:
            self._refuse(404, "RepoNotFound")
            return
        if self.path.startswith("/api/models/"):
            body = json.dumps([{"type": "file", "path": "a.txt", "oid": "1" * 40, "size": 5}]).encode()
            if "/tree/" not in self.path:
                body = json.dumps({"id": "some/model", "sha": REVISION, "siblings": [{"rfilename": "a.txt"}]}).encode()
        elif not self.path.endswith("/a.txt"):
            self._refuse(404, "EntryNotFound")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if body else 5))
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", '"abc"')
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(cache, monkeypatch):
    """The hub's part of the protocol on loopback, and a token in the environment."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    _Hub.seen.clear()
    yield server
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_with_the_environments_token(hub, cache):
    path = fetch("some/model", REVISION, "a.txt")
    assert path.read_text() == "hello" and cache in path.parents
    assert "Bearer hf_verysecret" in _Hub.seen


def test_a_token_file_is_not_read(hub, cache, monkeypatch):
    """What `hf auth login` left on this machine stays there, whatever is asked for."""
    cache.mkdir(exist_ok=True)
    (cache / "token").write_text("hf_ofthefile")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    assert build_hf_headers()["authorization"] == "Bearer hf_ofthefile", "huggingface_hub itself would send it"
    assert fetch("some/model", REVISION, "a.txt").read_text() == "hello"
    assert listing("some/model", REVISION) == ["a.txt"]
    with pytest.raises(CheckpointError, match="accepted"):
        listing("gated/model", REVISION)
    assert len(_Hub.seen) >= 3 and set(_Hub.seen) == {None}


def test_no_token_is_sent_where_that_is_switched_off(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    fetch("some/model", REVISION, "a.txt")
    assert set(_Hub.seen) == {None}


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_the_list_is_asked_for_with_the_environments_token(hub, monkeypatch, name):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv(name, " hf_other\n")
    listing("some/model", REVISION)
    assert set(_Hub.seen) == {"Bearer hf_other"}


@pytest.mark.parametrize(
    ("repo", "name", "reason"),
    [
        ("gated/model", "a.txt", "accepted"),
        ("missing/model", "a.txt", "no such repository"),
        ("some/model", "b.txt", "no such file at this commit"),
    ],
)
def test_a_refusal_has_its_reason_and_no_token(hub, repo, name, reason):
    with pytest.raises(CheckpointError, match=reason) as error:
        fetch(repo, REVISION, name)
    assert repo in str(error.value) and "verysecret" not in str(error.value)


def test_a_token_in_a_librarys_message_is_hidden(cache, monkeypatch):
    def leak(*_, **__):
        raise OSError("cannot send hf_verysecret")

    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", leak)
    with pytest.raises(CheckpointError, match="cannot send …"):
        fetch(REPO, REVISION, "a.txt")


def test_the_hubs_own_list_is_asked_for(hub):
    assert listing("some/model", REVISION) == ["a.txt"]


def test_an_unreachable_hub_names_what_is_missing(hub, monkeypatch):
    hub.shutdown()
    hub.server_close()
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # between its tries
    with pytest.raises(CheckpointError, match=f"some/model@{REVISION}: a.txt is not in .* cannot be fetched"):
        fetch("some/model", REVISION, "a.txt")
