"""A public weight file into the user's cache: resumed where it broke off, checked, complete or not there at all.

The cache is ``$POSECLI_CACHE``, else ``$XDG_CACHE_HOME/posecli``, else ``~/.cache/posecli``; files lie in its folder
``weights``. A file on its way is called ``NAME.part``; beside it ``NAME.part.tag`` keeps what the server calls this
version of the file, so that two versions are never joined (RFC 9110, If-Range).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from posecli import __version__
from posecli.errors import PoseError
from posecli.files import sha256_of
from posecli.zoo.table import Entry

try:
    import fcntl
except ImportError:  # Windows: two downloads of one file at once are not kept apart
    fcntl = None  # type: ignore[assignment]

Progress = Callable[[int, int | None], None]

_BLOCK = 1 << 18
#: Seconds without a byte after which a connection counts as broken.
_TIMEOUT = 30.0
#: Tries without any gain, after and before the first byte.
_TRIES, _TRIES_AT_FIRST = 4, 2


def cache_folder() -> Path:
    """The folder of fetched weights; it may not exist yet."""
    own, shared = os.environ.get("POSECLI_CACHE"), os.environ.get("XDG_CACHE_HOME")
    base = Path(own) if own else (Path(shared) if shared else Path.home() / ".cache") / "posecli"
    return base.expanduser() / "weights"


def local_file(entry: Entry) -> Path:
    """Where the file lies when it is here, fetched or put there by the user."""
    return cache_folder() / entry.file


def fetch(
    entry: Entry,
    *,
    progress: Progress | None = None,
    timeout: float = _TIMEOUT,
    pause: float = 1.0,
) -> Path:
    """The file on this machine: the one in the cache if there is one, else fetched.

    Args:
        entry: which file.
        progress: called with the bytes there are and the bytes there will be (None: the server does not say).
        timeout: seconds without a byte after which the connection counts as broken.
        pause: seconds before a broken connection is taken up again, doubled each time.

    Returns:
        Its path; the hash has been checked, where the publisher gives one.

    Raises:
        PoseError: not readable by our networks, to be fetched with a browser, no network, the server hasn't got it,
            another hash than the publisher's, no room, or another process is fetching it.
    """
    path = local_file(entry)
    if not entry.offered:
        raise PoseError(f"{entry.name} is of no use to posecli: {entry.why}", hint="posecli models lists what is")
    if path.is_file():
        _check(path, entry, "delete it, then fetch it again")
        return path
    if entry.by_hand:
        raise PoseError(
            f"{entry.name} has to be fetched with a browser: open {entry.url} , download {entry.file} and put it at "
            f"{path}",
            hint="or give the file itself with --weights",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with _alone(part, entry):
        if not path.is_file():  # another process may have finished it just before
            _download(entry, part, progress or (lambda done, total: None), timeout, pause)
            _finish(entry, part, path)
    return path


def _finish(entry: Entry, part: Path, path: Path) -> None:
    """Checks the whole file and gives it its name; a wrong one is removed."""
    try:
        _check(part, entry, "the file at the address has changed, or the transfer was tampered with; nothing was kept")
    except PoseError:
        _forget(part)
        raise
    os.replace(part, path)
    _tag_file(part).unlink(missing_ok=True)


def _check(path: Path, entry: Entry, hint: str) -> None:
    if entry.sha256 and not (found := sha256_of(path)).startswith(entry.sha256):
        wanted = f"{entry.sha256}..." if len(entry.sha256) < 64 else entry.sha256
        raise PoseError(
            f"the file is not the published one (SHA-256 {found[: len(entry.sha256)]}..., not {wanted})",
            str(path),
            hint,
        )


@contextlib.contextmanager
def _alone(part: Path, entry: Entry) -> Iterator[None]:
    """Holds a lock while the block runs: two processes must not write one file."""
    lock = part.with_name(part.name + ".lock")
    with open(lock, "w") as handle:
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle.fileno()).st_ino != os.stat(lock).st_ino:
                    raise OSError("removed by the process that had it, and made anew")
        except OSError:
            raise PoseError(f"another process is fetching {entry.name}", str(part), "wait for it") from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _tag_file(part: Path) -> Path:
    return part.with_name(part.name + ".tag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag_file(part).unlink(missing_ok=True)


class _Broken(Exception):
    """The connection ended before the file did."""


def _download(entry: Entry, part: Path, progress: Progress, timeout: float, pause: float) -> None:
    """Fills ``part``; goes on where the last try, or the last run, ended."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _transfer(entry, part, progress, timeout)
            return
        except _Broken as error:
            after = part.stat().st_size if part.exists() else 0
            failures = 1 if after > before else failures + 1
            if failures >= (_TRIES if after else _TRIES_AT_FIRST):
                kept = f"; {after} bytes are kept, the next try goes on from there" if after else ""
                raise PoseError(
                    f"{entry.name} could not be fetched: {error}{kept}", entry.url, _offline(entry)
                ) from None
            time.sleep(pause * 2 ** (failures - 1))


def _transfer(entry: Entry, part: Path, progress: Progress, timeout: float) -> None:
    """One connection; raises `_Broken` when it may be taken up again."""
    have = part.stat().st_size if part.exists() else 0
    tag_file = _tag_file(part)
    tag = tag_file.read_text(encoding="utf-8") if have and tag_file.exists() else ""
    if have and not tag and not entry.sha256:  # nothing would tell that two versions were joined
        part.unlink()
        have = 0
    headers = {"User-Agent": f"posecli/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": tag} if tag else {})
    try:
        answer = urllib.request.urlopen(urllib.request.Request(entry.url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        _refused(entry, part, error)
        return
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _no_connection(entry, error) from None
    with answer:
        if urlsplit(answer.geturl()).scheme not in ("http", "https"):
            raise PoseError("the server leads to something that is no web address", entry.url)
        going_on = have > 0 and answer.status == 206
        if going_on:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != have:
                _forget(part)
                raise _Broken("the server answered with another part of the file than was asked for")
            total = None if found[2] == "*" else int(found[2])
        else:
            have, length = 0, answer.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            # Weak tags do not promise the same bytes: If-Range must not use them.
            new_tag = answer.headers.get("ETag", "")
            new_tag = "" if new_tag.startswith("W/") else new_tag
            tag_file.write_text(new_tag or answer.headers.get("Last-Modified", ""), encoding="utf-8")
        if answer.headers.get_content_type() == "text/html":
            _forget(part)
            raise PoseError(f"{entry.name}: the server sent a web page, not the file", entry.url, _offline(entry))
        with open(part, "ab" if going_on else "wb") as handle:
            _copy(answer, handle, have, total, progress)


def _copy(answer: Any, handle: Any, have: int, total: int | None, progress: Progress) -> None:
    progress(have, total)
    while True:
        try:
            block = answer.read1(_BLOCK)  # what has come, also when no more follows
        except TimeoutError:
            raise _Broken("the server fell silent") from None
        except (http.client.HTTPException, ConnectionError, ssl.SSLError) as error:
            raise _Broken(f"the connection broke ({type(error).__name__})") from None
        if not block:
            break
        handle.write(block)
        have += len(block)
        progress(have, total)
    if total is not None and have < total:
        raise _Broken(f"the connection ended after {have} of {total} bytes")


def _refused(entry: Entry, part: Path, error: urllib.error.HTTPError) -> None:
    """Explains an answer that is not the file; returns when what there is turns out to be all of it."""
    status = error.code
    if status == 416:
        # Asked to go on from the end: either the file is complete, or it has changed.
        size = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if size and part.exists() and int(size[1]) == part.stat().st_size:
            return
        _forget(part)
        raise _Broken("the file at the address has changed")
    if status in (408, 429, 500, 502, 503, 504):
        raise _Broken(f"the server answered {status} {error.reason}")
    what = {404: "is not there any more", 410: "is not there any more", 401: "wants a login", 403: "is not given out"}
    raise PoseError(
        f"{entry.name} {what.get(status, 'could not be fetched')} (the server answered {status} {error.reason})",
        entry.url,
        _offline(entry),
    )


def _no_connection(entry: Entry, error: Exception) -> Exception:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return PoseError(
            f"the server's certificate is not trusted ({reason.verify_message})", entry.url, _offline(entry)
        )
    if isinstance(reason, (TimeoutError, ConnectionError, http.client.HTTPException)) and not isinstance(
        reason, ConnectionRefusedError
    ):
        return _Broken(f"no answer ({type(reason).__name__})")
    return PoseError(f"no network, or the server cannot be reached ({reason})", entry.url, _offline(entry))


def _offline(entry: Entry) -> str:
    return f"or put the file {entry.file} at {local_file(entry)}"
