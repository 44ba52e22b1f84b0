"""Random data sets for round trips, and what it means that two are the same."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from posecli.skeletons import COCO17, MPII16
from posecli.types import Dataset, Instance, Record, Skeleton, Video

ODD = Skeleton("odd", ("Knie links", 'a"b<c>&', "nase;ß", "鼻", "x,y", "person"), ((0, 1),), (0.1,) * 6)
WIDTH, HEIGHT = 640, 480
_number = st.floats(-50, 700, allow_nan=False, width=32)


@st.composite
def people(draw: st.DrawFn, skeleton: Skeleton, tracked: bool, rich: bool = True) -> Instance:
    count = skeleton.num_keypoints
    visibility = np.array(draw(st.lists(st.sampled_from((0, 1, 2)), min_size=count, max_size=count)))
    xy = np.array(draw(st.lists(st.tuples(_number, _number), min_size=count, max_size=count)))
    xy[visibility == 0] = np.nan
    box = draw(st.none() | st.tuples(_number, _number, st.floats(1, 99, width=16), st.floats(1, 99, width=16)))
    scores = draw(st.none() | st.lists(st.floats(0.125, 1, width=16), min_size=count, max_size=count)) if rich else None
    return Instance(
        xy=xy,
        visibility=visibility,
        score=np.ones(count, np.float32) if scores is None else np.array(scores, np.float32),
        person_score=draw(st.sampled_from((1.0, 0.25))) if rich else 1.0,
        box_xyxy=None if box is None else np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]]),
        area=draw(st.none() | st.floats(0, 1e4, width=32)) if rich else None,
        ignore=rich and draw(st.booleans()),
        heat=draw(st.none() | st.just(0.5)) if rich else None,
        head_box_xyxy=np.array([1.0, 2.0, 3.5, 4.0]) if rich and draw(st.booleans()) else None,
        extra=draw(st.sampled_from(({}, {"id": 7, "note": "ä <&"}))) if rich else {},
    )


@st.composite
def datasets(
    draw: st.DrawFn, rich: bool = True, video: bool = False, skeletons: tuple = (COCO17, MPII16, ODD)
) -> Dataset:
    """Pictures (or frames of one video) with 0 to 3 people each."""
    skeleton = draw(st.sampled_from(skeletons))
    records = []
    frames = sorted(draw(st.sets(st.integers(0, 9), min_size=1, max_size=4)))
    tracked = draw(st.booleans())
    for n, frame in enumerate(frames):
        group = draw(st.lists(people(skeleton, tracked, rich), max_size=3))
        tracks = draw(st.permutations([1, 4, 9]))
        if tracked:
            group = [_tracked(p, t) for p, t in zip(group, tracks, strict=False)]
        names = (f"a {frame}.jpg", f"tief/ä&{frame}.png", f"b/c/{frame}'q.jpg")
        name = "clip.mp4" if video else names[n % 3]
        extra = {"is_labeled": False} if rich and not group and draw(st.booleans()) else {}
        where = {"video_id": 1, "frame_id": frame} if video else {}
        records.append(Record(100 + n, name, WIDTH, HEIGHT, tuple(group), extra=extra, **where))
    videos = (Video(1, "clip", "clip.mp4", WIDTH, HEIGHT, 25.0, 10, ("front",)),) if video else ()
    return Dataset(skeleton, tuple(records), videos, "")


def _tracked(person: Instance, track: int) -> Instance:
    from dataclasses import replace

    return replace(person, track_id=track)


def assert_same(first: Dataset, second: Dataset, tolerance: float = 1e-6, names: bool = True) -> None:
    """The same people in the same pictures, with everything that is known of them."""
    assert first.skeleton == second.skeleton
    assert len(first.records) == len(second.records)
    assert first.videos == second.videos
    for a, b in zip(first.records, second.records, strict=True):
        assert (a.image_id, a.width, a.height, a.video_id, a.frame_id) == (
            b.image_id,
            b.width,
            b.height,
            b.video_id,
            b.frame_id,
        )
        assert not names or a.file_name == b.file_name
        assert dict(a.extra) == dict(b.extra)
        assert len(a.instances) == len(b.instances), (len(a.instances), len(b.instances))
        for p, q in zip(a.instances, b.instances, strict=True):
            assert_same_person(p, q, tolerance)


def assert_same_person(p: Instance, q: Instance, tolerance: float = 1e-6) -> None:
    np.testing.assert_array_equal(p.visibility, q.visibility)
    np.testing.assert_allclose(p.xy[p.visibility > 0], q.xy[p.visibility > 0], rtol=0, atol=tolerance)
    assert np.isnan(q.xy[q.visibility == 0]).all()
    np.testing.assert_allclose(p.score, q.score, atol=1e-6)
    for name in ("box_xyxy", "head_box_xyxy"):
        mine, other = getattr(p, name), getattr(q, name)
        assert (mine is None) == (other is None), name
        if mine is not None:
            np.testing.assert_allclose(mine, other, rtol=0, atol=tolerance)
    assert (p.person_score, p.area, p.ignore, p.track_id, p.heat) == (
        q.person_score,
        q.area,
        q.ignore,
        q.track_id,
        q.heat,
    )
    assert dict(p.extra) == dict(q.extra)
