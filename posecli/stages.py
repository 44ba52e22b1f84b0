"""Stages of a pipeline: threads joined by bounded queues, in order, that stop cleanly and report the first error.

Decoding, drawing and encoding release the interpreter lock, so plain threads run beside the network. A queue holds a
few items only: a stage that is faster than the next one waits, and memory does not grow with the video.
"""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from posecli.profiling import name_thread, stage, stage_of, wait
from posecli.turns import away, give_way

T = TypeVar("T")
_END = object()
_LOOK = 0.2  # seconds after which a consumer looks whether anything will come
#: Of what `prefetch` and `Background` have under way: what stops a thread, and the thread.
_running: dict[int, tuple[threading.Event, threading.Thread]] = {}


@atexit.register
def _stop_all() -> None:
    """Ends what a caller left under way, as a Python program does that takes some frames only and ends.

    A thread that is in a network when Python goes takes the process with it.
    """
    left = list(_running.values())
    for stop, _ in left:
        stop.set()
    for _, thread in left:
        if thread.ident is not None:  # Ctrl-C may have come before it began
            thread.join()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def prefetch(
    items: Iterable[T],
    size: int,
    name: str = "decode",
    *,
    counted: bool = True,
    reader: str = "model",
    turn: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> Generator[T, None, None]:
    """Yields ``items``, produced by a thread at most ``size`` items ahead.

    An error in the producer is raised here, after the items before it. Closing the generator stops the producer.

    Args:
        items: made one by one.
        size: of the queue between them and whoever takes them.
        name: of the stage in a profile, unless what makes the items counts its own stages (not ``counted``).
        counted: see ``name``.
        reader: who takes them, in a profile.
        turn: the producer's, on a core (`posecli.turns`); by default it takes none.
    """
    waiting: queue.Queue = queue.Queue(maxsize=max(1, size))
    stop = threading.Event()

    def put(item: object) -> bool:
        with contextlib.suppress(queue.Full):
            waiting.put_nowait(item)
            return not stop.is_set()
        with wait(f"{name}: room in the queue"), away():
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    waiting.put(item, timeout=0.1)
                    return True
        return False

    def produce() -> None:
        try:
            name_thread(name)
            with turn():
                for item in stage_of(items, name) if counted else items:
                    if not put(item):
                        return
                    give_way()
            put(_END)
        except BaseException as error:
            put(_Failure(error))
        finally:
            if stop.is_set():
                if hasattr(items, "close"):
                    items.close()
                # Whoever still waits for the next item, when everything ends at once, is not left waiting.
                with contextlib.suppress(queue.Empty):
                    while True:
                        waiting.get_nowait()
                waiting.put(_END)

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    _running[id(stop)] = stop, thread
    thread.start()
    try:
        while True:
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                with wait(f"{reader}: frames from {name}"), away():
                    item = waiting.get()
            if item is _END:
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stop.set()
        thread.join()
        _running.pop(id(stop), None)


class Background(Generic[T]):
    """Hands items to a consumer that runs in a thread of its own, at most ``size`` items behind.

    Used as a context manager: leaving it waits for the consumer to finish and raises its error; leaving it with an
    error drops what is queued. `put` raises the consumer's error as soon as there is one. ``name`` is the stage's in a
    profile.
    """

    def __init__(self, consume: Callable[[T], None], size: int, name: str = "draw and encode") -> None:
        self._consume = consume
        self._name = name
        self._queue: queue.Queue = queue.Queue(maxsize=max(1, size))
        self._error: BaseException | None = None
        self._abandoned = False
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)
        _running[id(self)] = self._leaving, self._thread
        self._thread.start()

    def _run(self) -> None:
        name_thread("encode")
        while (item := self._next()) is not _END:
            # After an error keep emptying the queue, so that `put` never waits for a consumer that is gone.
            if self._error is None and not self._abandoned:
                try:
                    with stage(self._name):
                        self._consume(item)
                except BaseException as error:
                    self._error = error

    def _next(self) -> Any:
        with wait(f"{self._name}: frames to work on"):
            while True:
                # Ctrl-C in the very moment when an item is put may leave a queue that wakes nobody any more.
                with contextlib.suppress(queue.Empty):
                    return self._queue.get(timeout=_LOOK)
                if self._leaving.is_set():
                    return _END

    def put(self, item: T) -> None:
        """Queues an item; waits while the consumer is too far behind."""
        if self._error is not None:
            raise self._error
        with wait(f"model: room before {self._name}"):
            self._queue.put(item)

    def __enter__(self) -> Background[T]:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._abandoned = kind is not None
        try:
            self._end()
        except BaseException:  # Ctrl-C, while it is waited for
            self._abandoned = True
            self._end()
            raise
        if kind is None and self._error is not None:
            raise self._error

    def _end(self) -> None:
        """Waits until the consumer has done what is queued."""
        self._leaving.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put(_END, timeout=_LOOK)
                break
        self._thread.join()
        _running.pop(id(self), None)
