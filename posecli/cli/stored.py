"""Verbs whose files have URLs: read from copies, written to copies that are handed over when they are complete."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from posecli.infer_jobs import Job, Summary
    from posecli.storage import Storage

Verb = TypeVar("Verb", bound=Callable[..., None])


def through_storage(
    reads: Sequence[str] = (),
    writes: Sequence[str] = (),
    *,
    checked: bool = True,
    check: Callable[[dict[str, Any]], None] = lambda given: None,
) -> Callable[[Verb], Verb]:
    """Lets options of a verb name storage (`posecli.storage`).

    The verb gets paths of copies and knows of no storage; what it says names the URLs. When it ends without an error
    what it wrote is handed over, files named by ``writes`` last.

    Args:
        reads: parameters (words, paths or lists of them) that are copied here before.
        writes: parameters whose files are handed over.
        checked: outputs that exist are refused here without ``--overwrite``, and with ``--resume`` copied here; else
            the verb sees to that.
        check: given the arguments as they were, raises UsageError for what can't be.
    """

    def wrap(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def run(**given: Any) -> None:
            # Only then is fsspec imported.
            if not any("://" in word or ":/" in word for name in (*reads, *writes) for word in _words(given[name])):
                verb(**given)
                return
            _run(verb, given, reads, writes, checked, check)

        return run  # type: ignore[return-value]

    return wrap


def _words(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(v) for v in value] if isinstance(value, list) else [str(value)]


def _run(
    verb: Callable[..., None],
    given: dict[str, Any],
    reads: Sequence[str],
    writes: Sequence[str],
    checked: bool,
    check: Callable[[dict[str, Any]], None],
) -> None:
    import contextlib
    import sys

    from posecli.errors import PoseError
    from posecli.storage import is_stored, plain, using

    def each(value: Any, change: Callable[[str], Any]) -> Any:
        if isinstance(value, list):
            return [each(v, change) for v in value]
        if value is None:
            return None
        word = plain(str(value))
        return type(value)(change(word) if is_stored(word) else word)

    plainly = {name: each(given[name], str) for name in (*reads, *writes)}
    check({**given, **plainly})
    with using() as storage:

        def taken(url: str) -> Path:
            place = storage.stand_in(url)
            if checked and not given.get("overwrite") and storage.exists(url):
                if not given.get("resume"):
                    raise PoseError("the output exists already", url, "choose another name or give --overwrite")
                storage.fetch(url)
            place.parent.mkdir(parents=True, exist_ok=True)
            return place

        changed = {name: each(plainly[name], taken) for name in writes}
        changed |= {name: each(plainly[name], storage.fetch) for name in reads}
        before = {p: p.stat().st_ino for p in _files(storage)}
        with (
            contextlib.redirect_stdout(_Said(sys.stdout, storage)),  # type: ignore[type-var]
            contextlib.redirect_stderr(_Said(sys.stderr, storage)),  # type: ignore[type-var]
        ):
            try:
                verb(**{**given, **changed})
            except PoseError as error:
                error.what, error.where, error.hint = (storage.said(t) for t in (error.what, error.where, error.hint))
                raise
            except OSError as error:
                error.filename = error.filename and storage.said(str(error.filename))
                raise
        named = {Path(place) for name in writes for place in _words(changed[name])}
        written = [p for p in _files(storage) if before.get(p) != p.stat().st_ino]
        for path in sorted(written, key=lambda p: (p in named, p)):
            storage.send(path)


def _files(storage: Storage) -> Iterator[Path]:
    return (p for p in storage.root.rglob("*") if p.is_file())


class _Said:
    """A text stream that names URLs where a verb names their stand-ins."""

    def __init__(self, stream: Any, storage: Storage) -> None:
        self._stream, self._storage = stream, storage

    def write(self, text: str) -> int:
        self._stream.write(self._storage.said(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def is_there(place: str) -> bool:
    """Whether an output exists, here or where it stands in for."""
    from posecli.storage import current

    storage = current()
    return Path(place).exists() or (storage is not None and storage.owns(place) and storage.exists(storage.url(place)))


def jobs_left(jobs: Sequence[Job], *, overwrite: bool, resume: bool) -> list[Job]:
    """The jobs whose streams do not stand on storage yet; all, where outputs are on this machine.

    Raises:
        PoseError: an output is there, and neither ``overwrite`` nor ``resume`` is given.
    """
    from posecli.errors import PoseError
    from posecli.storage import current

    storage = current()
    if storage is None or overwrite:
        return list(jobs)
    left = []
    for job in jobs:
        places = [p for p in (job.stream, job.overlay) if p is not None and storage.owns(p)]
        there = [p for p in places if storage.exists(storage.url(p))]
        if there and not resume:
            raise PoseError("the output exists already", str(there[0]), "--overwrite, --resume or another --out")
        if job.stream is None or job.stream not in there:
            left.append(job)
    return left


def hand_over(summary: Summary) -> None:
    """Sends a source's finished outputs to storage, the stream last: where it stands, all of the source is done."""
    for place in (summary.overlay, summary.stream):
        if place is not None:
            hand_over_file(place)


def hand_over_file(place: str | Path) -> None:
    """Sends a finished file to storage, if that is where it belongs."""
    from posecli.storage import current

    storage = current()
    if storage is not None and storage.owns(place) and Path(place).exists():
        storage.send(place)
