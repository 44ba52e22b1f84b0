"""What a training learns from and is measured on, and what is wrong with it that can be told before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from posecli.data import Source, make_source
from posecli.errors import PoseError
from posecli.formats import read_coco_style
from posecli.settings import TrainSettings
from posecli.skeletons import get_skeleton
from posecli.types import Skeleton, side_of
from posecli.validation import Validation

__all__ = ["check_pictures", "mirror_trouble", "never_labelled", "read_data", "read_validation"]


def read_data(settings: TrainSettings) -> tuple[Skeleton, list[Source]]:
    """The joints that are learnt, and the data sets seen through them.

    Raises:
        PoseError: none is given, one cannot be read, or has none of the joints.
    """
    if not settings.data:
        raise PoseError("no data to learn from", hint="give --data coco.json")
    roots = settings.image_root or ("",) * len(settings.data)
    datasets = [read_coco_style(path, image_root=root or None) for path, root in zip(settings.data, roots, strict=True)]
    skeleton = get_skeleton(settings.skeleton) if settings.skeleton else datasets[0].skeleton
    names = [
        Path(path).name if len({Path(p).name for p in settings.data}) == len(settings.data) else path
        for path in settings.data
    ]
    return skeleton, [make_source(d, skeleton, name) for d, name in zip(datasets, names, strict=True)]


def read_validation(settings: TrainSettings, skeleton: Skeleton) -> Validation | None:
    """What the run is measured on, or None.

    Raises:
        PoseError: it cannot be read, or the run's metric cannot be had on it.
    """
    if not settings.val:
        return None
    if settings.metric == "mean-oks" and not skeleton.sigmas:
        why = f"{skeleton.name} has no sigmas; give --metric pck, or sigmas in a skeleton.toml"
        raise PoseError("no mean OKS on the validation set", settings.val, why)
    dataset = read_coco_style(settings.val, image_root=settings.val_image_root or None)
    validation = Validation(make_source(dataset, skeleton, settings.val), skeleton, settings.val_limit)
    if settings.metric == "pck" and not validation.has_pck():
        length = " and ".join(skeleton.torso) if skeleton.torso else "a box"
        hint = "give --metric mean-oks, or another torso in a skeleton.toml"
        raise PoseError(f"no PCK on the validation set: nobody in it has {length}", settings.val, hint)
    return validation


def check_pictures(sources: Sequence[Source], validation: Validation | None) -> None:
    """PoseError where pictures of labelled people are not there: now, not when their turn comes."""
    for source, records in [
        *((s, [r for r in s.dataset.records if (s.people(r)[1] > 0).any()]) for s in sources),
        *([(validation.source, validation.records)] if validation else []),
    ]:
        missing = [r.file_name for r in records if not (Path(source.dataset.root) / r.file_name).exists()]
        if missing:
            some = f"{len(missing)} of {len(records)} pictures with labelled people are not there"
            hint = f"the first is {missing[0]}, sought in {source.dataset.root}; --image-root or --val-image-root"
            raise PoseError(some, source.name, f"{hint} say where they are")


def never_labelled(skeleton: Skeleton, sources: Sequence[Source]) -> str:
    """Of the joints that no data set has a label of; "" for none."""
    seen = np.zeros(skeleton.num_keypoints, bool)
    for source in sources:
        for record in source.dataset.records:
            if seen.all():
                return ""
            seen |= (source.people(record)[1] > 0).any(axis=0)
    names = [name for name, known in zip(skeleton.keypoints, seen, strict=True) if not known]
    return f"nobody is labelled with {', '.join(names)}: not learnt, yet found somewhere in every pose" if names else ""


def mirror_trouble(skeleton: Skeleton, flip: float) -> str:
    """What mirrored pictures, that share of the samples, would teach wrongly of a skeleton's joints; "" for nothing.

    A joint that has no partner stands for itself in a mirrored picture: one of the left side then lies on the right.
    """
    paired = {joint for pair in skeleton.flip_pairs for joint in pair}
    alone = [name for joint, name in enumerate(skeleton.keypoints) if joint not in paired and side_of(name)]
    remedy = "flip_pairs in its skeleton.toml say which belong together, --set flip=0 mirrors nothing"
    if not flip or skeleton.num_keypoints < 2 or (paired and not alone):
        return ""
    if not paired:
        what = f"skeleton {skeleton.name!r} has no pairs of left and right joints, and pictures are mirrored"
        return f"{what} (flip = {flip:g}): both sides are learnt as one; {remedy}"
    what = f"{', '.join(alone)}: without a partner on the other side, and pictures are mirrored (flip = {flip:g})"
    return f"{what}: learnt of both sides; {remedy}"
