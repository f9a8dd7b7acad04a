"""Files come by name from a server, are checked, and stay in the cache."""

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scopekit.downloads.remote import RemoteFile, cached, fetch
from scopekit.errors import UserError

CONTENT = b"weights" * 1000


@pytest.fixture
def asked(monkeypatch):
    """The paths that a server at ``server`` was asked for."""
    return []


@pytest.fixture
def server(asked):
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = {"/good": CONTENT, "/other": b"something else"}.get(self.path)
            self.send_response(200 if content else 404)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def file(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PROGRAM_CACHE", str(tmp_path / "cache"))
    digest = hashlib.sha256(CONTENT).hexdigest()
    addresses = (f"{server}/good",)
    return RemoteFile("net", "net.pth", "a net", "https://page", digest, addresses)


def test_a_file_is_fetched_once(file, asked):
    assert cached(file, "program") is None
    path = fetch(file, "program")
    assert path.read_bytes() == CONTENT
    assert fetch(file, "program") == cached(file, "program") == path
    assert asked == ["/good"]


def test_a_damaged_copy_is_fetched_again(file, asked):
    path = fetch(file, "program")
    path.write_bytes(b"half")
    assert fetch(file, "program").read_bytes() == CONTENT
    assert asked == ["/good"] * 2


def test_the_next_address_is_tried(file, server, asked):
    moved = replace(file, addresses=(f"{server}/gone", f"{server}/good"))
    assert fetch(moved, "program").read_bytes() == CONTENT
    assert asked == ["/gone", "/good"]


FAILURES = {
    "gone": "gone does not deliver it (answer 404)",
    "other": "other delivers another file",
}


@pytest.mark.parametrize("place", FAILURES)
def test_what_is_not_delivered_is_one_line_with_the_page(file, server, place):
    with pytest.raises(UserError) as failure:
        fetch(replace(file, addresses=(f"{server}/{place}",)), "program")
    assert FAILURES[place] in str(failure.value)
    assert "get net.pth by hand from https://page and give it as `source=net.pth`" in str(
        failure.value
    )
    assert "\n" not in str(failure.value)
    assert cached(file, "program") is None


def test_no_network_is_one_line(file):
    with pytest.raises(UserError, match=r"does not deliver it \(no connection\); get net\.pth by"):
        fetch(replace(file, addresses=("http://127.0.0.1:9/x",)), "program")


def test_a_copy_is_taken_if_it_is_the_file(file, tmp_path, asked):
    own = tmp_path / "own.pth"
    own.write_bytes(b"another")
    with pytest.raises(UserError, match=r"own\.pth: not net"):
        fetch(file, "program", source=own)
    own.write_bytes(CONTENT)
    assert fetch(file, "program", source=own).read_bytes() == CONTENT
    assert asked == []
    with pytest.raises(UserError, match="no such file"):
        fetch(file, "program", source=tmp_path / "missing.pth")


def test_what_cannot_be_checked_is_not_fetched(file, asked):
    with pytest.raises(UserError, match=r"checksum is not known.*from https://page"):
        fetch(replace(file, sha256=None), "program")
    assert asked == []
