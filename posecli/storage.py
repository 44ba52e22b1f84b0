"""Files that stand elsewhere: object storage, memory, remote machines, under URLs that fsspec knows (``s3://``, ``gs://``).

FFmpeg, OpenCV and the readers of labels want files, so what is read is copied here first (a video at a time, and gone
when it is closed) and what is written is written here and handed over when it is complete. Nothing half-written
stands under a final name: an object of S3 appears whole; elsewhere a file goes under a hidden name and is renamed.

What FFmpeg reads by itself (``http://``, ``rtsp://``) stays with it. ``file://`` is a path. fsspec:
https://filesystem-spec.readthedocs.io.
"""

from __future__ import annotations

import atexit
import contextlib
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posecli.errors import MissingExtra, PoseError, reason
from posecli.files import inside, replace_when_done

__all__ = ["Storage", "StorageFailure", "current", "is_stored", "kept_copy", "plain", "stored_names", "using"]

# Of fsspec's protocols those that hold files of a user; the rest is FFmpeg's (http, ftp) or wraps other files.
_PROTOCOLS = frozenset(
    "s3 s3a gs gcs az abfs abfss adl oss oci tos hdfs webhdfs arrow_hdfs sftp ssh smb webdav dbfs hf memory".split()
)
# Here a file appears when the last byte has come, or not at all.
_WHOLE = frozenset("s3 s3a gs gcs az abfs abfss oss oci tos".split())


def plain(text: str) -> str:
    """A path: of ``file:///a/b`` it is ``/a/b``; a URL that went through `Path` (``s3:/a/b``) has its slashes again."""
    scheme, colon, rest = text.partition(":/")
    if not colon or not rest or not scheme.isascii() or not scheme.replace("_", "").isalnum():
        return text
    if scheme in ("file", "local"):
        return "/" + rest.lstrip("/")
    if scheme in _PROTOCOLS and not rest.startswith("/"):
        return f"{scheme}://{rest}"
    return text


def is_stored(text: str) -> bool:
    """Whether a word names files that are reached through fsspec."""
    scheme, mark, rest = text.partition("://")
    return bool(mark) and bool(rest) and scheme in _PROTOCOLS


class StorageFailure(PoseError):
    """The storage, not a file on it."""


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Errors of storage as ours. Each kind of storage has classes of its own, so all of them are meant."""
    try:
        yield
    except PoseError:
        raise
    except FileNotFoundError:
        raise PoseError("no such file or folder", url) from None
    except ImportError as error:
        scheme = url.partition("://")[0]
        if scheme in ("s3", "s3a") or error.name == "fsspec":
            raise MissingExtra(error.name or "s3fs", "remote", url) from None
        raise PoseError(str(error).splitlines()[0], url, "pip install what fsspec asks for") from None
    except Exception as error:
        lines = reason(error).splitlines()
        raise StorageFailure(f"the storage failed: {lines[0] if lines else type(error).__name__}", url) from error


def _filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, with nothing remembered of what others may have changed, and the path in it."""
    import fsspec

    files, place = fsspec.core.url_to_fs(url)
    files.invalidate_cache()
    return files, place


def stored_names(url: str) -> list[str]:
    """The files that a URL means, as URLs: itself, all below a folder (hidden ones left out), what a glob matches.

    Raises:
        PoseError: nothing there, the storage can't be reached.
    """
    url = url.rstrip("/")
    with _told(url):
        files, place = _filesystem(url)
        before = url.removesuffix(place) if url.endswith(place) else url.partition("://")[0] + "://"
        if any(c in place for c in "*?["):
            found = sorted(f for f in files.glob(place) if not files.isdir(f))
            if not found:
                raise PoseError("nothing matches", url)
        elif files.isfile(place):
            return [url]
        else:
            base = place.rstrip("/") + "/"
            below = (f for f in files.find(place) if f.startswith(base))
            found = sorted(f for f in below if not any(p.startswith(".") for p in f[len(base) :].split("/")))
            if not found:
                raise PoseError("no such file or folder", url)
        return [before + f for f in found]


@dataclass(frozen=True)
class Storage:
    """Stand-ins on this machine for what has URLs: `root`/``s3/bucket/key`` for ``s3://bucket/key``, so that names
    relative to each other stay so. Small enough to travel to workers on other machines."""

    root: Path

    def stand_in(self, url: str) -> Path:
        """Where the copy of a URL stands, whether it is there or not."""
        scheme, _, rest = url.partition("://")
        return inside(self.root / scheme, rest, url)

    def owns(self, path: str | Path) -> bool:
        """Whether a path is a stand-in."""
        return Path(path).is_relative_to(self.root)

    def url(self, path: str | Path) -> str:
        """The URL that a path stands in for."""
        scheme, *parts = Path(path).relative_to(self.root).parts
        return f"{scheme}://{'/'.join(parts)}"

    def said(self, text: str) -> str:
        """A text in which stand-ins have their URLs again."""
        return re.sub(re.escape(str(self.root)) + r"/([a-z0-9_]+)/", r"\1://", text)

    def exists(self, url: str) -> bool:
        """Whether there is a file or (files of) a folder."""
        with _told(url):
            files, place = _filesystem(url)
            return bool(files.isfile(place) or (files.exists(place) and files.find(place)))

    def fetch(self, url: str) -> Path:
        """Copies a file, or all files of a folder, to the stand-in; PoseError when there is nothing."""
        for name in stored_names(url):
            with _told(name), replace_when_done(self.stand_in(name)) as part:
                files, there = _filesystem(name)
                files.get_file(there, str(part))
        return self.stand_in(url)

    def send(self, path: str | Path, *, keep: bool = False) -> None:
        """Hands over a file or all files of a folder; each is there when it is complete. Stand-ins go unless kept."""
        path = Path(path)
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            if any(part.startswith(".") for part in file.relative_to(self.root).parts):
                continue  # something unfinished
            url = self.url(file)
            with _told(url):
                files, place = _filesystem(url)
                folder, _, name = place.rpartition("/")
                if url.partition("://")[0] in _WHOLE:
                    files.put_file(str(file), place)
                else:
                    files.makedirs(folder, exist_ok=True)
                    hidden = f"{folder}/.{name}.part"
                    files.put_file(str(file), hidden)
                    if files.exists(place):
                        files.rm_file(place)
                    files.mv(hidden, place)
            if not keep:
                file.unlink()

    def remove(self, url: str) -> None:
        """Removes a folder's files, if there are any."""
        if self.exists(url):
            with _told(url):
                files, place = _filesystem(url)
                files.rm(place, recursive=True)


_current: ContextVar[Storage | None] = ContextVar("storage", default=None)


def current() -> Storage | None:
    """The storage that the verb under way writes to; None where all is on this machine."""
    return _current.get()


@contextlib.contextmanager
def using() -> Iterator[Storage]:
    """A storage with an empty folder of stand-ins, `current` inside; the folder goes at the end."""
    with tempfile.TemporaryDirectory(prefix="posecli-storage-") as folder:
        storage = Storage(Path(folder))
        token = _current.set(storage)
        try:
            yield storage
        finally:
            _current.reset(token)


class _Kept:
    """Copies of what is being read, and the one read last: the segments of a video come one after the other."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.folders: dict[tuple[str, str], tuple[Path, int]] = {}  # URL and version: folder, readers
        atexit.register(self.clear)

    def take(self, url: str) -> tuple[tuple[str, str], Path]:
        with _told(url):
            files, place = _filesystem(url)
            if not files.isfile(place):
                raise FileNotFoundError(url)
            key = url, str(files.ukey(place))
        with self.lock:
            for old in [k for k, (_, readers) in self.folders.items() if not readers and k != key]:
                shutil.rmtree(self.folders.pop(old)[0], ignore_errors=True)
            if key not in self.folders:
                folder = Path(tempfile.mkdtemp(prefix="posecli-copy-"))
                try:
                    with _told(url):
                        files.get_file(place, str(folder / place.rpartition("/")[2]))
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
                self.folders[key] = folder, 0
            folder, readers = self.folders[key]
            self.folders[key] = folder, readers + 1
        return key, folder / place.rpartition("/")[2]

    def give_back(self, key: tuple[str, str]) -> None:
        with self.lock:
            folder, readers = self.folders[key]
            self.folders[key] = folder, readers - 1

    def clear(self) -> None:
        for folder, _ in self.folders.values():
            shutil.rmtree(folder, ignore_errors=True)
        self.folders.clear()


_kept = _Kept()


@contextlib.contextmanager
def kept_copy(url: str) -> Iterator[Path]:
    """A copy of a file for as long as the block lasts, and until another file is asked for; its name stays.

    Raises:
        PoseError: nothing there, the storage can't be reached.
    """
    key, path = _kept.take(url)
    try:
        yield path
    finally:
        _kept.give_back(key)
