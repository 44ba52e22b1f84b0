"""Fetching from a local server that answers well, badly, slowly, half or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from posecli.errors import PoseError
from posecli.zoo import Entry, cache_folder, entries, fetch, local_file

CONTENT = bytes(range(256)) * 2000
HASH = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Answers by the request's path; notes what was asked."""

    def __init__(self) -> None:
        self.ranges: list[str | None] = []
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        kind, wanted = request.path.strip("/"), request.headers.get("Range")
        self.ranges.append(wanted)
        if kind in ("404", "403", "503"):
            request.send_error(int(kind))
            return
        if kind == "page":
            body = b"<html>Please log in</html>"
            request.send_response(200)
            request.send_header("Content-Type", "text/html; charset=utf-8")
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)
            return
        tag = '"second"' if kind == "changed" and len(self.ranges) > 1 else '"first"'
        start, status = 0, 200
        if wanted and kind != "no-range" and request.headers.get("If-Range", tag) == tag:
            start, status = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
        if start >= len(CONTENT):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = CONTENT[start:]
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Content-Type", "application/octet-stream")
        request.send_header("ETag", tag)
        if status == 206:
            request.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        request.end_headers()
        first = len(self.ranges) == 1
        if kind == "cut-always" or (kind in ("cut", "no-range", "changed") and first):
            body = body[: 1000 if kind == "cut-always" else 200_000]
            request.close_connection = True
        if kind == "slow":
            request.wfile.write(body[: 300_000 if first else 0])
            request.wfile.flush()
            self.release.wait(20)
            return
        request.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSECLI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


def entry(server: Server, kind: str, sha256: str = HASH[:8]) -> Entry:
    offered = next(e for e in entries() if e.offered)
    return dataclasses.replace(offered, name="made", url=f"{server.url}/{kind}", file="made.pth", sha256=sha256)


def left_over(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.iterdir())


def test_good(server: Server, cache: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(entry(server, "good"), progress=lambda done, total: seen.append((done, total)))
    assert path == cache / "made.pth" and path.read_bytes() == CONTENT
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))
    assert left_over(cache) == ["made.pth"]
    assert fetch(entry(server, "404")) == path  # it is here: nothing is asked for
    assert server.ranges == [None]


@pytest.mark.parametrize("sha256", [HASH[:8], HASH, ""])
def test_broken_connection_is_taken_up_again(server: Server, cache: Path, sha256: str) -> None:
    path = fetch(entry(server, "cut", sha256), pause=0.01)
    assert path.read_bytes() == CONTENT and left_over(cache) == ["made.pth"]
    assert server.ranges == [None, "bytes=200000-"]


def test_server_without_ranges_starts_over(server: Server, cache: Path) -> None:
    assert fetch(entry(server, "no-range"), pause=0.01).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=200000-"]


def test_two_versions_are_never_joined(server: Server, cache: Path) -> None:
    # The second answer is of another version: the server sends all of it.
    assert fetch(entry(server, "changed", ""), pause=0.01).read_bytes() == CONTENT


def test_silent_server(server: Server, cache: Path) -> None:
    with pytest.raises(PoseError, match=r"fell silent; \d+ bytes are kept.*or put the file made.pth at"):
        fetch(entry(server, "slow"), timeout=0.2, pause=0.01)
    kept = (cache / "made.pth.part").stat().st_size
    assert kept == 300_000 and not (cache / "made.pth").exists()
    server.ranges.clear()
    assert fetch(entry(server, "good"), pause=0.01).read_bytes() == CONTENT  # another run goes on
    assert server.ranges == [f"bytes={kept}-"]


def test_never_more_than_a_little(server: Server, cache: Path) -> None:
    """Each try brings a thousand bytes: it ends, for each try gains something."""
    small = entry(server, "cut-always")
    assert fetch(small, pause=0).read_bytes() == CONTENT
    assert len(server.ranges) == -(-len(CONTENT) // 1000)


def test_whole_part_of_an_interrupted_run(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "made.pth.part").write_bytes(CONTENT)
    (cache / "made.pth.part.tag").write_text('"first"')
    assert fetch(entry(server, "good")).read_bytes() == CONTENT
    assert left_over(cache) == ["made.pth"]


def test_wrong_hash_is_thrown_away(server: Server, cache: Path) -> None:
    with pytest.raises(PoseError, match=rf"SHA-256 {HASH[:8]}\.\.\., not 01234567\.\.\."):
        fetch(entry(server, "good", "01234567"))
    assert left_over(cache) == []


def test_damaged_file_in_the_cache(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "made.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(PoseError, match=r"made\.pth: the file is not the published one.*delete it"):
        fetch(entry(server, "good"))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("404", "made is not there any more .*404"),
        ("403", "made is not given out .*403"),
        ("503", "made could not be fetched: the server answered 503"),
        ("page", "sent a web page, not the file"),
    ],
)
def test_answers_that_are_no_file(server: Server, cache: Path, kind: str, message: str) -> None:
    with pytest.raises(PoseError, match=message):
        fetch(entry(server, kind), pause=0.01)
    assert left_over(cache) == []


def test_no_network(server: Server, cache: Path) -> None:
    unreachable = dataclasses.replace(entry(server, "good"), url="http://127.0.0.1:1/made.pth")
    with pytest.raises(PoseError, match=r"no network, or the server cannot be reached.*put the file made\.pth at"):
        fetch(unreachable, pause=0.01)


def test_two_at_once(server: Server, cache: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    cache.mkdir(parents=True)
    with open(cache / "made.pth.part.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(PoseError, match="another process is fetching made"):
            fetch(entry(server, "good"))


def test_by_hand_says_where_to_go_and_where_to_put_it(cache: Path) -> None:
    for release in (e for e in entries() if e.offered and e.by_hand):
        with pytest.raises(PoseError) as caught:
            fetch(release)
        for part in (release.url, release.file, str(cache / release.file), "browser"):
            assert part in str(caught.value)
        local_file(release).parent.mkdir(parents=True, exist_ok=True)
        local_file(release).write_bytes(b"put there by the user")
        assert fetch(release) == local_file(release)  # the publisher gives no hash


def test_what_is_not_offered_is_not_fetched(cache: Path) -> None:
    refused = next(e for e in entries() if e.family == "YOLO-pose")
    with pytest.raises(PoseError, match="of no use to posecli"):
        fetch(refused)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("POSECLI_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "posecli" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/posecli/weights")
