"""Labels meet frames: by frame number where both count the same frames, by time stamps where they do not.

A list of labels and a list of frames are never paired by position: labels recorded at 20/s beside a video at 59.94/s
would be three times too slow, and nobody would see it in the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from posecli.errors import PoseError


@dataclass(frozen=True)
class Alignment:
    """Which frame each label belongs to.

    Attributes:
        frame: (L,) int64 frame index of each label; -1 where a nearer label has the frame already.
        offset: (L,) float64 seconds from the frame's time stamp to the label's, zeros when matched by number.
        doubled: labels left out because they fell on a frame that a nearer one has.
    """

    frame: np.ndarray
    offset: np.ndarray
    doubled: int = 0


def nearest_frames(label_times: np.ndarray, frame_times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(L,) index of the frame nearest in time and (L,) seconds from it; -1 for a label that is further from every frame
    than half the interval between frames there (which is before the first or after the last frame).

    Args:
        label_times: (L,) seconds. frame_times: (T,) seconds, ascending.
    """
    count = len(frame_times)
    after = np.clip(np.searchsorted(frame_times, label_times), 1, max(count - 1, 1))
    before = after - 1
    if count == 1:
        index = np.zeros(len(label_times), dtype=np.int64)
    else:
        nearer = label_times - frame_times[before] <= frame_times[after] - label_times
        index = np.where(nearer, before, after)
    offset = label_times - frame_times[index]
    # Beyond the ends half an interval counts as the frame's own time; a thousandth more for rounding in files.
    step = np.diff(frame_times)
    first, last = (step[0], step[-1]) if count > 1 else (np.inf, np.inf)
    outside = (offset < -0.5 * first - 1e-3) & (index == 0) | (offset > 0.5 * last + 1e-3) & (index == count - 1)
    return np.where(outside, -1, index), offset


def align(
    where: Sequence[str],
    numbers: np.ndarray,
    times: np.ndarray,
    keys: Sequence[object],
    num_frames: int,
    frame_times: Callable[[], np.ndarray],
    fps: float | None,
) -> Alignment:
    """Matches the rows of a label file with the frames of its video.

    Args:
        where: (L,) file and row of each label, for messages.
        numbers: (L,) frame numbers, -1 where the row has a time instead.
        times: (L,) seconds from the first frame, NaN where a number stands.
        keys: (L,) whose label it is; two labels of one key on one frame collide.
        num_frames: frames of the video.
        frame_times: gives their (T,) seconds; asked only when needed.
        fps: the rate in which ``numbers`` count; None: they are the video's own frame numbers.

    Raises:
        PoseError: naming file and row, for a label beyond the end of the video.
    """
    times = np.where(numbers >= 0, np.nan if fps is None else numbers / (fps or 1.0), times)
    timed = ~np.isnan(times)
    frame = numbers.astype(np.int64).copy()
    offset = np.zeros(len(frame))
    stamps = frame_times() if timed.any() else np.zeros(0)
    if timed.any():
        frame[timed], offset[timed] = nearest_frames(times[timed] + stamps[0], stamps)
    beyond = np.flatnonzero((frame < 0) | (frame >= num_frames))
    if len(beyond):
        row = int(beyond[0])
        if timed[row]:
            what = f"a label at {times[row]:.3f} s, but the video ends at {stamps[-1] - stamps[0]:.3f} s"
            raise PoseError(what, where[row])
        hint = "frames count from 0; give the labels' rate with --label-fps where they count in another"
        raise PoseError(f"frame {numbers[row]}, but the video has {num_frames} frames", where[row], hint)
    best: dict[tuple[int, object], int] = {}
    doubled = 0
    for row in range(len(frame)):
        place = (int(frame[row]), keys[row])
        other = best.setdefault(place, row)
        if other == row:
            continue
        loser = row if abs(offset[other]) <= abs(offset[row]) else other
        best[place] = other + row - loser
        frame[loser] = -1
        doubled += 1
    return Alignment(frame, offset, doubled)


def describe_rates(label_fps: float, video_fps: float, seconds: float) -> str:
    """One sentence on how far list positions (or frame numbers) would drift apart over ``seconds`` of video."""
    drift = abs(label_fps - video_fps) * seconds
    return (
        f"labels count at {label_fps:g}/s, the video runs at {video_fps:.6g}/s: matched by time stamps "
        f"(by number they would be {drift:.1f} frames apart at the end)"
    )
