"""Written and read again, a data set is the same, up to what a form says it has no place for."""

from __future__ import annotations

import json
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from doc_samples import picture
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from made_labels import assert_same, assert_same_person, datasets

from posecli.errors import MissingExtra, PoseError
from posecli.exports import ALL, FORMS, export_dataset, export_stream, labels_of_poses
from posecli.formats import WRITERS, coco, read_dataset
from posecli.formats.openpose import read_openpose
from posecli.predictions import FramePoses, StreamHeader, read_stream
from posecli.skeletons import COCO17, MPII16
from posecli.types import Dataset, Instance, Record, Skeleton, Video

FEW = settings(
    max_examples=15, deadline=None, phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck)
)
labels = datasets() | datasets(video=True)


def people_of(dataset: Dataset) -> list[Instance]:
    return [p for r in dataset.records for p in r.instances]


def poorer(dataset: Dataset, keep: frozenset[str]) -> Dataset:
    """The data set without what a form that holds ``keep`` loses."""

    def person(p: Instance) -> Instance:
        return replace(
            p,
            visibility=p.visibility if "hidden joints" in keep else np.where(p.visibility > 0, 2, 0),
            score=p.score if "joint scores" in keep else np.ones_like(p.score),
            person_score=p.person_score if "person scores" in keep else 1.0,
            box_xyxy=p.box_xyxy if "boxes" in keep else None,
            head_box_xyxy=p.head_box_xyxy if "head boxes" in keep else None,
            area=p.area if "areas" in keep else None,
            ignore=p.ignore and "crowds" in keep,
            heat=p.heat if "heat" in keep else None,
            extra=p.extra if "further keys" in keep else {},
        )

    def record(r: Record) -> Record:
        people = [person(p) for p in r.instances if "people without joints" in keep or (p.visibility > 0).any()]
        return replace(r, instances=tuple(people), extra=r.extra if "further keys" in keep else {})

    records = map(record, dataset.records)
    return replace(dataset, records=tuple(r for r in records if r.instances or "frames without people" in keep))


@FEW
@given(labels)
def test_coco(dataset: Dataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export_dataset(dataset, Path(folder) / "a.json", "coco")
        again = coco.read(Path(folder) / "a.json", warn=lambda message: None)
        # COCO wants a box and an area of everybody, and an id.
        for first, second in zip(people_of(dataset), people_of(again), strict=True):
            np.testing.assert_allclose(second.score, first.score, atol=5.1e-5)
            filled = replace(second, extra={k: v for k, v in second.extra.items() if k != "id"}, score=first.score)
            if first.area is None:
                filled = replace(filled, area=None)
            if first.box_xyxy is None:
                filled = replace(filled, box_xyxy=None)
            plain = replace(first, extra={k: v for k, v in first.extra.items() if k != "id"})
            assert_same_person(plain, filled, 1e-4)
        strip = tuple(replace(r, instances=()) for r in again.records)
        assert strip == tuple(replace(r, instances=()) for r in dataset.records) and again.videos == dataset.videos
        # From then on nothing changes any more.
        coco.write(again, Path(folder) / "b.json")
        assert (Path(folder) / "a.json").read_bytes() == (Path(folder) / "b.json").read_bytes()


@FEW
@given(labels)
def test_parquet_holds_everything(dataset: Dataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        assert export_dataset(dataset, path, "parquet", warn=pytest.fail) == len(people_of(dataset))
        assert_same(dataset, read_dataset(path, warn=pytest.fail), 0)


@FEW
@given(labels)
def test_stream_holds_everything_but_digits(dataset: Dataset) -> None:
    """Labels as poses and back: places are rounded to 2 decimals, scores to 4."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        export_dataset(dataset, path, "stream", warn=pytest.fail)
        again = labels_of_poses(read_stream(path), root=folder, min_score=0, score_threshold=0, warn=pytest.fail)
    assert again.skeleton == dataset.skeleton
    assert [(r.image_id, r.file_name, r.frame_id) for r in again.records] == [
        (r.image_id, r.file_name, r.frame_id) for r in dataset.records
    ]
    for first, second in zip(people_of(dataset), people_of(again), strict=True):
        # Keys that a stream has a meaning for are read as that.
        extra = {k: v for k, v in first.extra.items() if k != "id"}
        score = np.where(first.visibility > 0, first.score, 0)
        again_score = np.where(second.visibility > 0, second.score, 0)
        np.testing.assert_allclose(again_score, score, atol=5e-5)
        area = None if first.area is None else round(first.area, 4)
        rest = replace(second, score=first.score, xy=second.xy.astype(np.float64))
        assert_same_person(replace(first, extra=extra, area=area), rest, 0.0101)


@pytest.mark.parametrize("form", ["csv", "csv-wide"])
@FEW
@given(dataset=datasets(rich=False) | datasets(rich=False, video=True) | datasets() | datasets(video=True))
def test_tables(form: str, dataset: Dataset) -> None:
    tracked = all(p.track_id is not None for p in people_of(dataset))
    scored = any((p.score[p.visibility > 0] != 1).any() for p in people_of(dataset))
    keep = FORMS[form].holds - ({"hidden joints"} if scored else {"joint scores", "person scores"})
    wanted = poorer(dataset, frozenset(keep))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        if form == "csv-wide" and "person" in dataset.skeleton.keypoints and scored:
            with pytest.raises(PoseError, match="means something else: 'person_score'"):
                export_dataset(dataset, path, form)
            return
        export_dataset(dataset, path, form)
        if not wanted.records:
            return
        again = read_dataset(path, warn=pytest.fail, score_threshold=0)
    assert again.skeleton.keypoints == dataset.skeleton.keypoints
    assert [(r.file_name, r.frame_id, r.width, r.height) for r in again.records] == [
        (r.file_name, r.frame_id, r.width, r.height) for r in wanted.records
    ]
    for first, second in zip(people_of(wanted), people_of(again), strict=True):
        np.testing.assert_allclose(np.where(second.score > 0, second.score, first.score), first.score, atol=5.1e-5)
        if scored:  # a confidence of somebody outside the picture is no label
            inside = (first.xy >= -0.5).all(1) & (first.xy < (639.5, 479.5)).all(1)
            there = (first.visibility > 0) & inside
            first = replace(
                first, visibility=np.where(there, 2, 0), xy=np.where(there[:, None], first.xy, np.nan),
                score=second.score,
            )  # fmt: skip
        if not tracked:
            second = replace(second, track_id=first.track_id)
        person_score = first.person_score if scored else 1.0
        area = None if first.area is None else round(first.area, 4)
        assert_same_person(replace(first, person_score=person_score, area=area), second, 2e-3)


@pytest.mark.parametrize("form", ["csv", "csv-wide"])
def test_tables_tell_people_without_an_identity_from_those_with_one(form: str, tmp_path: Path) -> None:
    """`infer --track` gives none to people below the display threshold, who stand in the stream all the same."""
    xy = np.stack([np.arange(17.0), np.arange(17.0)], 1).astype(np.float32)
    ids = (3, None, 2, -1, 1, 3)  # the last one's is somebody else's
    people = tuple(Instance(xy, np.full(17, 2), np.ones(17, np.float32), track_id=i) for i in ids)
    export_stream([(StreamHeader("a.mp4", COCO17), FramePoses(0, people))], tmp_path / "a.csv", form)
    head, *rows = [line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines()]
    assert list(dict.fromkeys(row[head.index("person")] for row in rows)) == ["3", "4", "2", "5", "1", "6"]


def test_videos_whose_ids_are_names_in_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    person = Instance(np.array([[5.0, 6.0]]), np.array([2]), np.ones(1, np.float32))
    videos = tuple(Video(n, n, f"{n}.mp4", 64, 48, 25.0, 2) for n in ("front", "side"))  # type: ignore[arg-type]
    records = tuple(Record(i, f"{n}.mp4", 64, 48, (person,), n, 1) for i, n in enumerate(("side", "front")))  # type: ignore[arg-type]
    export_dataset(Dataset(Skeleton("dot", ("nose",)), records, videos), tmp_path / "a.parquet", "parquet")
    back = read_dataset(tmp_path / "a.parquet")
    names = {v.id: v.name for v in back.videos}
    assert [(names[r.video_id], r.file_name, r.frame_id) for r in back.records] == [
        ("side", "side.mp4", 1),
        ("front", "front.mp4", 1),
    ]


@pytest.mark.parametrize("suffix", [".mp4", ".MTS", ".m2ts", ".ogv"])
@pytest.mark.parametrize("fps", [25.0, 0.0])
def test_frames_of_a_video_stay_frames_in_a_stream(tmp_path: Path, suffix: str, fps: float) -> None:
    """Also where nobody says its rate, whatever its suffix, and in whatever order the labels are."""
    name = f"clip{suffix}"
    person = Instance(np.array([[5.0, 6.0]]), np.array([2]), np.ones(1, np.float32), area=4.0)
    records = tuple(Record(7 + i, name, 64, 48, (person,), 1, i) for i in (2, 0, 1))
    dataset = Dataset(Skeleton("dot", ("nose",)), records, (Video(1, "clip", name, 64, 48, fps, 3),), str(tmp_path))
    export_dataset(dataset, tmp_path / "s.jsonl", "stream")
    lines = [line for _, line in read_stream(tmp_path / "s.jsonl")]
    assert [(line.frame, line.file, line.image_id) for line in lines] == [(0, None, 7), (1, None, 8), (2, None, 9)]
    back = labels_of_poses(read_stream(tmp_path / "s.jsonl"), root=tmp_path, warn=lambda message: None)
    assert [(r.file_name, r.frame_id, r.image_id) for r in back.records] == [(name, i, 7 + i) for i in range(3)]


@pytest.mark.parametrize("form", ["csv", "csv-wide"])
def test_visibility_that_scores_do_not_tell_is_said(tmp_path: Path, form: str) -> None:
    """A table has one of the two; a joint that was set hidden by hand, or visible outside the picture, is lost."""
    xy, score = np.array([[5.0, 6.0], [7.0, 8.0]]), np.array([0.9, 0.2], np.float32)
    as_told, hidden = (Instance(xy, np.array(v), score) for v in ([2, 1], [1, 1]))
    outside = Instance(xy + 60, np.array([2, 1]), score)
    said: list[str] = []
    for n, people in enumerate(((as_told,), (as_told, hidden, outside))):
        dataset = Dataset(Skeleton("two", ("a", "b")), (Record(1, "a.jpg", 64, 48, people),), (), str(tmp_path))
        export_dataset(dataset, tmp_path / f"{n}.csv", form, warn=said.append)
    assert said == [f"{tmp_path}/1.csv: {form} has no place for hidden joints (2)"]


def test_frames_of_camcorders_are_numbered_in_deeplabcut(tmp_path: Path) -> None:
    person = Instance(np.array([[5.0, 6.0]]), np.array([2]), np.ones(1, np.float32))
    records = tuple(Record(1 + i, "00001.MTS", 64, 48, (person,), 1, i) for i in range(2))
    videos = (Video(1, "00001", "00001.MTS", 64, 48, 50.0, 2),)
    export_dataset(Dataset(Skeleton("dot", ("nose",)), records, videos), tmp_path / "t.csv", "deeplabcut")
    assert [row.split(",")[0] for row in (tmp_path / "t.csv").read_text().splitlines()[-2:]] == ["0", "1"]


def test_an_identity_of_minus_one_is_none_in_a_stream(tmp_path: Path) -> None:
    xy = np.stack([np.arange(17.0), np.arange(17.0)], 1)
    people = tuple(Instance(xy, np.full(17, 2), np.ones(17, np.float32), track_id=i) for i in (-1, -1, 0, 5))
    export_dataset(Dataset(COCO17, (Record(1, "a.jpg", 64, 48, people),)), tmp_path / "a.jsonl", "stream")
    ((_, poses),) = read_stream(tmp_path / "a.jsonl")
    assert [p.track_id for p in poses.instances] == [None, None, 0, 5]


@pytest.mark.parametrize("form", sorted(WRITERS))
def test_labelling_tools(form: str, tmp_path: Path, cli: Callable) -> None:
    """Through the command there and back: pictures, joints and their visibility, or the loss is said."""
    people = []
    for n in range(3):
        xy = np.stack([np.arange(17) * 2.0 + n, np.arange(17) + 5.5], 1)
        visibility = np.where(np.arange(17) % 5 == n, 0, 2 - (np.arange(17) % 2))
        xy[visibility == 0] = np.nan
        people.append(Instance(xy, visibility, np.ones(17, np.float32), box_xyxy=np.array([0.0, 5, 40, 30])))
        picture(tmp_path / f"images/{n}.jpg")
    records = tuple(Record(n + 1, f"{n}.jpg", 64, 48, (p,) if n < 2 else ()) for n, p in enumerate(people))
    coco.write(Dataset(COCO17, records, (), str(tmp_path / "images")), tmp_path / "a.json")
    suffix = {"cvat": ".xml", "labelstudio": ".json", "deeplabcut": ".csv"}.get(form, "")
    out = tmp_path / "images" / "out.csv" if form == "deeplabcut" else tmp_path / f"out{suffix}"
    done = cli("convert", tmp_path / "a.json", "--out", out, "--to", form)
    assert done.code == 0, done.err
    back = tmp_path / "back.json"
    again = cli("convert", out, "--out", back)  # recognised for what it is
    assert again.code == 0, again.err
    read = coco.read(back)
    assert read.skeleton.keypoints == COCO17.keypoints
    assert [Path(r.file_name).name for r in read.records] == ["0.jpg", "1.jpg", "2.jpg"]
    hidden = "hidden joints" not in done.err
    for record, first in zip(read.records, people[:2], strict=False):
        (second,) = record.instances
        np.testing.assert_array_equal(second.visibility, first.visibility if hidden else (first.visibility > 0) * 2)
        np.testing.assert_allclose(second.xy, first.xy, atol=1e-3)
    assert coco.absent_files(read) == []


@FEW
@given(datasets(video=True, skeletons=(COCO17,)))
def test_openpose(dataset: Dataset) -> None:
    """Joints, scores and identities of every frame, also of empty ones."""
    with tempfile.TemporaryDirectory() as folder:
        export_dataset(dataset, Path(folder) / "op", "openpose")
        again = read_openpose(Path(folder) / "op")
    assert again.labelled == tuple(r.frame_id for r in dataset.records)
    for first, second in zip(people_of(dataset), again.rows, strict=True):
        there = (first.visibility > 0) & (first.score > 0)
        np.testing.assert_allclose(second.xy[there], first.xy[there], atol=5.1e-4)
        np.testing.assert_allclose(second.third, np.where(first.visibility > 0, first.score, 0), atol=1e-4)
        assert second.track_id == first.track_id


@FEW
@given(datasets())
def test_coco_results(dataset: Dataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.json"
        export_dataset(dataset, path, "coco-results")
        results = json.loads(path.read_text())
    wanted = [(r.image_id, p) for r in dataset.records for p in r.instances if (p.visibility > 0).any()]
    assert [r["image_id"] for r in results] == [i for i, _ in wanted]
    for result, (_, person) in zip(results, wanted, strict=True):
        points = np.array(result["keypoints"]).reshape(-1, 3)
        there = person.visibility > 0
        np.testing.assert_allclose(points[there, :2], person.xy[there], atol=5.1e-3)
        np.testing.assert_allclose(points[there, 2], person.score[there], atol=5.1e-5)
        assert (points[~there] == 0).all() and result.get("track_id") == person.track_id


@FEW
@given(labels, st.sampled_from(sorted({*FORMS} - {*WRITERS, "csv-wide"})))
def test_what_is_lost_is_said(dataset: Dataset, form: str) -> None:
    """Each loss is counted; forms that hold everything say nothing."""
    said: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        export_dataset(dataset, Path(folder) / "a", form, warn=said.append)
    losses = [s for s in said if "has no place for" in s]
    if FORMS[form].holds == ALL:
        assert not losses
        return
    tracked = sum(p.ignore for p in people_of(dataset))
    assert (f"crowds ({tracked})" in " ".join(losses)) == (tracked > 0)
    empty = sum(not r.instances for r in dataset.records)
    if form in ("csv", "csv-wide", "coco-results"):
        assert (f"frames without people ({empty})" in " ".join(losses)) == (empty > 0)


def poses(sources: int = 2, frames: int = 3, picture: bool = False) -> list[tuple[StreamHeader, FramePoses]]:
    found = []
    for n in range(sources):
        header = StreamHeader(f"clip{n}.mp4", COCO17, 64, 48, 25.0, threshold=0.5)
        for f in range(frames):
            xy = np.stack([np.arange(17) + 0.25 * f, np.arange(17.0)], 1).astype(np.float32)
            score = np.linspace(0.1, 0.9, 17).astype(np.float32)
            people = [
                Instance(xy, np.full(17, 2), score, 0.75, np.array([1.0, 2, 9, 9]), track_id=4, heat=0.5),
                Instance(xy + 1, np.full(17, 2), score, 0.25),
            ]
            where = {"file": f"clip{n}/{f}.jpg"} if picture else {"time": f / 25}
            found.append((header, FramePoses(f, tuple(people[: 2 if f else 0]), **where)))
    return found


def test_poses_as_labels(tmp_path: Path) -> None:
    """People below the display threshold are left out and counted; joints are visible above --score-threshold."""
    said: list[str] = []
    count = export_stream(poses(), tmp_path / "a.json", "coco-dataset", root=tmp_path, warn=said.append)
    assert count == 4 and said == ["4 people below the threshold were left out; --min-score 0 keeps them"]
    again = coco.read(tmp_path / "a.json")
    assert [(v.file_name, v.num_frames, v.fps) for v in again.videos] == [("clip0.mp4", 3, 25), ("clip1.mp4", 3, 25)]
    assert [(r.video_id, r.frame_id, len(r.instances)) for r in again.records][:3] == [(1, 0, 0), (1, 1, 1), (1, 2, 1)]
    first = again.records[1].instances[0]
    assert first.visibility.tolist() == [1] * 5 + [2] * 12  # 0.3 is the fifth score
    assert first.person_score == 0.75 and first.heat == 0.5 and first.track_id == 4
    np.testing.assert_allclose(first.score, np.linspace(0.1, 0.9, 17), atol=1e-4)
    assert export_stream(poses(), tmp_path / "b.json", "coco-dataset", min_score=0, warn=said.append) == 8
    pictures = labels_of_poses(poses(picture=True), root=tmp_path, warn=said.append)
    assert pictures.records[4].file_name == "clip1/1.jpg" and pictures.videos == ()


def test_poses_to_parquet_and_back(tmp_path: Path) -> None:
    assert export_stream(poses(), tmp_path / "a.parquet", "parquet", warn=pytest.fail) == 8
    again = read_dataset(tmp_path / "a.parquet")
    assert len(again.records) == 6 and [len(r.instances) for r in again.records] == [0, 2, 2, 0, 2, 2]
    assert [(v.file_name, v.num_frames) for v in again.videos] == [("clip0.mp4", 3), ("clip1.mp4", 3)]
    first, wanted = again.records[1].instances[0], poses()[1][1].instances[0]
    np.testing.assert_array_equal(first.xy, wanted.xy)
    assert (first.person_score, first.heat, first.track_id) == (0.75, 0.5, 4)


def test_parquet_is_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet

    monkeypatch.setattr("posecli.formats.parquet._GROUP", 40)
    export_stream(poses(), tmp_path / "a.parquet", "parquet")
    file = pyarrow.parquet.ParquetFile(tmp_path / "a.parquet")
    assert file.num_row_groups == 3 and file.metadata.num_rows == 8 * 17 + 2
    table = file.read().to_pylist()
    assert table[1]["joint"] == "nose" and table[1]["x"] == 0.25 and table[1]["source"] == "clip0.mp4"
    assert len(read_dataset(tmp_path / "a.parquet").records) == 6


def test_parquet_of_others_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(PoseError, match="not a Parquet file"):
        read_dataset(tmp_path / "a.parquet", "parquet")
    pa.parquet.write_table(pa.table({"x": [1]}), tmp_path / "b.parquet")
    with pytest.raises(PoseError, match="not a table that posecli wrote"):
        read_dataset(tmp_path / "b.parquet", "parquet")
    table = pa.table({"x": [1]}).replace_schema_metadata({"posecli": json.dumps(
        {"kind": "labels", "skeleton": COCO17.to_json()})})  # fmt: skip
    pa.parquet.write_table(table, tmp_path / "c.parquet")
    with pytest.raises(PoseError, match="no column 'source'"):
        read_dataset(tmp_path / "c.parquet")


def test_damaged_parquet_is_one_error(tmp_path: Path) -> None:
    """Bytes changed anywhere: read as something that is well-formed, or refused; never anything else."""
    export_stream(poses(), tmp_path / "a.parquet", "parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for n in range(150):
        changed = bytearray(data[: len(data) if n % 3 else int(rng.integers(len(data)))])
        for place in rng.integers(0, max(len(changed), 1), 1 + n % 5) if changed else ():
            changed[place] = rng.integers(256)
        (tmp_path / "b.parquet").write_bytes(changed)
        try:
            read_dataset(tmp_path / "b.parquet", "parquet", warn=lambda message: None)
        except PoseError:
            refused += 1
    assert refused > 50


def test_without_pyarrow_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'posecli\[parquet\]'"):
        export_stream(poses(), tmp_path / "a.parquet", "parquet")
    assert list(tmp_path.iterdir()) == []


def table(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["source,frame,joint,x,y", "a.jpg,0,nose,1,2"], "nothing says how large 'a.jpg' is"),
        (["source,frame,width,height,joint,x,y", ",0,8,8,nose,1,2"], "row 2: the row does not say which video"),
        (["source,time,width,height,joint,x,y", "a.mp4,0,8,8,nose,1,2"], "row 2: the row has no frame number"),
        (["source,frame,width,height,nose_x,nose_y", "a.jpg,0,8,8,1,2", "a.jpg,1,8,8,1,2"], "has 2 frame numbers"),
        (["source,frame,width,height,nose_x,nose_y", "a.mp4,0,8,8,1,2", "a.mp4,1,9,8,1,2"], "9 x 8 where 'a.mp4' has"),
        (["source,frame,width,height,nose_x,nose_y", "a.mp4,0,-8,8,1,2"], "width is '-8'"),
    ],
)
def test_tables_that_do_not_say_enough(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(PoseError) as error:
        read_dataset(table(tmp_path / "a.csv", lines), "csv")
    assert message in str(error.value) and "a.csv" in str(error.value)


def test_a_table_of_several_sources_by_hand(tmp_path: Path, cli: Callable) -> None:
    path = table(
        tmp_path / "a.csv",
        ["source;frame;width;height;person;joint;x;y;v", "b/1.png;0;64;48;1;nose;1,5;2;2".replace(",", "."),
         "b/1.png;0;64;48;1;tail;;;0", "clip.mp4;7;64;48;1;nose;3;4;1"],
    )  # fmt: skip
    done = cli("convert", path, "--out", tmp_path / "a.json")
    assert done.code == 0 and "csv (a table with a column 'source')" in done.err, done.err
    dataset = coco.read(tmp_path / "a.json")
    assert [(r.file_name, r.frame_id) for r in dataset.records] == [("b/1.png", None), ("clip.mp4", 7)]
    assert dataset.records[1].instances[0].visibility.tolist() == [1, 0]


def test_help_names_every_form(cli: Callable) -> None:
    from posecli.cli import convert as verb
    from posecli.formats import FORMATS

    assert verb._FORMS.replace(" ", "").split(",") == ["coco", *FORMS]
    assert verb._FORMATS.replace(" ", "").split(",") == ["auto", *FORMATS]


@pytest.mark.parametrize("form", [name for name, form in FORMS.items() if form.write_frames is not None])
def test_poses_are_written_frame_by_frame(form: str, tmp_path: Path) -> None:
    """However long a stream is, only a few of its frames are held at a time."""
    alive: list[weakref.ref[Instance]] = []
    most = 0

    def frames() -> Iterator[tuple[StreamHeader, FramePoses]]:
        nonlocal most
        header = StreamHeader("clip.mp4", COCO17, 64, 48, 25.0)
        for n in range(60):
            poses = FramePoses(n, (Instance(np.ones((17, 2)), np.full(17, 2), np.ones(17, np.float32)),), n / 25)
            alive.append(weakref.ref(poses.instances[0]))
            most = max(most, sum(r() is not None for r in alive))
            yield header, poses

    assert export_stream(frames(), tmp_path / "out", form, to_skeleton=MPII16) == 60
    assert 0 < most <= 4
