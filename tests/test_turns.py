"""Turns on cores: never more at once than there are, the most urgent first; waiting and errors give them back."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from posecli.stages import prefetch
from posecli.turns import AT_ONCE, LATER, Cores, away, bound, give_way


def started(*work: Callable[[], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    return threads


def ended(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_never_more_at_once_than_there_are_cores() -> None:
    cores, lock = Cores(2), threading.Lock()
    now = most = turns = 0

    def work() -> None:
        nonlocal now, most, turns
        for n in range(30):
            with cores.turn(n % 2):
                for _ in range(2):
                    with lock:
                        now += 1
                        most = max(most, now)
                        turns += 1
                    time.sleep(0.0002)
                    with lock:
                        now -= 1
                    if n % 3:
                        give_way()
                    else:
                        with away():
                            time.sleep(0.0002)

    ended(started(*[work] * 5))
    assert (most, turns) == (2, 5 * 30 * 2)


def test_the_most_urgent_goes_first_and_then_who_waits_longest() -> None:
    cores = Cores(1)
    order: list[str] = []

    def wanting(name: str, rank: int) -> threading.Thread:
        def work() -> None:
            with cores.turn(rank):
                order.append(name)

        waiting = len(cores._waiting)
        (thread,) = started(work)
        until(lambda: len(cores._waiting) > waiting)
        return thread

    with cores.turn(AT_ONCE):
        threads = [wanting(*who) for who in (("a", LATER), ("b", LATER), ("c", AT_ONCE), ("d", AT_ONCE))]
        give_way()  # lets go who are as urgent, then has the core again
        assert order == ["c", "d"]
    ended(threads)
    assert order == ["c", "d", "a", "b"]


def test_a_core_is_given_back_while_its_thread_waits_and_after_an_error() -> None:
    cores, done = Cores(1), threading.Event()

    def other() -> None:
        with cores.turn(LATER):
            done.set()

    with pytest.raises(KeyError), cores.turn(AT_ONCE):
        threads = started(other)
        assert not done.wait(0.05)
        with away():
            assert done.wait(10)
        raise KeyError
    ended(threads)
    with cores.turn(LATER):
        pass
    give_way()
    with away():  # without a turn there is nothing to give
        pass


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no threads")
def test_nothing_is_bound_where_cores_are_not_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = sorted(os.sched_getaffinity(0))
    monkeypatch.setattr("posecli.turns._CORES", tmp_path)
    assert bound(len(mine)) == tuple(mine)
    for n, core in enumerate(mine):
        place = tmp_path / f"cpu{core}" / "cpufreq" / "cpuinfo_max_freq"
        place.parent.mkdir(parents=True)
        place.write_text(f"{4800000 - 1000000 * (n % 2)}\n")
    assert bound(len(mine)) == (() if len(mine) > 1 else tuple(mine))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no threads")
def test_a_thread_runs_on_the_core_it_has_and_afterwards_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.sched_getaffinity(0)
    assert bound(len(mine)) == tuple(sorted(mine)) and bound(len(mine) + 1) == ()
    monkeypatch.setenv("POSECLI_BIND", "0")
    assert bound(len(mine)) == () and not Cores(2).binds
    with pytest.raises(ValueError, match="3 cores"):
        Cores(3, (0,))
    monkeypatch.setattr("posecli.turns._LOOK", 0.0)
    monkeypatch.setattr("posecli.turns._OTHERS", float("inf"))
    cores, seen = Cores(len(mine), tuple(sorted(mine))), []
    together = threading.Barrier(len(mine), timeout=10)
    assert cores.binds

    def work() -> None:
        with pytest.raises(KeyError), cores.turn(LATER):
            together.wait()
            seen.append(os.sched_getaffinity(0))
            with away():
                together.wait()
            seen.append(os.sched_getaffinity(0))
            raise KeyError
        assert os.sched_getaffinity(0) == mine

    ended(started(*[work] * len(mine)))
    assert all(len(where) == 1 and where <= mine for where in seen) and len(seen) == 2 * len(mine)
    assert set.union(*seen[: len(mine)]) == mine  # no two on one
    # Other programs keep more than no core busy.
    monkeypatch.setattr("posecli.turns._OTHERS", -1e9)
    with cores.turn(LATER):
        assert os.sched_getaffinity(0) == mine


@pytest.mark.parametrize("count", [1, 2])
def test_stages_that_wait_for_each_other_share_even_one_core(count: int) -> None:
    """A full queue, or an empty one, gives the core to whoever can go on."""
    cores = Cores(count)

    def later() -> object:
        return cores.turn(LATER)

    def doubled(items: object) -> object:
        for item in items:  # type: ignore[attr-defined]
            yield 2 * item

    first = prefetch(range(60), 2, turn=later)  # type: ignore[arg-type]
    second = prefetch(doubled(first), 3, turn=lambda: cores.turn(AT_ONCE))  # type: ignore[arg-type]
    found = []
    for item in second:
        with cores.turn(LATER):
            found.append(item)
    assert found == [2 * n for n in range(60)]
