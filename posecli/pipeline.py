"""A source of frames in, people out, frame by frame and in order: decoding runs ahead of the network, nothing piles up.

`infer` is the Python door; `poses_of` is what the verb runs for each source.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from posecli.as_written import Found, in_region, line_time, seen_in, time_of, written_of
from posecli.errors import PoseError
from posecli.following import Follower, thumbnail
from posecli.infer_options import (
    InferChoices,
    InferOptions,
    check_decoder,
    check_region,
    holds_region,
    origin_of,
    part_of,
    region_of,
)
from posecli.inference import DEFAULT_MODEL, PoseModel, load_model
from posecli.on_device.upload import Uploader
from posecli.person_boxes import BoxLookup
from posecli.predictions import FramePoses, StreamHeader
from posecli.profiling import stage
from posecli.readout import PredictOptions
from posecli.recurrence import Memory, is_cut
from posecli.side_by_side import overlaps, side_by_side
from posecli.stages import prefetch
from posecli.tracking import FlowTracker, Tracker, make
from posecli.tracking.colours import KEY, described
from posecli.types import Frame, Instance, Skeleton
from posecli.video import FrameSource, PictureSource, open_source

_EVERY_FRAME = 1e-6  # seconds: a period shorter than any frame


def infer(
    source: str | Path | int | FrameSource,
    weights: str | Path = DEFAULT_MODEL,
    *,
    device: str = "auto",
    model: PoseModel | None = None,
    boxes: BoxLookup | Callable[[Frame, int | str], np.ndarray] | None = None,
    **options: Unpack[InferChoices],
) -> Generator[tuple[Frame, tuple[Instance, ...]], None, None]:
    """People of every frame of a video, a picture, a folder of pictures, a camera or a URL; lazily.

    Weak ones too: those whose score is at least ``model.threshold`` are shown and counted by the verbs.

    Args:
        source: what to look at; a camera is its index, or an open `FrameSource`.
        weights, device: as `load_model`; or give a loaded ``model``, also for options of `PredictOptions`.
        boxes: where people are, for top-down models: called with a frame and its ``image_id``, gives (N, 4) or (N, 5);
            by default they are found.
        options: fields of `InferOptions`.

    Returns:
        ``(Frame, people)`` for each frame, to iterate over; frames that cannot be decoded are left out (and counted in
        ``source.broken``). To stop early leave the loop, or ``close()`` it.

    Raises:
        PoseError: at once: no such source or weights.
        UsageError, TypeError: at once: options that there are not, or of other kinds.
    """
    _check_arguments(source, boxes, options)
    chosen = InferOptions(**options)
    model = model or load_model(weights, device)
    if boxes is not None and not isinstance(boxes, BoxLookup):
        boxes = BoxLookup(boxes)
    if isinstance(source, FrameSource):
        return _people_of(source, model, chosen, boxes, contextlib.nullcontext())
    opened = open_source(source)
    return _people_of(opened, model, chosen, boxes, opened)


def _check_arguments(source: Any, boxes: Any, options: Mapping[str, Any]) -> None:
    """TypeError for what is no source, no lookup of boxes, no option."""
    if not isinstance(source, str | Path | int | FrameSource):
        raise TypeError(
            f"a source is a path, a URL, a camera's number or a FrameSource, not {type(source).__name__}; "
            "pictures in memory: model.predict([image])"
        )
    if boxes is not None and not callable(boxes):
        raise TypeError(f"boxes is called with (frame, image_id) and gives (N, 4), it is no {type(boxes).__name__}")
    known = [field.name for field in fields(InferOptions)]
    if unknown := [name for name in options if name not in known]:
        of_model = [field.name for field in fields(PredictOptions)]
        where = f"; load_model(options=PredictOptions({unknown[0]}=...)) takes it" if unknown[0] in of_model else ""
        raise TypeError(f"infer has no option {unknown[0]!r}{where}; its own are {', '.join(known)}")


def _people_of(
    source: FrameSource,
    model: PoseModel,
    options: InferOptions,
    boxes: BoxLookup | None,
    held: contextlib.AbstractContextManager[Any],
) -> Generator[tuple[Frame, tuple[Instance, ...]], None, None]:
    """Frames with their people; what is ``held`` is given back at the end."""
    with held:
        for frame, poses in poses_of(source, model, options, boxes=boxes):
            if frame is not None:
                yield frame, tuple(poses.instances)


def decoder_for(decode: str, model: PoseModel) -> str:
    """Who is to decode videos for a model, as `VideoSource` takes it, of auto, cpu or gpu: a GPU only for networks on
    one, and the same one."""
    check_decoder(decode)
    if decode == "cpu" or (decode == "auto" and model.device.type != "cuda"):
        return "cpu"
    return decode if model.device.index is None else f"{decode}:{model.device.index}"


def make_tracker(source: FrameSource, skeleton: Skeleton, options: InferOptions, threshold: float) -> Tracker | None:
    """The tracker the options ask for, or None. Only people above the display threshold get identities."""
    name = tracker_name(source, skeleton, options)
    return None if name == "none" else make(name, skeleton, threshold)


def tracker_name(source: FrameSource, skeleton: Skeleton, options: InferOptions) -> str:
    """Who gives identities in a source: one of `TRACKERS`, or "none"."""
    if options.track != "auto":
        return options.track
    return "oks" if source.kind != "pictures" and skeleton.sigmas else "none"


def make_follower(
    source: FrameSource,
    model: PoseModel,
    options: InferOptions,
    boxes: BoxLookup | None,
    tracker: Tracker | None = None,
) -> Follower | None:
    """What follows people between the finder's runs, or None where every frame is looked at by itself.

    With a tracker by optical flow people are carried by the flow, also where the finder runs in every frame.
    """
    flow = tracker if isinstance(tracker, FlowTracker) else None
    wanted = (
        (options.find_every > 0 or flow is not None)
        and source.kind != "pictures"
        and boxes is None
        and not model.recurrent
    )
    if not wanted or not model.top_down or not model.skeleton.sigmas:
        return None
    size = (source.width, source.height)
    if options.roi is not None:
        left, top, right, bottom = part_of(*size, options.roi)
        size = (right - left, bottom - top)
    carry = None if flow is None else _carrier(flow, origin_of(options))
    return Follower(model, options.find_every or _EVERY_FRAME, size, carry)


def _carrier(flow: FlowTracker, shift: np.ndarray) -> Callable[[np.ndarray, float], np.ndarray | None]:
    """Where the flow takes joints (K, 2) of the region that were seen at a time."""

    def carry(xy: np.ndarray, time: float) -> np.ndarray | None:
        moved = flow.moved(xy + shift, time)
        return None if moved is None else moved - shift

    return carry


def make_memory(source: FrameSource, model: PoseModel) -> Memory | None:
    """What a recurrent model remembers of a video; None for pictures and for models that look at each frame alone."""
    return Memory(model) if model.recurrent and source.kind != "pictures" else None


def stream_header(
    source: FrameSource,
    model: PoseModel,
    options: InferOptions,
    name: str | None = None,
    boxes: BoxLookup | None = None,
) -> StreamHeader:
    """The header line of a source's stream: with what of the options decides what is found in it (not how quickly, or
    in which arithmetic), and of a top-down model with whose boxes it looked at."""
    pictures = source.kind == "pictures"
    run: dict[str, Any] = {"every": options.every, "track": tracker_name(source, model.skeleton, options)}
    if options.roi is not None:
        run["roi"] = list(options.roi)
    if not pictures and boxes is None and model.top_down and not model.recurrent:
        run["find_every"] = options.find_every
    plain = PredictOptions()
    for field in fields(plain):
        value = getattr(model.options, field.name)
        if field.name not in ("batch", "filled", "precision") and value != getattr(plain, field.name):
            run[field.name] = list(value) if isinstance(value, tuple) else value
    if (judge := model.rescoring_sha256()) is not None:
        run["rescore"] = judge
    extra: dict[str, Any] = {"run": run}
    if model.top_down:
        extra["boxes"] = dict(boxes.about if boxes is not None else model.about_finder())
    return StreamHeader(
        source=name or source.name,
        skeleton=model.skeleton,
        width=None if pictures else source.width,
        height=None if pictures else source.height,
        fps=source.fps,
        model=model.name,
        weights_sha256=model.weights_sha256(),
        threshold=model.threshold,
        joint_threshold=model.joint_threshold,
        extra=extra,
    )


def poses_of(
    source: FrameSource,
    model: PoseModel,
    options: InferOptions,
    *,
    boxes: BoxLookup | None = None,
    tracker: Tracker | None = None,
    follower: Follower | None = None,
    memory: Memory | None = None,
    resume_at: int | None = None,
    image_ids: Mapping[int, int | str] | None = None,
    colours: bool = False,
) -> Generator[tuple[Frame | None, FramePoses], None, None]:
    """Frame by frame the picture and its line of the stream, exactly as it will be written (rounded).

    A frame that cannot be decoded has its line too, without people and with ``"broken": true``; its picture is None.
    So has a picture that the region lies outside of.

    Args:
        source: open.
        model: loaded.
        options: see `InferOptions`.
        boxes: for top-down models.
        tracker, follower, memory: such as go on from earlier lines; by default new ones as options and model ask.
        resume_at: go on from this frame instead of ``options.start``.
        image_ids: frame index to ``image_id`` where a COCO file names them; by default the index plus one.
        colours: write what people wear also where no tracker here asks for it.
    """
    start = source.position(options.start) if options.start is not None else 0
    stop = source.position(options.end) if options.end is not None else None
    first = start if resume_at is None else resume_at
    if stop is not None and first >= stop:
        return
    check_region(source, options)
    if tracker is None and resume_at is None:
        tracker = make_tracker(source, model.skeleton, options, model.threshold)
    if follower is None and resume_at is None:
        follower = make_follower(source, model, options, boxes, tracker)
    if memory is None and resume_at is None:
        memory = make_memory(source, model)
    live, still = source.kind == "camera", source.kind == "pictures"
    batch = 1 if live else options.batch
    lines = _Lines(source, first, stop, options.every, image_ids or {})
    cuts = None if still else _Cuts(source, options, follower, start, resume_at)
    with contextlib.ExitStack() as threads:
        frames = source.frames(first, stop, options.every)
        small: dict[int, np.ndarray] = {}
        turn: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        if follower is not None and not live and overlaps(model, tracker):
            found, turn = side_by_side(frames, model, options, follower, source, threads)
        else:
            # Frames wait in a queue as large as a batch: one batch decodes while the other is in the network.
            chunks = _chunks(threads.enter_context(contextlib.closing(prefetch(frames, batch))), batch)
            beside = model.crops_on_device and memory is None and not live
            if beside and options.roi is None:
                # The next batch goes to the device while this one is worked on.
                chunks = threads.enter_context(
                    contextlib.closing(prefetch(_sent(chunks, model, small, cuts), 1, "upload", counted=False))
                )
            found = (
                item
                for chunk in chunks
                for item in _people(
                    chunk, model, options, boxes, lines.image_id, still, follower, memory, source, tracker
                )
            )
            if beside and follower is None and (tracker is None or not tracker.needs_pictures):
                # Nothing that comes after the model is needed for the next batch: the device need not wait for it.
                found = threads.enter_context(contextlib.closing(prefetch(found, 2 * batch, "model", counted=False)))
        coloured = colours or (tracker is not None and tracker.needs_colours)
        last: Sequence[Instance] | None = None
        for frame, written, notes, looked in found:
            yield from lines.before(frame.index)
            with turn(), stage("tracking"):
                if cuts is not None and cuts.begins(frame.image, small.pop(frame.index, None), looked):
                    notes = {**notes, "cut": True}
                    if tracker is not None:
                        tracker.cut()
                if coloured and notes.get("same"):
                    written = _as_before(written, last)
                elif coloured:
                    written = described(written, frame.image, model.skeleton, model.threshold)
                last = written
                if tracker is not None:
                    written = tracker.update(written, time_of(frame, source), frame.image)
            yield frame, lines.of(frame, written, notes)
    yield from lines.rest()


def _as_before(people: Sequence[Instance], last: Sequence[Instance] | None) -> tuple[Instance, ...]:
    """People who are those of the frame before, unchanged, with the colours that they had there."""
    if last is None:  # they come from the lines of a run that is gone on with
        return tuple(people)
    worn = [{KEY: before.extra[KEY]} if KEY in before.extra else {} for before in last]
    return tuple(p.changed(extra={**p.extra, **own}) for p, own in zip(people, worn, strict=True))


def _sent(
    chunks: Iterable[list[Frame]], model: PoseModel, small: dict[int, np.ndarray], cuts: _Cuts | None
) -> Iterator[list[Frame]]:
    """The same batches, on their way to the model's device; what ``cuts`` looks at goes into ``small``, by frame."""
    uploader = Uploader(model.device)
    for chunk in chunks:
        with stage("upload"):
            uploader.send([frame.image for frame in chunk])
            if cuts is not None and cuts.by_itself:
                small.update((frame.index, thumbnail(frame.image)) for frame in chunk)
        yield chunk


class _Cuts:
    """Where a video shows another scene from one frame to the next; goes on from the frame before ``resume_at``."""

    def __init__(
        self, source: FrameSource, options: InferOptions, follower: Follower | None, start: int, resume_at: int | None
    ) -> None:
        self._options = options
        self._follower = follower
        self._last: np.ndarray | None = None
        before = () if resume_at is None else source.indices(start, resume_at, options.every)
        if not before:
            return
        if follower is not None:
            self._last = follower.looked
            return
        # Frames that can't be read were not looked at: the one before them was.
        for index in reversed(before):
            with contextlib.suppress(PoseError):
                self._last = thumbnail(region_of(source.read_at(index).image, options))
                return

    @property
    def by_itself(self) -> bool:
        """Whether frames are looked at here, not by a follower."""
        return self._follower is None

    def begins(self, image: np.ndarray, small: np.ndarray | None, looked: np.ndarray | None) -> bool:
        """Whether the next frame (H, W, 3) is another scene.

        Args:
            image: the frame.
            small: its thumbnail, where there is one already.
            looked: what the follower looked at last, this frame included.
        """
        last = self._last
        if not self.by_itself:
            self._last = looked
        else:
            self._last = thumbnail(region_of(image, self._options)) if small is None else small
        return last is not None and self._last is not None and last is not self._last and is_cut(last, self._last)


class _Lines:
    """The lines of a stream: one for every frame that should be there, also for those that cannot be decoded."""

    def __init__(
        self, source: FrameSource, first: int, stop: int | None, every: int, image_ids: Mapping[int, int | str]
    ) -> None:
        self._source = source
        self._image_ids = image_ids
        self._next = first
        self._stop = stop
        self._wanted = source.indices(first, stop, every)

    def image_id(self, index: int) -> int | str:
        """The ``image_id`` of a frame."""
        return self._image_ids.get(index, index + 1)

    def of(self, frame: Frame, people: tuple[Instance, ...], notes: Mapping[str, Any]) -> FramePoses:
        """The line of a frame with its people; ``notes``: what else a video's line says."""
        index, image_id = frame.index, self.image_id(frame.index)
        self._next = index + 1
        if self._source.kind != "pictures":
            # Rounded as it is written: what works on lines as they come must see what a reader of the file sees.
            time = None if frame.time is None else line_time(frame.time, index, None)
            return FramePoses(frame=index, instances=people, time=time, image_id=image_id, extra=dict(notes))
        height, width = frame.image.shape[:2]
        return FramePoses(
            index, people, image_id=image_id, file=frame.source, width=width, height=height, extra=dict(notes)
        )

    def before(self, index: int) -> Iterator[tuple[None, FramePoses]]:
        """Lines of the frames that should have come before this one."""
        begin, end = (bisect.bisect_left(self._wanted, i) for i in (self._next, index))
        for lost in self._wanted[begin:end]:
            file = self._source.files[lost] if isinstance(self._source, PictureSource) else None
            time = None if self._source.kind == "pictures" else line_time(self._source.time_of(lost), lost, None)
            image_id, broken = self.image_id(lost), {"broken": True}
            yield None, FramePoses(lost, (), time=time, image_id=image_id, file=file, extra=broken)

    def rest(self) -> Iterator[tuple[None, FramePoses]]:
        """Lines of the frames that should have come after the last one."""
        count = self._source.num_frames if self._source.kind != "camera" else None
        if count is not None:
            yield from self.before(count if self._stop is None else min(self._stop, count))


def _people(
    chunk: Sequence[Frame],
    model: PoseModel,
    options: InferOptions,
    boxes: BoxLookup | None,
    image_id: Callable[[int], int | str],
    still: bool,
    follower: Follower | None,
    memory: Memory | None,
    source: FrameSource,
    tracker: Tracker | None = None,
) -> Iterator[Found]:
    """Each frame with its people; pictures that the region lies outside of have none, and are ``broken``."""
    if still and not all(holds_region(frame.image, options) for frame in chunk):
        for frame in chunk:
            if holds_region(frame.image, options):
                yield from _people([frame], model, options, boxes, image_id, still, follower, memory, source, tracker)
            else:
                yield Found(frame, (), {"broken": True})
        return
    parts = [region_of(frame.image, options) for frame in chunk]
    shift = origin_of(options)
    if memory is not None:
        for frame, part in zip(chunk, parts, strict=True):
            where = None if boxes is None else _moved(boxes(frame, image_id(frame.index)), shift)
            people, new = memory.people(part, time_of(frame, source), where)
            yield Found(frame, written_of(people, shift), {"reset": True} if new else {})
        return
    if follower is None:
        given = None if boxes is None else [_moved(boxes(f, image_id(f.index)), shift) for f in chunk]
        for frame, people in zip(chunk, model.predict(parts, given, still=still), strict=True):
            yield Found(frame, written_of(people, shift), {})
        return
    times = [time_of(frame, source) for frame in chunk]
    ahead: dict[int, list[Instance]] = {}
    if model.device.type != "cpu":
        # A device is better used by many pictures at once; on a CPU that gains nothing.
        due = [i for i, time in enumerate(times) if follower.scheduled(time, times[i - 1] if i else None)]
        ahead = dict(zip(due, model.find([parts[i] for i in due]), strict=True))
    for i, (frame, part, time) in enumerate(zip(chunk, parts, times, strict=True)):

        def find(i: int = i, part: np.ndarray = part) -> list[Instance]:
            return ahead[i] if i in ahead else model.find([part])[0]

        if tracker is not None and tracker.needs_pictures:
            with stage("tracking"):
                tracker.look(frame.image, time)
        people, same = follower.people(part, time, find)
        yield seen_in(frame, people, same, follower.looked, follower, options, time)


def _moved(boxes: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) or (N, 5) of the whole picture in pixels of the part that is looked at."""
    boxes = np.array(boxes, np.float64)
    boxes[:, :4] -= np.tile(shift, 2)
    return boxes


def replay(
    lines: Iterable[tuple[StreamHeader, FramePoses]],
    source: FrameSource,
    options: InferOptions,
    tracker: Tracker | None,
    follower: Follower | None,
) -> None:
    """Brings tracker and follower to the state they had after the last of a source's lines."""
    looked = last = None
    for header, line in lines:
        if line.extra.get("broken"):
            continue
        time = line_time(line.time, line.frame, header.fps)
        last = line.frame, time
        if tracker is not None:
            if line.extra.get("cut"):
                tracker.cut()
            tracker.replay(line.instances, time)
        if follower is not None:
            follower.see(in_region(line.instances, options), time)
            looked = looked if line.extra.get("same") else line.frame
    if follower is not None and looked is not None:
        follower.start(region_of(source.read_at(looked).image, options))
    if tracker is not None and tracker.needs_pictures and last is not None:
        tracker.look(source.read_at(last[0]).image, last[1])


def recall(
    memory: Memory,
    lines: Iterable[tuple[StreamHeader, FramePoses]],
    source: FrameSource,
    options: InferOptions,
    boxes: BoxLookup | None,
    image_ids: Mapping[int, int | str] | None = None,
) -> None:
    """Brings a recurrent model's memory to the state it had after the last of a source's lines.

    The frames since it last began anew (``reset`` in their line) are looked at again: what is remembered stands in no
    line. Costs as much time as they took; a cut is the cheapest place to go on from.
    """
    begun, last = None, None
    for _, line in lines:
        if not line.extra.get("broken"):
            begun, last = (line.frame if line.extra.get("reset") else begun), line.frame
    if begun is None or last is None:
        return
    image_id = _Lines(source, begun, last + 1, options.every, image_ids or {}).image_id
    with contextlib.closing(prefetch(source.frames(begun, last + 1, options.every), options.batch)) as frames:
        for chunk in _chunks(frames, options.batch):
            for _ in _people(list(chunk), memory.model, options, boxes, image_id, False, None, memory, source):
                pass


def _chunks(frames: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    chunk: list[Frame] = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
