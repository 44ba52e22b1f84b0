"""People of a video followed by several threads side by side, where the networks are small and the cores several.

The poses of a frame start from those of the frame before: crops, pose network and reading of frame after frame are a
chain, which sets the pace. Everything else runs beside it: what needs no poses some frames ahead, what needs them after
it. Who computes when is settled by turns on the cores (`posecli.turns`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from posecli.as_written import Found, seen_in, time_of
from posecli.following import Follower, Glance
from posecli.infer_options import InferOptions, region_of
from posecli.inference import PoseModel
from posecli.sampling import Halves, sharing, taking
from posecli.stages import prefetch
from posecli.tracking import Tracker
from posecli.tracking.colours import make_ready as make_colours_ready
from posecli.turns import AT_ONCE, LATER, Cores, bound
from posecli.types import Frame, Instance
from posecli.video import FrameSource, VideoSource
from posecli.workers import CallCosts, Workers, on_one_core, several_threads

_LARGE = 1920 * 1088  # pixels


def overlaps(model: PoseModel, tracker: Tracker | None) -> bool:
    """Whether people are followed by several threads, side by side: where the network of a person's crop is so small
    that threads within it don't pay, on a CPU with more than one to use, unless following waits for the tracker."""
    return (
        model.device.type == "cpu"
        and model.runs_as != "plain"
        and torch.get_num_threads() > 1
        and (tracker is None or not tracker.needs_pictures)
        and model.is_small
    )


def side_by_side(
    frames: Iterator[Frame],
    model: PoseModel,
    options: InferOptions,
    follower: Follower,
    source: FrameSource,
    threads: contextlib.ExitStack,
) -> tuple[Iterator[Found], Callable[[], contextlib.AbstractContextManager[None]]]:
    """What `_people` gives of a video whose people are followed, each stage in a thread that computes on one core:

    - decoding;
    - comparing frames, and the finder where its turn has come, which needs nothing of the people, some frames ahead;
    - crops and poses, which need the poses of the frame before; a crowd is shared out among threads;
    - who is who, and writing: whoever takes what this gives.
    """
    model.make_ready()
    count = threads.enter_context(several_threads())
    # Of large pictures decoding takes the longest: it is left to as many threads as it likes, on whatever core.
    cores = Cores(count, bound(count) if source.width * source.height <= _LARGE else ())
    if cores.binds and isinstance(source, VideoSource):
        threads.callback(setattr, source, "threads", source.threads)
        source.threads = 1  # others would all be bound to the core where decoding begins
    made = taken = 0  # frames that were compared, and of them those whose people were looked at

    def shares() -> int:
        # A core is left to those who run ahead until they are.
        return count if made - taken > options.batch // 2 else count - 1

    def later() -> contextlib.AbstractContextManager[None]:
        return cores.turn(LATER)

    # Sums of whole numbers are exact: however people are shared out, the maps are the same.
    costs = CallCosts() if model.in_whole_numbers else None
    workers = Workers(count, cores, None if costs is None else shares, costs)
    threads.callback(workers.close)
    # While the first frame is decoded and people are found in it the rest is made ready.
    workers.meanwhile(model.try_out)
    if costs is not None:
        workers.meanwhile(partial(model.time_calls, costs))
    workers.meanwhile(make_colours_ready)
    decoded = threads.enter_context(contextlib.closing(prefetch(frames, max(1, options.batch // 2), turn=later)))

    def glanced() -> Iterator[tuple[Frame, Halves, Glance, list[Instance] | None]]:
        nonlocal made
        on_one_core()
        for frame in decoded:
            part = region_of(frame.image, options)
            with sharing([part]) as (halves,):
                glance = follower.glance(part, time_of(frame, source))
                found = model.find([part])[0] if glance.asks else None
                made += 1
                yield frame, halves, glance, found

    def followed() -> Iterator[Found]:
        nonlocal taken
        on_one_core()
        with model.helped(workers):
            for frame, halves, glance, ahead in looked_at:
                taken += 1
                part, time = halves[0], time_of(frame, source)

                def find(part: np.ndarray = part, ahead: list[Instance] | None = ahead) -> list[Instance]:
                    return model.find([part])[0] if ahead is None else ahead

                with taking([halves]):
                    people, same = follower.people(part, time, find, glance)
                yield seen_in(frame, people, same, glance.looked, follower, options, time)

    looked_at = threads.enter_context(
        contextlib.closing(prefetch(glanced(), options.batch, "finder", counted=False, reader="poses", turn=later))
    )
    found = prefetch(followed(), 2, "poses", counted=False, reader="tracking", turn=lambda: cores.turn(AT_ONCE))
    return threads.enter_context(contextlib.closing(found)), later
