"""The one core: image -> crop -> network -> maps -> keypoints -> people in image pixels.

`infer`, validation during training and benchmarks all come through `PoseModel.predict`, so there is one definition
of preprocessing and of coordinates. A model is either bottom-up (DEKR: everybody in the picture at once) or top-down
(one crop per person); a top-down model needs boxes, from the caller or from a *finder*, a bottom-up model of its own.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posecli import looks, pose_scores
from posecli.checkpoint import ModelMeta, check_input_size, load_checkpoint, load_finder
from posecli.codecs.coords import PLACES
from posecli.codecs.last_pose import LEAST_SCORE, drawn
from posecli.codecs.sides import FADES, SIDES, limb_joints
from posecli.codecs.top_down import CASCADE
from posecli.errors import PoseError, UsageError
from posecli.files import sha256_of
from posecli.geometry import apply_affine, in_one_size, keypoint_box
from posecli.models import MODELS
from posecli.models.rescore import RescoreNet, rescore
from posecli.profiling import stage
from posecli.readout import (
    BOTTOM_UP,
    TOP_DOWN,
    Person,
    PredictOptions,
    can_read_sides,
    narrow_inputs,
    read_quality,
    reading,
    reads_sides,
    size_for,
    together,
)
from posecli.running import RunningNetwork, rows_of, with_channel
from posecli.sampling import shared_ones, sharing, taking
from posecli.stills import Stills
from posecli.types import Crop, Instance, Skeleton
from posecli.workers import CallCosts, Workers
from posecli.zoo import fetch, find_entry, suggestions

__all__ = ["DEFAULT_MODEL", "PoseModel", "PredictOptions", "find_weights", "load_model"]

DEFAULT_MODEL = "default"
# Pixels that a finder looks at in the time that it takes to call it: each of its convolutions is set up anew.
_CALL = 30_000


def find_weights(name: str | Path, progress: Callable[[int, int | None], None] | None = None) -> Path:
    """The file of a weights path, or of the name of a model that comes with the package or is public.

    Public weights (`posecli.zoo`) are fetched into the user's cache unless they are there; ``progress`` is called with
    the bytes there are and the bytes there will be.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = Path(str(resources.files("posecli"))) / "weights"
    candidate = shipped / f"{name}.safetensors"
    if candidate.is_file():
        return candidate
    entry = find_entry(str(name))
    if entry is not None:
        return fetch(entry, progress=progress)
    here = ", ".join(sorted(p.stem for p in shipped.glob("*.safetensors"))) or "none"
    if path.suffix in {".safetensors", ".pth", ".pt", ".tar"}:
        raise PoseError("no such weights file", str(name), f"models that come with posecli: {here}")
    near = suggestions(str(name))
    if name in MODELS:
        raise PoseError(
            f"no weights for the model {str(name)!r}",
            hint=f"a network that comes without: give a file with --weights, or --model {here.replace(', ', ' or ')}"
            + (f"; public ones: {', '.join(near)}" if near else ""),
        )
    raise PoseError(
        f"no weights for the model {str(name)!r}",
        hint=f"did you mean {', '.join(near)}?"
        if near
        else f"give a file with --weights; models that come with posecli: {here}; posecli models lists public ones",
    )


def load_model(
    weights: str | Path = DEFAULT_MODEL,
    device: str = "auto",
    *,
    skeleton: Skeleton | None = None,
    input_size: tuple[int, int] | None = None,
    release: str | None = None,
    box_weights: str | Path | None = None,
    rescore: str | Path | None = None,
    options: PredictOptions | None = None,
    warn: Callable[[str], None] | None = None,
    speed: str = "auto",
) -> PoseModel:
    """A ready model from a shipped name, a posecli ``.safetensors`` file or an official ``.pth`` release.

    Args:
        weights: name or path.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        skeleton, input_size: override what the table of official releases says of a bare official file.
        release: name of the row of that table, where the file fits several.
        box_weights: for top-down models, the model that finds the people; by default the one inside the file, else the
            shipped model's. Loaded when first needed.
        rescore: DEKR's rescoring net, for bottom-up models: an official file, or one of `train --model dekr-rescore`.
        options: see `PredictOptions`.
        warn: takes the warnings (by default `warnings.warn`), e.g. which of several releases a bare file was taken for,
            or that memory is short.
        speed: see `RunningNetwork`.

    Raises:
        PoseError: no such file, not a weights file, names or shapes that fit no architecture.
        TypeError: weights that are no name and no path, options that are no `PredictOptions`.
    """
    if not isinstance(weights, str | Path):
        raise TypeError(f"weights are a name or a path, not {type(weights).__name__}")
    if options is not None and not isinstance(options, PredictOptions):
        raise TypeError(f"options must be PredictOptions(...), not {type(options).__name__}")
    path = find_weights(weights)
    finder = None
    if path.suffix == ".safetensors":
        if skeleton is not None or input_size is not None or release is not None:
            raise UsageError("skeleton, input size and release stand in the file", str(path), "leave them out")
        network, meta = load_checkpoint(path)
        if meta.input_size == (0, 0):
            raise PoseError(f"{meta.architecture} for pictures of 0 x 0", str(path))
        for size, _, _ in narrow_inputs(meta):
            for turned in (size, size[::-1]):  # for people who stand, and who lie
                check_input_size(network, replace(meta, input_size=turned), str(path))
        found = load_finder(path)
        if found is not None and box_weights is None:
            finder = PoseModel(*found, device=device, options=_finder_options(options), speed=speed)
            finder.weights_path = path
    else:
        from posecli.official import load_official

        extra = {} if warn is None else {"warn": warn}
        network, meta = load_official(path, skeleton=skeleton, input_size=input_size, release=release, **extra)
    model = PoseModel(
        network, meta, device=device, finder=finder, options=options, box_weights=box_weights, speed=speed
    )
    model.weights_path = path
    for one in filter(None, (model, finder)):
        one.warn = warn or warnings.warn
    if rescore is not None:
        model.use_rescoring(rescore)
    return model


class PoseModel(RunningNetwork):
    """A network with everything needed to use it.

    Attributes (see `RunningNetwork` for the others):
        finder: for top-down models the bottom-up model that finds the people, or None.
    """

    def __init__(
        self,
        network: nn.Module,
        meta: ModelMeta,
        *,
        device: str | torch.device = "auto",
        finder: PoseModel | None = None,
        options: PredictOptions | None = None,
        box_weights: str | Path | None = None,
        speed: str = "auto",
    ) -> None:
        if meta.codec not in TOP_DOWN and meta.codec not in BOTTOM_UP:
            raise PoseError(f"unknown codec {meta.codec!r}", hint=f"known: {', '.join([*TOP_DOWN, *BOTTOM_UP])}")
        wanted = (options or PredictOptions()).codec
        if wanted is not None and (wanted not in TOP_DOWN or meta.codec not in TOP_DOWN):
            what = f"unknown codec {wanted!r}" if wanted not in TOP_DOWN else "a codec is chosen for top-down models"
            raise UsageError(what, meta.architecture, f"known: {', '.join(TOP_DOWN)}")
        if wanted == CASCADE != meta.codec:
            raise UsageError("the codec cascade reads networks that give fine maps too", meta.architecture)
        if wanted == SIDES and not can_read_sides(meta):
            hint = "for weights taught by softmax, of shoulders to wrists and hips to ankles"
            raise UsageError(f"the codec {SIDES} does not read these maps", meta.architecture, hint)
        if wanted is not None and PLACES in (wanted, meta.codec) and wanted != meta.codec:
            raise UsageError("networks that give places have no heat maps, and others no places", meta.architecture)
        super().__init__(network, meta, device=device, options=options, speed=speed)
        self.finder = finder
        self._judgement = pose_scores.Judgement.of(meta)
        if self._judgement and self._judgement.by == "quality" and not meta.arguments.get("quality"):
            raise PoseError("poses are to be judged by a quality that the network does not give", meta.architecture)
        self._rescoring: RescoreNet | None = None
        self._rescoring_path: Path | None = None
        self._box_weights = box_weights
        self._workers: Workers | None = None

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.meta.input_size))
        what = f"{self.name}: {self.meta.architecture}, {self.meta.codec}, {size}, {self.skeleton.name}"
        return f"<PoseModel {what}, on {self.device}>"

    def make_ready(self, *, finder: bool = True) -> None:
        """As `RunningNetwork.make_ready`; with the finder of a top-down model too, unless boxes will be given."""
        super().make_ready()
        if self.top_down and finder:
            self._people_finder().make_ready()

    @contextmanager
    def helped(self, workers: Workers) -> Iterator[None]:
        """While it lasts the people of a picture are shared out among workers, for top-down models on a CPU."""
        self._workers = workers
        try:
            yield
        finally:
            self._workers = None

    @property
    def skeleton(self) -> Skeleton:
        """The joints it gives."""
        return self.meta.skeleton

    @property
    def threshold(self) -> float:
        """Calibrated person score above which people are shown, tracked and counted; 0.2 where nobody calibrated."""
        return float(self.meta.extra.get("threshold", 0.2))

    @property
    def joint_threshold(self) -> float | None:
        """Joint score from which on joints are drawn, chosen with the weights; None where nobody chose one."""
        value = self.meta.extra.get("joint_threshold")
        return None if value is None else float(value)

    def weights_sha256(self) -> str | None:
        """SHA-256 of the file it was loaded from."""
        return sha256_of(self.weights_path) if self.weights_path else None

    def rescoring_sha256(self) -> str | None:
        """SHA-256 of the file of the rescoring net; None without one."""
        return sha256_of(self._rescoring_path) if self._rescoring_path else None

    def use_rescoring(self, path: str | Path) -> None:
        """Lets DEKR's rescoring net (Geng et al., CVPR 2021, Sec. 3.4) judge each pose by its shape and joint scores.

        Raises:
            UsageError: a top-down model, or a net made for another skeleton.
        """
        from posecli.official import load_rescore

        network, skeleton = load_rescore(find_weights(path))
        if self.top_down or skeleton != self.skeleton.name:
            raise UsageError(
                f"this rescoring net is for bottom-up poses of {skeleton}, {self.name} gives {self.skeleton.name}",
                str(path),
            )
        self._rescoring = network.to(self.device)
        self._rescoring_path = find_weights(path)

    def predict(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None = None, *, still: bool = True
    ) -> list[list[Instance]]:
        """The people in each picture, best first.

        Args:
            images: RGB uint8 arrays (H, W, 3), of any sizes.
            boxes: for top-down models, an (N, 4) array of x0 y0 x1 y1 per picture, or (N, 5) with each box's score in
                [0, 1]; by default the finder's.
            still: the pictures are no frames of a video; a model may take more care over them (``extra["flip_test"]``
                may be ``"pictures"``), and looks at people that the finder takes for unlikely. In a video those below
                the display threshold are left out.

        Returns:
            For each picture a list of `Instance` in its pixels; empty when nobody is found.

        Raises:
            ValueError: pictures or boxes of another shape, boxes for another number of pictures.
        TypeError: no pictures at all.
            UsageError: boxes for a model that takes none.
        """
        if isinstance(images, str | Path):
            raise TypeError(f"predict looks at pictures in memory; posecli.infer({str(images)!r}) reads files")
        if isinstance(images, np.ndarray) and images.ndim < 4:
            raise ValueError("images must be a list of pictures: predict([image])")
        images = list(images)  # a generator, too
        for image in images:
            if not isinstance(image, np.ndarray):
                kind = type(image).__name__
                raise TypeError(f"images must be arrays (H, W, 3) uint8 in RGB, got {kind}: numpy.asarray makes one")
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
                raise ValueError(f"images must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        if boxes is not None:
            boxes = [np.asarray(of_image, np.float64) for of_image in boxes]
            if len(boxes) != len(images):
                raise ValueError(f"boxes of {len(boxes)} images for {len(images)} images")
            for of_image in boxes:
                if of_image.size and (of_image.ndim != 2 or of_image.shape[1] not in (4, 5)):
                    raise ValueError(f"boxes of an image must be (N, 4) or (N, 5), got {of_image.shape}")
                if not np.isfinite(of_image).all():
                    raise ValueError("boxes must be finite")
        # Where time counts less than care crops are averaged exactly.
        with sharing(() if still else images):
            return self._predict(images, boxes, still)

    def _predict(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None, still: bool
    ) -> list[list[Instance]]:
        if not self.top_down:
            if boxes is not None:
                raise UsageError("boxes are for top-down models", self.name, "leave them out")
            found = self._predict_bottom_up(images, self._flip_test(still), still)
        elif boxes is not None:
            known = [looks.of_boxes(b, self.skeleton.num_keypoints) for b in boxes]
            found = self._predict_top_down(images, known, self._flip_test(still))
        else:
            people = self.find(images, still)
            if still and self.options.second_look:
                return [self.finished(persons) for persons in self._stills().people(images, people)]
            if not still:
                # No joint score lifts a person above the finder's own: below the threshold nobody would be shown, and
                # in a video every crop costs time.
                people = [[p for p in persons if p.person_score >= self.threshold] for persons in people]
            found = self._judged(
                people, self._predict_top_down(images, people, self._flip_test(still), few_calls=not still)
            )
        return [self.finished(people) for people in found]

    def _stills(self) -> Stills:
        return Stills(
            look=self._predict_top_down,
            judged=self._judged,
            judges=self._judgement is not None and self._judgement.by == "quality",
            threshold=self.threshold,
            skeleton=self.skeleton,
            box_scale=float(self.meta.extra.get("box_scale", 1.25)),
            flip_test=self._flip_test(True),
            limbs=limb_joints(self.skeleton.keypoints) if reads_sides(self.meta, self.options.codec) else None,
        )

    def finished(self, people: Sequence[Instance]) -> list[Instance]:
        """A picture's people as they are given out: each once (top-down), those to be kept, best first."""
        return self.kept(self._once(people) if self.top_down else people)

    def find(self, images: Sequence[np.ndarray], still: bool = False) -> list[list[Instance]]:
        """Where people are, for top-down models: the finder's boxes with its certainty, before joints are looked for.
        ``still``: as for `predict`; if not, those of too little certainty are left out (`Judgement.least`).

        No person of `predict` has a score above this certainty.
        """
        found = self._people_finder().predict(images, still=still)
        if self._judgement is None:
            return found
        least = 0.0 if still else self._judgement.least
        return [
            [p for p, before in zip(self._judgement.found(people), people, strict=True) if before.person_score >= least]
            for people in found
        ]

    def look(
        self, images: Sequence[np.ndarray], people: Sequence[Sequence[Instance]], age: float | None = None
    ) -> list[list[Instance]]:
        """The people of `find` in the same order with the joints seen in their boxes, as in frames of a video; for
        top-down models. ``person_score`` becomes what is left of it now that they are seen.

        The joints of people with a ``track_id`` are where they should be now: for networks that look at that
        (``last_pose``), and, with ``age``, the seconds since they were seen, for a reading that makes use of it
        (`codecs.sides`).
        """
        with sharing(images):
            posed = self._predict_top_down(images, people, self._flip_test(False), few_calls=True, age=age)
            return self._judged(people, posed)

    def joints_score(self, scores: np.ndarray) -> float:
        """What the joint scores (K,) say of a person, see `pose_scores.joints_score`."""
        return pose_scores.joints_score(scores, pose_scores.rules(self.meta, self.options)[0])

    def _judged(self, boxes: Sequence[Sequence[Instance]], posed: Sequence[Sequence[Instance]]) -> list[list[Instance]]:
        """The people with the score that what was found and their final joints make together."""

        def score(found: float, joints: float, quality: float | None) -> float:
            return found * joints if self._judgement is None else self._judgement.seen(found, joints, quality)

        return [
            [
                p.changed(person_score=score(b.person_score, joints, p.quality))
                for b, p, joints in zip(a, c, self._joints_scores(np.stack([p.score for p in c])), strict=True)
            ]
            if c
            else []
            for a, c in zip(boxes, posed, strict=True)
        ]

    def _once(self, people: Sequence[Instance]) -> list[Instance]:
        """A picture's people, those left out (or lowered) whose pose is a better one's."""
        codec, threshold = TOP_DOWN[self.meta.codec], pose_scores.rules(self.meta, self.options)[1]
        areas = [pose_scores.crop_area(codec.crop(np.asarray(p.box_xyxy), self.meta)) for p in people]
        return pose_scores.suppressed(people, areas, self.skeleton.sigmas, threshold, self.options.soft_nms)

    def kept(self, people: Sequence[Instance]) -> list[Instance]:
        """Those who are to be given out, best first."""
        floor, most = self.options.min_score, self.options.max_persons
        return sorted((p for p in people if p.person_score >= floor), key=lambda p: -p.person_score)[:most]

    def _flip_test(self, still: bool) -> bool:
        if self.options.flip_test is not None:
            return self.options.flip_test
        usual = self.meta.extra.get("flip_test", False)
        return still if usual == "pictures" else bool(usual)

    def _people_finder(self) -> PoseModel:
        if self.finder is None:
            self.finder = load_model(
                self._box_weights or DEFAULT_MODEL,
                str(self.device),
                options=_finder_options(self.options),
                speed=self.speed,
            )
            # The shipped model brings its own finder; only that part is needed here.
            if self.finder.top_down and self.finder.finder is not None:
                path, self.finder = self.finder.weights_path, self.finder.finder
                self.finder.weights_path = path
            if self.finder.top_down:
                raise UsageError("the box weights are a top-down model", hint="give a bottom-up one, e.g. a DEKR")
        return self.finder

    def about_finder(self) -> dict[str, Any]:
        """Who finds the people of a top-down model, for the header of a stream."""
        finder = self._people_finder()
        about: dict[str, Any] = {"from": "found", "model": finder.name}
        if finder.weights_path is not None:
            about["weights_sha256"] = finder.weights_sha256()
        return about

    def _predict_bottom_up(self, images: Sequence[np.ndarray], flip_test: bool, still: bool) -> list[list[Instance]]:
        codec = BOTTOM_UP[self.meta.codec]
        # A model may have been made for several scales: it runs at them unless told otherwise.
        own = self.meta.extra.get("scales")
        options = replace(self.options, scales=tuple(own)) if own and self.options.scales == (1.0,) else self.options
        if len(options.scales) > 1 and not codec.multi_scale:
            raise UsageError(f"several scales are not for {self.meta.architecture}", hint="leave --scales out")
        if codec.multi_scale and 1.0 not in options.scales:
            raise UsageError("the scales must contain 1", hint="e.g. --scales 0.5,1,2")
        plans = [
            [codec.crop(image.shape[1], image.shape[0], scale, options.scales, self.meta) for scale in options.scales]
            for image in images
        ]
        found: list[list[Instance]] = [[] for _ in images]
        small_ones_join = codec.padded and not still
        if small_ones_join:
            plans = [in_one_size(plan, _CALL) for plan in plans]
        # Pictures of one size go through the network together, and in a video a picture's smaller looks too.
        groups: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for i, plan in enumerate(plans):
            groups.setdefault(tuple(crop.size_wh for crop in plan), []).append(i)
        for members in groups.values():
            sizes = [crop.size_wh for crop in plans[members[0]]]
            together = [[s] for s in range(len(sizes))]
            if small_ones_join and not self.options.filled:  # what is filled up has one number of pictures
                together = [[s for s in range(len(sizes)) if sizes[s] == size] for size in dict.fromkeys(sizes)]
            for start in range(0, len(members), self.options.batch):
                chunk = members[start : start + self.options.batch]
                outputs: list[Any] = [None] * len(options.scales)
                mirrored: list[Any] = [None] * len(options.scales) if flip_test else []
                for scales in together:
                    with stage(f"{self.role}preprocess"):
                        crops = self.crops(images, [(i, plans[i][s]) for s in scales for i in chunk])
                    maps = self.maps(crops)
                    turned = self.maps(crops, lambda batch: codec.mirror(batch, self.meta)) if flip_test else None
                    for n, s in enumerate(scales):
                        rows = n * len(chunk), (n + 1) * len(chunk)
                        outputs[s] = rows_of(maps, *rows)
                        if flip_test:
                            mirrored[s] = rows_of(turned, *rows)
                with stage(f"{self.role}read maps", pool=torch.get_num_threads() > 1):
                    people = codec.decode(outputs, mirrored, options, self.meta)
                    for i, persons in zip(chunk, people, strict=True):
                        reference = plans[i][codec.reference_scale(options.scales)]
                        found[i] = self._rescored([_to_instance(p, reference) for p in persons])
        return found

    def _rescored(self, people: list[Instance]) -> list[Instance]:
        if self._rescoring is None or not people:
            return people
        poses = np.concatenate([np.stack([p.xy for p in people]), np.stack([p.score for p in people])[..., None]], 2)
        old = torch.tensor([p.person_score for p in people], device=self.device)
        new = rescore(self._rescoring, torch.from_numpy(poses).float().to(self.device), old, self.skeleton.name)
        return [replace(p, person_score=float(np.clip(s, 0, 1))) for p, s in zip(people, new.tolist(), strict=True)]

    def _predict_top_down(
        self,
        images: Sequence[np.ndarray],
        people: Sequence[Sequence[Instance]],
        flip_test: bool,
        turn: float = 0.0,
        few_calls: bool = False,
        age: float | None = None,
    ) -> list[list[Instance]]:
        """People with boxes as the network sees them there, the crops turned by so many degrees; with ``few_calls``
        those of one picture in inputs of one size where they can be (`readout.together`); ``age`` as in `look`."""
        codec = reading(self.meta, self.options.codec)
        fresh = 0.0 if age is None or not codec.remembers else max(1 - age / FADES, 0.0)
        jobs, sizes = [], []
        for i, persons in enumerate(people):
            there = [p for p in persons if p.box_xyxy is not None]
            boxes = [np.asarray(p.box_xyxy) for p in there]
            wanted = [size_for(box, self.meta) for box in boxes]
            jobs += [(i, p) for p in there]
            sizes += together(boxes, wanted, self.meta) if few_calls else wanted
        of_size: dict[tuple[int, int], list[int]] = {}
        for n, seen in enumerate(sizes):
            of_size.setdefault(seen, []).append(n)
        size = self.options.batch
        if self._workers is not None:
            # As many shares as there are workers, but none so small that it isn't worth the calls.
            shares = min(self._workers.count, len(jobs) // self._workers.least_share)
            size = min(size, -(-len(jobs) // max(shares, 1)) or 1)
        halves = shared_ones(images)

        def posed(meta: ModelMeta, part: Sequence[tuple[int, Instance]]) -> list[Instance]:
            crops = [codec.crop(np.asarray(p.box_xyxy), meta) for _, p in part]
            if turn:
                crops = [crop.turned(turn) for crop in crops]
            with taking(halves):
                with stage("crops"):
                    pixels = self.crops(images, [(i, crop) for (i, _), crop in zip(part, crops, strict=True)])
                    last = self._last(part, crops) if self.last_pose or fresh else None
                    shown = with_channel(pixels, self._drawn(last, crops)) if self.last_pose else pixels
                # In the mirror nobody was seen before: the last pose's sides would be exchanged.
                mirrored = self.maps(pixels, _mirror) if flip_test else None
                maps = self._timed_maps(shown, meta)
            with stage("pose read maps", pool=torch.get_num_threads() > 1):
                before = () if not fresh or last is None else (last * np.array([1, 1, fresh]),)
                xy, score = codec.decode(maps, mirrored, meta, *before)
                judged = read_quality(maps, mirrored)
                quality = None if judged is None else _numpy(judged)
                return self._refined([p for _, p in part], crops, _numpy(xy), _numpy(score), quality)

        calls = [
            (replace(self.meta, input_size=seen), rows[start : start + size])
            for seen, rows in of_size.items()
            for start in range(0, len(rows), size)
        ]
        tasks = [partial(posed, meta, [jobs[n] for n in rows]) for meta, rows in calls]
        parts = [task() for task in tasks] if self._workers is None or len(tasks) < 2 else self._workers.each(tasks)
        seen_now = dict(zip(chain.from_iterable(rows for _, rows in calls), chain.from_iterable(parts), strict=True))
        found: list[list[Instance]] = [[] for _ in images]
        for n, (i, _) in enumerate(jobs):
            found[i].append(seen_now[n])
        return found

    def _last(self, people: Sequence[tuple[int, Instance]], crops: Sequence[Crop]) -> np.ndarray | None:
        """(N, K, 3) float64: where the joints of people with an identity, each with its picture, should be in their
        crops, and their scores, 0 of others and of joints that were not sure; None where nobody has an identity."""
        if all(p.track_id is None for _, p in people):
            return None
        last = np.zeros((len(people), self.skeleton.num_keypoints, 3))
        for row, (_, p), crop in zip(last, people, crops, strict=True):
            if p.track_id is not None:
                sure = p.score >= LEAST_SCORE
                row[sure] = np.column_stack([apply_affine(crop.matrix, p.xy[sure]), p.score[sure]])
        return last

    def _drawn(self, last: np.ndarray | None, crops: Sequence[Crop]) -> np.ndarray:
        """(N, h, w) uint8: the poses of `_last` drawn into their crops."""
        width, height = crops[0].size_wh
        if last is None:
            return np.zeros((len(crops), height, width), np.uint8)
        return np.stack([drawn(row[:, :2], row[:, 2] > 0, (width, height), self.skeleton) for row in last])

    def _timed_maps(self, crops: np.ndarray | Tensor, meta: ModelMeta) -> Any:
        """`maps` of crops of a size; what the call took is told to the workers that people are shared out to."""
        costs = None if self._workers is None else self._workers.costs
        if costs is None:
            return self.maps(crops)
        begun = time.thread_time()
        maps = self.maps(crops)
        size = math.prod(meta.input_size) / math.prod(self.meta.input_size)
        costs.add(size * self.called_with(crops), time.thread_time() - begun)
        return maps

    def time_calls(self, costs: CallCosts) -> None:
        """Looks at black pictures, one and then three together, and tells what that took."""
        width, height = self.meta.input_size
        for count in (1, 3):
            black = np.zeros((count, height, width, 3), np.uint8)
            self.maps(black)  # what is made at the first is made then
            begun = time.thread_time()
            self.maps(black)
            costs.add(count, time.thread_time() - begun)

    def _refined(
        self,
        boxes: Sequence[Instance],
        crops: Sequence[Crop],
        xy: np.ndarray,
        score: np.ndarray,
        quality: np.ndarray | None,
    ) -> list[Instance]:
        """People of whom the boxes were known, with the joints of the network (N, K, 2) in pixels of their crops and
        (N, K), the scores of both, and what it thinks of each pose (N,)."""
        inverse = np.stack([crop.inverse for crop in crops])
        xy = (xy @ inverse[:, :, :2].transpose(0, 2, 1) + inverse[:, None, :, 2]).astype(np.float32)
        score = np.clip(score, 0, 1).astype(np.float32)
        means = self._joints_scores(score)
        judged = [None] * len(boxes) if quality is None else quality.tolist()
        return [
            box.changed(
                xy=joints,
                visibility=np.full(len(joints), 2),
                score=own,
                person_score=box.person_score * mean,
                quality=right,
            )
            for box, joints, own, mean, right in zip(boxes, xy, score, means, judged, strict=True)
        ]

    def _joints_scores(self, score: np.ndarray) -> list[float]:
        """`joints_score` of each row of (N, K)."""
        if pose_scores.rules(self.meta, self.options)[0] == "mean":
            return score.mean(1).tolist()
        return [self.joints_score(row) for row in score]


def _finder_options(options: PredictOptions | None) -> PredictOptions:
    """The finder's own run: flip test, scales and the floor are the top-down model's matter."""
    return replace(options or PredictOptions(), flip_test=None, scales=(1.0,), min_score=0.0, codec=None)


def _mirror(batch: Tensor) -> Tensor:
    return batch.flip(3)


def _numpy(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy()


def _to_instance(person: Person, crop: Crop) -> Instance:
    """A decoded person, in network input pixels, taken to image pixels."""
    inverse = crop.inverse
    xy = apply_affine(inverse, person.xy)
    box = None
    if person.box_xyxy is not None:
        corners = apply_affine(inverse, person.box_xyxy.reshape(2, 2))
        box = np.concatenate([corners.min(0), corners.max(0)])
    visibility = np.full(len(xy), 2)
    return Instance(
        xy=xy.astype(np.float32),
        visibility=visibility,
        score=np.clip(person.score, 0, 1).astype(np.float32),
        person_score=float(np.clip(person.person_score, 0, 1)),
        box_xyxy=box if box is not None else keypoint_box(xy, visibility),
        heat=None if person.heat is None else float(np.clip(person.heat, 0, 1)),
    )
