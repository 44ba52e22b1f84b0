"""Bounded queues between threads: order, errors, clean stops."""

from __future__ import annotations

import threading
import time

import pytest

from posecli.stages import Background, prefetch


def test_prefetch_keeps_order_and_stays_bounded() -> None:
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    ahead = 0
    for seen, item in enumerate(prefetch(items(), 3)):
        assert item == seen
        ahead = max(ahead, len(made) - seen)
        time.sleep(0.001)
    # three queued, one in the producer's hand, one in ours
    assert seen == 49 and ahead <= 5


def test_prefetch_raises_after_the_items_before_the_error() -> None:
    def items():
        yield 1
        yield 2
        raise OSError("broken")

    got = []
    with pytest.raises(OSError, match="broken"):
        for item in prefetch(items(), 4):
            got.append(item)
    assert got == [1, 2]


def test_closing_prefetch_stops_and_closes_the_producer() -> None:
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    stream = prefetch(items(), 2)
    next(stream)
    stream.close()
    assert closed.wait(2)
    assert not any(t.name == "prefetch" for t in threading.enumerate())


def test_background_consumes_everything_in_order() -> None:
    got: list[int] = []
    with Background(got.append, 2) as sink:
        for i in range(20):
            sink.put(i)
    assert got == list(range(20))


def test_background_error_reaches_the_producer_without_a_hang() -> None:
    def consume(item: int) -> None:
        raise ValueError(f"cannot take {item}")

    with pytest.raises(ValueError, match="cannot take 0"), Background(consume, 1) as sink:
        for i in range(100):
            sink.put(i)


def test_background_drops_the_queue_when_the_producer_fails() -> None:
    got: list[int] = []
    with pytest.raises(KeyError), Background(got.append, 100) as sink:
        sink.put(1)
        raise KeyError
    assert len(got) <= 1
