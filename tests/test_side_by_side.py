"""People followed by several threads side by side: the same lines as one after the other, in order; clean ends."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from posecli.bench import network_of
from posecli.infer_options import InferOptions
from posecli.inference import PoseModel, PredictOptions, load_model
from posecli.pipeline import infer, poses_of
from posecli.predictions import FramePoses, frame_to_json
from posecli.side_by_side import overlaps
from posecli.tracking import FlowTracker
from posecli.turns import AT_ONCE, Cores
from posecli.video import VideoWriter, open_source
from posecli.workers import LEAST_SHARE, CallCosts, Workers, on_one_core, several_threads


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads of this thread's networks; back to what it was afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes that move, stand still for a while, and move on in another scene."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    across, down = np.meshgrid(np.arange(160), np.arange(120))
    # Fine enough to stand still, whatever number of threads encodes.
    with VideoWriter(path, 160, 120, 25, crf=8) as writer:
        for n in range(40):
            t = min(n, 12) if n < 20 else n
            image = np.full((120, 160, 3), 60 if n < 30 else 200, np.uint8)
            image[..., 1] = (across + 3 * t).astype(np.uint8) % 97 if n < 30 else 20
            image[(across - 20 - 2 * t) ** 2 + (down - 60) ** 2 < 300] = (220, 180, 150)
            writer.write(image, n / 25)
    return path


@pytest.fixture(scope="module", params=["sides", "softmax"])
def model(tiny_model: Path, request: pytest.FixtureRequest) -> PoseModel:
    return load_model(tiny_model, "cpu", options=PredictOptions(codec=request.param))


def lines_of(film: Path, model: PoseModel, **options: Any) -> list[dict[str, Any]]:
    with open_source(film) as source:
        return [frame_to_json(line) for _, line in poses_of(source, model, InferOptions(**options))]


@pytest.mark.parametrize("options", [{}, {"roi": (10.0, 4.0, 120.0, 100.0), "every": 2}, {"batch": 1, "track": "iou"}])
def test_lines_are_those_of_one_thread(
    film: Path,
    model: PoseModel,
    threads: Callable[[int], None],
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("posecli.workers.LEAST_SHARE", 1)
    threads(1)
    assert not overlaps(model, None)
    plain = lines_of(film, model, **options)
    for count in (2, 3):
        threads(count)
        assert overlaps(model, None)
        # However a crowd is shared out, each person's numbers are the same.
        assert lines_of(film, model, **options) == plain
        assert torch.get_num_threads() == count
        with monkeypatch.context() as patch:
            patch.setenv("POSECLI_BIND", "0")
            assert lines_of(film, model, **options) == plain
        with monkeypatch.context() as patch:
            patch.setattr("posecli.side_by_side._LARGE", 0)
            assert lines_of(film, model, **options) == plain
    # Read each by itself, the maps of random weights give people whose clothes are looked at.
    if not options and model.options.codec == "softmax":
        assert sum("same" in line for line in plain) >= 4 and [n for n, line in enumerate(plain) if "cut" in line]
        assert any("colours" in p for line in plain if "same" in line for p in line["persons"])
        assert max(len(line["persons"]) for line in plain) >= 2  # who are shared out


def test_gone_on_with_in_the_middle(
    tmp_path: Path, cli: Callable, film: Path, tiny_model: Path, threads: Callable[[int], None]
) -> None:
    threads(2)
    arguments = ["infer", film, "-w", tiny_model]
    assert cli(*arguments, "-o", tmp_path / "whole.jsonl").code == 0
    whole = (tmp_path / "whole.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in (2, 16, 31):  # the second within the frames that stand still
        (tmp_path / "part.jsonl").write_bytes(b"".join(lines[:cut]) + lines[cut][:50])
        assert cli(*arguments, "-o", tmp_path / "part.jsonl", "--resume").code == 0
        assert (tmp_path / "part.jsonl").read_bytes() == whole, cut


def test_large_networks_and_trackers_of_pictures_go_one_after_the_other(
    model: PoseModel, threads: Callable[[int], None], tiny_model: Path
) -> None:
    threads(2)
    assert overlaps(model, None) and not overlaps(load_model(tiny_model, "cpu", speed="plain"), None)
    assert not overlaps(model, FlowTracker(model.skeleton))
    assert load_model(device="cpu").is_small
    for name in ("hrnet-w32", "hourglass-2", "simple-baseline-50"):
        assert not overlaps(network_of(name, device="cpu"), None)


def test_an_early_end_and_an_error_leave_no_thread(
    film: Path, model: PoseModel, threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads(2)
    known = threading.active_count(), cv2.getNumThreads()
    some = infer(film, model=model)
    assert len(list(itertools.islice(some, 3))) == 3
    some.close()
    assert (threading.active_count(), cv2.getNumThreads()) == known and torch.get_num_threads() == 2

    def find(*_: object) -> list[list[Any]]:
        raise RuntimeError("the finder is gone")

    monkeypatch.setattr(model, "find", find)
    with pytest.raises(RuntimeError, match="the finder is gone"):
        list(infer(film, model=model))
    assert (threading.active_count(), cv2.getNumThreads()) == known and torch.get_num_threads() == 2


def test_a_line_comes_before_the_next_frames_are_wanted(
    film: Path, model: PoseModel, threads: Callable[[int], None]
) -> None:
    """Nothing piles up: frames are decoded only so far ahead as the queues reach."""
    threads(2)
    read = 0

    with open_source(film) as source:
        frames = source.frames

        def counted(*arguments: Any) -> Iterator[Any]:
            nonlocal read
            for frame in frames(*arguments):
                read += 1
                yield frame

        source.frames = counted  # type: ignore[method-assign]
        for number, (_, line) in enumerate(poses_of(source, model, InferOptions(batch=2))):
            assert isinstance(line, FramePoses)
            assert read - number <= 14


def test_workers_keep_order_and_report_the_first_error() -> None:
    with several_threads() as before:
        workers = Workers(3, Cores(3))
        seen: set[int] = set()

        def note(n: int) -> int:
            seen.add(torch.get_num_threads() if n else 1)
            return n * n

        assert workers.each([lambda n=n: note(n) for n in range(7)]) == [n * n for n in range(7)]  # type: ignore[misc]

        def fail(n: int) -> int:
            raise ValueError(f"piece {n}")

        with pytest.raises(ValueError, match="piece 1"):
            workers.each([lambda: 0, lambda: fail(1), lambda: fail(2)])
        workers.close()
    assert torch.get_num_threads() == before


def test_work_is_shared_out_as_is_asked_and_waits_for_cores() -> None:
    with several_threads():
        cores, wanted = Cores(1), 5
        workers = Workers(2, cores, lambda: wanted)
        assert workers.count == 2
        wanted = 0
        assert workers.count == 1
        # Pieces that wait for the only core get it while its thread waits for them.
        with cores.turn(AT_ONCE):
            assert workers.each([lambda n=n: n for n in range(4)]) == [0, 1, 2, 3]  # type: ignore[misc]
        workers.close()


def test_shares_are_as_large_as_calls_are_dear() -> None:
    def least(call: float, each: float, counts: Sequence[int] = (1, 4, 2, 7, 3)) -> int:
        costs = CallCosts()
        for count in counts:
            costs.add(count, call + each * count)
        return costs.least_share

    assert least(0.0043, 0.00135) == LEAST_SHARE  # with AMX
    assert least(0.0020, 0.0047) == 2  # without
    assert least(0.0028, 0.0020) == 3
    assert least(0.0, 0.0047) == 2
    # Nobody can tell: no calls, all alike, or more that take no longer.
    assert least(0.001, 0.01, ()) == least(0.001, 0.01, (3, 3, 3)) == least(0.004, 0.0) == LEAST_SHARE
    # What a machine does now counts, not what it did.
    costs = CallCosts()
    for seconds in (0.0043, 0.0001):
        for _ in range(300):
            for count in (1, 5):
                costs.add(count, seconds + 0.00135 * count)
    assert costs.least_share == 2


def test_calls_are_timed_by_people_of_different_number(model: PoseModel) -> None:
    costs = CallCosts()
    model.time_calls(costs)
    count, pictures, squares, seconds, _ = costs._sums
    assert count == pytest.approx(1.99) and pictures == pytest.approx(3.99) and squares == pytest.approx(9.99)
    assert seconds > 0


def test_what_is_done_meanwhile_may_fail() -> None:
    with several_threads():
        workers = Workers(2, Cores(1))
        done = threading.Event()
        workers.meanwhile(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
        workers.meanwhile(done.set)
        assert done.wait(10) and workers.each([lambda: 1, lambda: 2]) == [1, 2]
        workers.close()


def test_one_core_is_a_matter_of_the_thread(threads: Callable[[int], None]) -> None:
    threads(2)
    seen: list[int] = []
    with several_threads() as count:
        thread = threading.Thread(target=lambda: (on_one_core(), seen.append(torch.get_num_threads())))
        thread.start()
        thread.join()
        assert (count, seen, torch.get_num_threads()) == (2, [1], 2)
