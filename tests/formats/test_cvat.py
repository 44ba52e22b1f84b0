"""CVAT XML: what it is read as, round trips, and what is refused."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from made_labels import assert_same, datasets

from posecli.convert import recording_names
from posecli.errors import PoseError
from posecli.formats import WRITERS, detect, read_dataset
from posecli.skeletons import COCO17
from posecli.types import Dataset, Instance, Record, Skeleton, Video

POINT = '<points label="{}" source="manual" outside="{}" occluded="{}" points="{}"></points>'


def images(path: Path, body: str, head: str = "") -> Path:
    """A file as CVAT exports it for images."""
    path.write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n'
        + head
        + "<annotations>\n<version>1.1</version><meta><task><id>1</id>"
        "<mode>annotation</mode></task></meta>"
        f'<image id="0" name="a/p.jpg" width="640" height="480">{body}</image>'
        '<image id="1" name="q.jpg" width="64" height="48"></image></annotations>'
    )
    return path


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(datasets())
def test_round_trip_of_pictures_loses_nothing(dataset: Dataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.xml"
        WRITERS["cvat"](dataset, path)
        assert_same(dataset, read_dataset(path, warn=pytest.fail))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(datasets(video=True))
def test_round_trip_of_a_video_loses_nothing(dataset: Dataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.xml"
        WRITERS["cvat"](dataset, path)
        assert_same(dataset, read_dataset(path, warn=pytest.fail))


def test_what_cvat_itself_exports_for_images(tmp_path: Path) -> None:
    skeleton = "".join(
        POINT.format(*p) for p in (("nose", 0, 0, "10.5,20"), ("left_eye", 0, 1, "11,21"), ("right_eye", 1, 0, "9,9"))
    )
    body = (
        f'<skeleton label="person" source="manual" z_order="0" group_id="4">{skeleton}</skeleton>'
        '<box label="person_box" source="manual" occluded="0" xtl="1" ytl="2" xbr="30" ybr="40" group_id="4"></box>'
        '<points label="nose" source="manual" occluded="0" points="100,101" z_order="0" group_id="9"></points>'
        '<points label="left_eye" source="manual" occluded="1" points="102,99" z_order="0" group_id="9"></points>'
        '<polygon label="car" source="manual" occluded="0" points="1,2;3,4;5,6" z_order="0"></polygon>'
    )
    path = images(tmp_path / "annotations.xml", body)
    assert detect(tmp_path) == ("cvat", "annotations.xml is XML of <annotations>")
    notes: list[str] = []
    dataset = read_dataset(path, skeleton="coco17", warn=notes.append)
    first, second = dataset.records[0].instances
    assert first.xy[:2].tolist() == [[10.5, 20], [11, 21]] and first.visibility[:3].tolist() == [2, 1, 0]
    assert first.box_xyxy is not None and first.box_xyxy.tolist() == [1, 2, 30, 40]
    assert second.xy[:2].tolist() == [[100, 101], [102, 99]] and second.visibility[:2].tolist() == [2, 1]
    assert [r.file_name for r in dataset.records] == ["a/p.jpg", "q.jpg"] and dataset.records[1].instances == ()
    assert len(notes) == 1 and "polygons" in notes[0]


def test_what_cvat_itself_exports_for_video(tmp_path: Path) -> None:
    def shape(frame: int, outside: int, x: float) -> str:
        point = f'<points label="nose" keyframe="1" outside="{outside}" occluded="0" points="{x},5.00"></points>'
        return f'<skeleton frame="{frame}" keyframe="1" z_order="0">{point}</skeleton>'

    (tmp_path / "v.xml").write_text(
        "<annotations><version>1.1</version><meta><task><size>4</size><mode>interpolation</mode><start_frame>10</start_frame>"
        "<stop_frame>25</stop_frame><frame_filter>step=5</frame_filter><labels><label><name>human</name><type>skeleton</type>"
        "</label><label><name>nose</name><type>points</type><parent>human</parent></label><label><name>tail</name>"
        "<type>points</type><parent>human</parent></label></labels><original_size><width>64</width><height>48</height>"
        "</original_size><source>walk.mp4</source></task></meta>"
        '<track id="3" label="human" source="manual">'
        f"{shape(10, 0, 1)}{shape(15, 0, 2)}{shape(20, 1, 2)}</track></annotations>"
    )
    dataset = read_dataset(tmp_path / "v.xml", warn=pytest.fail)
    assert dataset.skeleton.keypoints == ("nose", "tail")
    assert [r.frame_id for r in dataset.records] == [10, 15, 20, 25]
    assert [len(r.instances) for r in dataset.records] == [1, 1, 0, 0]
    assert dataset.records[1].instances[0].track_id == 3 and dataset.records[1].file_name == "walk.mp4"
    assert dataset.videos == (Video(1, "walk", "walk.mp4", 64, 48, 0.0, 26),)


def test_corrections_come_back_when_cvat_rewrote_the_head(tmp_path: Path) -> None:
    """CVAT writes <meta> anew and knows nothing of our note there; attributes of the people stay."""
    xy = np.full((17, 2), np.nan)
    xy[:3] = [[10, 11], [12, 13], [14, 15]]
    visibility = np.array([2, 2, 1] + [0] * 14)
    person = Instance(xy, visibility, np.where(visibility, 0.5, 0).astype(np.float32), 0.75, track_id=8)
    path = tmp_path / "x.xml"
    WRITERS["cvat"](Dataset(COCO17, (Record(3, "p.jpg", 640, 480, (person,)),)), path)
    text = re.sub(r"<posecli>.*?</posecli>", "", path.read_text(), flags=re.DOTALL)
    path.write_text(text.replace('points="10.0,11.0"', 'points="15.50,16.25"'))
    dataset = read_dataset(path, warn=pytest.fail)
    again = dataset.records[0].instances[0]
    assert dataset.skeleton == COCO17 and again.xy[0].tolist() == [15.5, 16.25]
    assert again.visibility[:4].tolist() == [2, 2, 1, 0] and (again.track_id, again.person_score) == (8, 0.75)


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]>'


@pytest.mark.parametrize(
    ("body", "head", "message"),
    [
        ("", BOMB, "a document type or an entity"),
        ("", '<!DOCTYPE a SYSTEM "file:///etc/passwd">', "a document type or an entity"),
        ("<oops>", "", "not XML: mismatched tag"),
        (POINT.format("nose", 0, 0, "1,b"), "", "image a/p.jpg, shape 0: points of 'nose' are '1,b'"),
        (POINT.format("nose", 0, 0, "1,nan"), "", "not finite"),
        (POINT.format("tentacle", 0, 0, "1,2"), "", "unknown joint 'tentacle'"),
        (POINT.format("nose", 0, 0, "1,2") * 2, "", "a second 'nose' for one person"),
        (POINT.format("nose", 0, 0, "1,2;3,4"), "", "2 points in one shape"),
        ('<box label="person_box" xtl="1" ytl="2" xbr="x" ybr="4"></box>', "", "xbr is 'x'"),
    ],
)
def test_errors_name_file_and_record(tmp_path: Path, body: str, head: str, message: str) -> None:
    path = images(tmp_path / "annotations.xml", body, head)
    with pytest.raises(PoseError) as error:
        read_dataset(path, "cvat", skeleton="coco17")
    assert message in str(error.value) and "annotations.xml" in str(error.value)


def test_several_videos_are_refused(tmp_path: Path) -> None:
    records = tuple(Record(n, f"{n}.mp4", 64, 48, (), n, 0) for n in (1, 2))
    with pytest.raises(PoseError, match="--frames"):
        WRITERS["cvat"](Dataset(COCO17, records), tmp_path / "x.xml")


def test_names_that_xml_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PoseError, match="XML cannot hold"):
        WRITERS["cvat"](Dataset(COCO17, (Record(1, "a\x01.jpg", 64, 48),)), tmp_path / "x.xml")


PROJECT = (
    '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><project><id>3</id><tasks>'
    "<task><id>10</id><stop_frame>1</stop_frame><original_size><width>64</width><height>48</height></original_size>"
    "<source>one.mp4</source></task><task><id>11</id><stop_frame>2</stop_frame><original_size><width>640</width>"
    "<height>480</height></original_size><source>two.mp4</source></task></tasks></project></meta>{}</annotations>"
)


def test_a_project_of_videos_keeps_each_ones_tracks(tmp_path: Path) -> None:
    """CVAT's writer gives tracks their ``task_id`` there; all were taken as people of the first video."""
    tracks = "".join(
        f'<track id="{n}" label="person" source="manual" task_id="{task}" subset="default"><skeleton frame="{frame}" '
        f'keyframe="1" z_order="0">{POINT.format("nose", 0, 0, place)}</skeleton></track>'
        for n, (task, frame, place) in enumerate(((11, 3, "300,200"), (10, 1, "5,6")))
    )
    path = tmp_path / "annotations.xml"
    path.write_text(PROJECT.format(tracks))
    dataset = read_dataset(path, warn=pytest.fail)
    assert [(v.id, v.file_name, v.width, v.num_frames) for v in dataset.videos] == [
        (1, "one.mp4", 64, 2), (2, "two.mp4", 640, 3),
    ]  # fmt: skip
    found = [(r.file_name, r.video_id, r.frame_id, [p.xy[0].tolist() for p in r.instances]) for r in dataset.records]
    assert found == [
        ("one.mp4", 1, 0, []), ("one.mp4", 1, 1, [[5, 6]]),
        ("two.mp4", 2, 0, []), ("two.mp4", 2, 1, [[300, 200]]), ("two.mp4", 2, 2, []),
    ]  # fmt: skip
    path.write_text(PROJECT.format(tracks.replace('task_id="10"', 'task_id="12"')))
    with pytest.raises(PoseError, match="track 1: task_id is '12'"):
        read_dataset(path, warn=pytest.fail)


def test_a_project_of_pictures_with_its_subsets(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    """They lie in a folder a subset; those of one name were taken as one picture, which was not there."""
    both = "".join(
        f'<image id="{n}" name="a.jpg" subset="{subset}" task_id="{task}" width="64" height="48">'
        f"{POINT.format('nose', 0, 0, f'{n},1')}</image>"
        for n, (subset, task) in enumerate((("train", 10), ("val", 11)))
    )
    path = tmp_path / "annotations.xml"
    path.write_text(PROJECT.format(both))
    with pytest.raises(PoseError, match="tasks 10 and 11 both have it"):
        read_dataset(path, warn=pytest.fail)
    for subset in ("train", "val"):
        make_picture(tmp_path / "images" / subset / "a.jpg", size=(64, 48))
    for dataset in (
        read_dataset(path, warn=pytest.fail),
        read_dataset(path, image_root=tmp_path / "images", warn=pytest.fail),
    ):
        assert [r.file_name for r in dataset.records] == ["train/a.jpg", "val/a.jpg"]
        assert Path(dataset.root) == tmp_path / "images"
        assert [r.extra for r in dataset.records] == [{"recording": "one"}, {"recording": "two"}]


def test_frames_of_a_video_exported_for_images(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    """CVAT names such a picture without the suffix that its file has."""
    make_picture(tmp_path / "images" / "frame_000003.PNG", size=(64, 48))
    path = images(tmp_path / "annotations.xml", POINT.format("nose", 0, 0, "1,2"))
    path.write_text(path.read_text().replace("a/p.jpg", "frame_000003"))
    assert read_dataset(path, warn=pytest.fail).records[0].file_name == "frame_000003.PNG"
    task = "<task><id>1</id><source>day1\\walk.mp4</source>"
    path.write_text(path.read_text().replace("<task><id>1</id>", task))
    assert recording_names(read_dataset(path, warn=pytest.fail)) == ["walk", "walk"]


def test_of_two_skeletons_the_person_is_taken(tmp_path: Path) -> None:
    def skeleton(label: str, group: int, joints: dict[str, str]) -> str:
        points = "".join(POINT.format(name, 0, 0, at) for name, at in joints.items())
        return f'<skeleton label="{label}" source="manual" z_order="0" group_id="{group}">{points}</skeleton>'

    person, dog = {"nose": "1,2", "left_eye": "3,4"}, {"snout": "5,6", "tail": "7,8"}
    path = images(tmp_path / "annotations.xml", skeleton("person", 1, person) + skeleton("dog", 2, dog))
    labels = "".join(
        f"<label><name>{label}</name><type>skeleton</type></label>"
        + "".join(f"<label><name>{n}</name><type>points</type><parent>{label}</parent></label>" for n in joints)
        for label, joints in (("person", person), ("dog", dog))
    )
    path.write_text(path.read_text().replace("<mode>", f"<labels>{labels}</labels><mode>"))
    notes: list[str] = []
    dataset = read_dataset(path, warn=notes.append)
    assert dataset.skeleton.keypoints == ("nose", "left_eye") and len(dataset.records[0].instances) == 1
    assert len(notes) == 1 and "1 skeletons of other labels were left out" in notes[0]
    dogs = read_dataset(path, skeleton=Skeleton("dog", ("snout", "tail")), warn=notes.append)
    assert dogs.records[0].instances[0].xy.tolist() == [[5, 6], [7, 8]]
    path.write_text(path.read_text().replace("person", "man"))
    with pytest.raises(PoseError, match="skeletons with different joints: man, dog"):
        read_dataset(path, warn=notes.append)


def project_of_videos(path: Path, tasks: list[tuple[str, int, int, int]], frames: list[tuple[int, int]]) -> Path:
    """A project's export for video: a task's subset, first frame, step and size; the frames of tracks by their task."""
    heads = "".join(
        f"<task><id>{n}</id><size>{size}</size><subset>{subset}</subset><start_frame>{start}</start_frame><stop_frame>"
        f"{start + step * (size - 1)}</stop_frame><frame_filter>step={step}</frame_filter><original_size><width>64"
        f"</width><height>48</height></original_size><source>v{n}.mp4</source></task>"
        for n, (subset, start, step, size) in enumerate(tasks)
    )
    tracks = "".join(
        f'<track id="{n}" label="person" task_id="{task}"><skeleton frame="{frame}" keyframe="1" z_order="0">'
        f"{POINT.format('nose', 0, 0, '5,6')}</skeleton></track>"
        for n, (task, frame) in enumerate(frames)
    )
    head = f"<meta><project><tasks>{heads}</tasks></project></meta>"
    path.write_text(f"<annotations><version>1.1</version>{head}{tracks}</annotations>")
    return path


def test_frames_of_a_projects_tasks_count_on_in_each_subset(tmp_path: Path) -> None:
    """CVAT adds the frames of the tasks before; people landed on other frames of the second video."""
    tasks = [("train", 10, 5, 4), ("train", 2, 1, 3), ("val", 0, 1, 3)]  # the first ends at 10 + 5 * 4 = 30
    path = project_of_videos(tmp_path / "a.xml", tasks, [(0, 15), (1, 30 + 3), (2, 1)])
    dataset = read_dataset(path, warn=pytest.fail)
    found = [(r.file_name, r.frame_id) for r in dataset.records if r.instances]
    assert found == [("v0.mp4", 15), ("v1.mp4", 3), ("v2.mp4", 1)]
    assert [r.frame_id for r in dataset.records] == [10, 15, 20, 25, 2, 3, 4, 0, 1, 2]
    for task, frame in ((1, 3), (1, 35), (0, 16), (2, 31)):
        project_of_videos(path, tasks, [(task, frame)])
        with pytest.raises(PoseError, match=f"track 0, frame {frame}: no frame of its task"):
            read_dataset(path, warn=pytest.fail)


JOBS = [
    # As CVAT counts today: the video's own frames.
    (4, 10, 2, [6], [4, 6, 8, 10]),
    (4, 10, 2, [], [4, 6, 8, 10]),
    (5, 8, 1, [6], [5, 6, 7, 8]),
    # As it did: the third to the sixth frame of the task, of which every second of the video is one.
    (2, 5, 2, [6], [4, 6, 8, 10]),
    (2, 5, 2, [], [4, 6, 8, 10]),
    (0, 3, 5, [0, 10], [0, 5, 10, 15]),
    # The same of a task that begins with frame 3, which shows where the first and the last frame have somebody.
    (2, 5, 2, [7, 13], [7, 9, 11, 13]),
    (2, 5, 1, [13, 16], [13, 14, 15, 16]),
    (2, 5, 2, [9, 11], [9, 11]),
    (2, 5, 1, [13, 15], [13, 15]),
]


@pytest.mark.parametrize(("start", "stop", "step", "used", "frames"), JOBS)
def test_a_job_has_its_empty_frames(
    tmp_path: Path,
    make_video: Callable[..., Path],
    start: int,
    stop: int,
    step: int,
    used: list[int],
    frames: list[int],
) -> None:
    video = make_video(tmp_path / "walk.mp4", 20)
    shape = '<skeleton frame="{}" keyframe="1" z_order="0">{}</skeleton>'
    tracks = "".join(
        f'<track id="{n}" label="person">{shape.format(frame, POINT.format("nose", 0, 0, "5,6"))}'
        f"{shape.format(frame + step, POINT.format('nose', 1, 0, '5,6'))}</track>"
        for n, frame in enumerate(used)
    )
    tracks = tracks or '<track id="0" label="person"></track>'
    step_text = "" if step == 1 else f"step={step}"
    nose = "<label><name>nose</name><parent>person</parent></label>"
    labels = f"<labels><label><name>person</name></label>{nose}</labels>"
    (tmp_path / "job.xml").write_text(
        f"<annotations><meta><job><size>4</size><start_frame>{start}</start_frame><stop_frame>{stop}</stop_frame>"
        f"<frame_filter>{step_text}</frame_filter>{labels}</job><original_size><width>64</width>"
        f"<height>48</height></original_size></meta>{tracks}</annotations>"
    )
    told: list[str] = []
    dataset = read_dataset(tmp_path / "job.xml", image_root=video, warn=told.append)
    assert [r.frame_id for r in dataset.records] == frames
    assert [r.frame_id for r in dataset.records if r.instances] == used
    assert len(told) == (frames == used) and all("only the 2 frames with somebody" in note for note in told)


def test_only_boxes_of_people_are_a_persons(tmp_path: Path) -> None:
    """A bag grouped with its owner became the owner's box, and a car that is turned refused the whole file."""
    sides = 'occluded="0" xtl="1" ytl="2" xbr="{}" ybr="40"'
    body = (
        f'<skeleton label="person" z_order="0" group_id="4">{POINT.format("nose", 0, 0, "10,20")}</skeleton>'
        f'<box label="bag" {sides.format(9)} group_id="4"></box><box label="car" {sides.format(8)} rotation="30"></box>'
        f'<box label="Person" {sides.format(30)} group_id="4"></box>'
    )
    notes: list[str] = []
    person = read_dataset(images(tmp_path / "a.xml", body), warn=notes.append).records[0].instances[0]
    assert person.box_xyxy is not None and person.box_xyxy.tolist() == [1, 2, 30, 40]
    assert len(notes) == 1 and "2 boxes whose label is not that of a person" in notes[0]


def test_people_of_another_name_have_their_boxes(tmp_path: Path) -> None:
    body = (
        '<points label="nose" occluded="0" points="10,20" z_order="0" group_id="4"></points>'
        '<box label="player" occluded="0" xtl="1" ytl="2" xbr="30" ybr="40" group_id="4"></box>'
    )
    notes: list[str] = []
    person = read_dataset(images(tmp_path / "a.xml", body), warn=notes.append).records[0].instances[0]
    assert person.box_xyxy is not None and person.box_xyxy.tolist() == [1, 2, 30, 40] and not notes


def test_boxes_of_tracks(tmp_path: Path) -> None:
    """Boxes without a group took each other's place, so that fewer were counted as left out."""
    path = project_of_videos(tmp_path / "a.xml", [("", 0, 1, 3)], [(0, 1)])
    side = 'keyframe="1" outside="0" occluded="0" xtl="1" ytl="2" xbr="3" ybr="4"'
    labels = ("car", "person_box", "person_box", "person_box")
    boxes = "".join(
        f'<track id="{n + 5}" label="{a}"><box frame="1" {side}></box></track>' for n, a in enumerate(labels)
    )
    path.write_text(path.read_text().replace("</annotations>", f"{boxes}</annotations>"))
    notes: list[str] = []
    dataset = read_dataset(path, warn=notes.append)
    assert dataset.records[1].instances[0].box_xyxy is None
    assert "1 boxes whose label" in notes[0] and "3 boxes belong to no person" in notes[1] and len(notes) == 2


def test_a_group_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    path = project_of_videos(tmp_path / "a.xml", [("", 0, 1, 3)], [])
    point = '<points frame="1" keyframe="1" outside="0" occluded="0" points="1,2"></points>'
    track = f'<track id="7" label="nose" group_id="{"9" * 5000}">{point}</track>'
    path.write_text(path.read_text().replace("</annotations>", f"{track}</annotations>"))
    with pytest.raises(PoseError, match="track 7, frame 1: group_id is '9999"):
        read_dataset(path, warn=pytest.fail)


def test_a_jobs_video_is_given(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    """The head of a job's export does not name the video."""
    video = make_video(tmp_path / "walk.mp4", 5)
    path = project_of_videos(tmp_path / "a.xml", [("", 0, 1, 3)], [(0, 1)])
    text = re.sub(r"<source>.*</source>", "", path.read_text()).replace("task>", "job>")
    path.write_text(text.replace("<project><tasks>", "").replace("</tasks></project>", ""))
    with pytest.raises(PoseError, match="--image-root VIDEO"):
        read_dataset(path, warn=pytest.fail)
    dataset = read_dataset(path, image_root=video, warn=pytest.fail)
    assert dataset.videos[0].file_name == "walk.mp4" and Path(dataset.root) == tmp_path
    assert [len(r.instances) for r in dataset.records] == [0, 1, 0]
