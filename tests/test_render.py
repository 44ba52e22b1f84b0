"""Drawing lands where the joints are, and streams meet their source: videos, pictures, pipes, gaps, wrong files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from made_clips import TURNS, damaged, make_clip, number_of, numbered_image, turn_clip

from posecli.drawing import _LEFT, _RIGHT, Style, draw_instances
from posecli.errors import PoseError, UsageError
from posecli.formats import coco
from posecli.panels import joined
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_stream
from posecli.render import draw_line, overlay_writer, poses_for, render_stream
from posecli.skeletons import COCO17
from posecli.trails import Trails
from posecli.types import Dataset, Frame, Instance, Record, Skeleton, Video
from posecli.video import PictureWriter, open_source, read_picture

DOT = Skeleton("dot", ("nose",))
ARM = Skeleton("arm", ("left_a", "left_b", "right_a", "right_b"), edges=((0, 1), (2, 3), (1, 3)))


def person(xy, score: float = 0.9, joint_score: float = 0.8, **changes) -> Instance:
    xy = np.asarray(xy, np.float32)
    found = np.isfinite(xy).all(1)
    scores = np.where(found, joint_score, 0).astype(np.float32)
    return Instance(xy, np.where(found, 2, 0), scores, score, **changes)


def drawn(image: np.ndarray, instances, skeleton: Skeleton, style: Style | None = None) -> np.ndarray:
    """(H, W) float: how much drawing changed each pixel."""
    return np.abs(draw_instances(image, instances, skeleton, style).astype(float) - image).sum(2)


def black(width: int = 60, height: int = 40) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


@pytest.mark.parametrize("at", [(20, 15), (20.5, 15.0), (31.25, 17.75), (7.0, 30.5)])
def test_one_joint_is_drawn_around_its_pixel(at: tuple[float, float]) -> None:
    mark = drawn(black(), [person([at], box_xyxy=np.array([0, 0, 400, 400.0]))], DOT)
    y, x = np.mgrid[: mark.shape[0], : mark.shape[1]]
    assert (mark * x).sum() / mark.sum() == pytest.approx(at[0], abs=0.1)
    assert (mark * y).sum() / mark.sum() == pytest.approx(at[1], abs=0.1)
    if at == (20, 15):
        assert np.allclose(
            mark[15 - 5 : 15 + 6, 20 - 5 : 20 + 6], mark[15 - 5 : 15 + 6, 20 - 5 : 20 + 6][::-1, ::-1], atol=30
        )


def test_a_pixel_and_its_keypoint_meet_in_the_rendered_video(tmp_path: Path) -> None:
    # One lit pixel block, turned by the container; a joint placed on it in displayed coordinates must cover it.
    for turn in ("none", "right", "half", "left"):
        path = turn_clip(make_clip(tmp_path / "r.mp4", 2), turn)
        source = open_source(path)
        corner = {"none": (0, 0), "right": (1, 0), "half": (1, 1), "left": (0, 1)}[turn]
        # Bit 0's block of frame 1 is the white one in the stored top-left corner.
        x = 3.5 if corner[0] == 0 else source.width - 4.5
        y = 3.5 if corner[1] == 0 else source.height - 4.5
        frame = source.read_at(1)
        assert frame.image[round(y), round(x)].mean() > 200
        image = draw_instances(frame.image, [person([(x, y)])], DOT)
        assert not np.array_equal(image[round(y), round(x)], frame.image[round(y), round(x)])
    assert set(TURNS) >= {"none", "right", "half", "left"}


def test_sides_have_their_colours() -> None:
    style = Style(joint_threshold=0)
    pose = person([(10, 10), (10, 30), (40, 10), (40, 30)], box_xyxy=np.array([0, 0, 60, 400.0]))
    image = draw_instances(black(), [pose], ARM, style)
    assert tuple(image[20, 10]) == _LEFT
    assert tuple(image[20, 40]) == _RIGHT


def test_what_is_not_shown_changes_nothing() -> None:
    image = black()
    spots = [(10, 10), (30, 10), (10, 30), (30, 30)]
    nothing = np.array_equal
    assert nothing(draw_instances(image, [], ARM), image)
    assert nothing(draw_instances(image, [person(spots, score=0.2)], ARM, Style(threshold=0.3)), image)
    assert nothing(draw_instances(image, [person(spots, joint_score=0.05)], ARM), image)
    assert nothing(draw_instances(image, [person(np.full((4, 2), np.nan))], ARM, Style(boxes=True, ids=True)), image)
    hidden = person(spots)
    assert nothing(draw_instances(image, [replace(hidden, visibility=np.zeros(4, int))], ARM), image)
    # A limb needs both of its ends.
    half = drawn(image, [person([(10, 10), (np.nan, np.nan), (np.nan, np.nan), (50, 30)])], ARM)
    assert half[10, 10] > 0
    assert half[30, 50] > 0
    assert half[15:25, 15:45].sum() == 0


def test_joints_are_drawn_from_the_streams_threshold_unless_the_style_has_its_own(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "c.mp4", 1, size=(80, 48))
    pose = person([(20, 20)], joint_score=0.25, box_xyxy=np.array([0, 0, 400.0, 400]))

    def marked(style: Style, **header) -> bool:
        head = StreamHeader("c.mp4", DOT, 80, 48, **header)
        with open_source(clip) as source:
            frame = source.read_at(0)
        return not np.array_equal(draw_line(frame, head, FramePoses(0, (pose,)), style)[0], frame.image)

    assert marked(Style())
    assert not marked(Style(), joint_threshold=0.3)
    assert marked(Style(joint_threshold=0.2), joint_threshold=0.3)
    assert not marked(Style(joint_threshold=0.3))
    path = tmp_path / "s.jsonl"
    with StreamWriter(path) as writer:
        writer.header(StreamHeader("c.mp4", DOT, 80, 48, 25.0, joint_threshold=0.3))
        writer.frame(FramePoses(0, (replace(pose, track_id=1),)))
    assert next(iter(read_stream(path)))[0].joint_threshold == 0.3


def test_joints_at_the_origin_and_far_outside() -> None:
    mark = drawn(black(), [person([(0, 0), (0, 20), (np.nan, np.nan), (np.nan, np.nan)])], ARM)
    assert mark[0, 0] > 0
    assert mark[10, 0] > 0
    draw_instances(black(), [person([(-1e9, 5), (1e9, 5), (5, 1e30), (-4, 3)])], ARM, Style(labels=True, scores=True))


def test_input_is_left_alone_and_order_does_not_matter() -> None:
    image = black(120, 90)
    before = image.copy()
    rng = np.random.default_rng(0)
    people = [person(rng.uniform(0, 80, (17, 2)) * s, box_xyxy=np.array([0, 0, 50 * s, 50 * s])) for s in (0.5, 1, 0.8)]
    people = [replace(p, track_id=i) for i, p in enumerate(people)]
    for colours in ("side", "person", "limb"):
        style = Style(colours, labels=True, ids=True, scores=True, boxes=True)
        first = draw_instances(image, people, COCO17, style)
        assert np.array_equal(image, before)
        assert np.array_equal(first, draw_instances(image, people[::-1], COCO17, replace(style)))
        assert first.shape == image.shape
        assert first.dtype == np.uint8


def test_black_background_and_bad_styles() -> None:
    image = draw_instances(black(), [person([(20, 15)])], DOT, Style(background="black"))
    assert image[0, 0].sum() == 0
    assert image[15, 20].sum() > 0
    with pytest.raises(UsageError, match="side, person, limb"):
        Style("rainbow")
    with pytest.raises(UsageError, match="source, black"):
        Style(background="white")


def stream(
    path: Path, source: str, frames: list[int], *, size=(80, 48), files: list[str] | None = None, **header
) -> Path:
    with StreamWriter(path) as writer:
        video = {} if files else {"width": size[0], "height": size[1], "fps": 25.0}
        writer.header(StreamHeader(source, DOT, **({"threshold": 0.5} | video | header)))
        for i, frame in enumerate(frames):
            big = np.array([0.0, 0, 800, 800])
            people = (person([(40, 30)], 0.9, box_xyxy=big), person([(10, 30)], 0.2, box_xyxy=big))
            more = {"file": files[i], "width": size[0], "height": size[1]} if files else {}
            writer.frame(FramePoses(frame, people, **more))
    return path


def marked(image: np.ndarray, x: int = 40, y: int = 30) -> bool:
    """A light centre in a coloured ring stands at (x, y)."""
    return image[y, x].min() > 200


def test_video_with_gaps(tmp_path: Path) -> None:
    source = open_source(make_clip(tmp_path / "c.mp4", 20, sound="aac"))
    poses = stream(tmp_path / "p.jsonl", "c.mp4", [0, 1, 2, 5, 6, 19, 25])
    with overlay_writer(source, tmp_path / "o.mp4") as writer:
        report = render_stream(source, read_stream(poses), writer)
    assert (report.frames, report.people, report.missing, report.unused, report.sound) == (20, 6, 14, 1, "copied")
    made = list(open_source(tmp_path / "o.mp4").frames())
    assert [number_of(f.image) for f in made] == list(range(20))
    assert [f.time for f in made] == [f.time for f in source.frames()]
    assert [f.index for f in made if marked(f.image)] == [0, 1, 2, 5, 6, 19]
    assert not any(marked(f.image, 10) for f in made)  # below the stream's threshold
    with overlay_writer(source, tmp_path / "o.mp4", overwrite=True) as writer:
        report = render_stream(source, read_stream(poses), writer, Style(threshold=0.1))
    assert report.people == 12


def test_variable_rate_and_part_of_a_video(tmp_path: Path) -> None:
    ticks = [0, 40, 500, 510, 1900, 1940, 3000]
    source = open_source(make_clip(tmp_path / "v.mp4", 7, ticks=ticks))
    poses = stream(tmp_path / "p.jsonl", "v.mp4", list(range(7)))
    with overlay_writer(source, tmp_path / "o.mp4", start=2, stop=6) as writer:
        report = render_stream(source, read_stream(poses), writer, start=2, stop=6)
    assert (report.frames, report.missing, report.unused) == (4, 0, 0)
    made = list(open_source(tmp_path / "o.mp4").frames())
    assert [f.time for f in made] == pytest.approx([0, 0.01, 1.4, 1.44], abs=1e-4)
    assert [number_of(f.image) for f in made] == [2, 3, 4, 5]


@pytest.mark.parametrize(("start", "stop", "every"), [(0, None, 4), (1, None, 3), (2, 8, 5), (0, 10, 20)])
def test_lines_between_the_steps_are_no_surprise(tmp_path: Path, start: int, stop: int | None, every: int) -> None:
    source = open_source(make_clip(tmp_path / "c.mp4", 12))
    poses = stream(tmp_path / "p.jsonl", "c.mp4", list(range(12)))
    with PictureWriter(tmp_path / "o") as writer:
        report = render_stream(source, read_stream(poses), writer, start=start, stop=stop, every=every)
    assert (report.frames, report.missing, report.unused) == (len(range(12)[start:stop:every]), 0, 0)


def test_odd_size_keeps_coordinates(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), numbered_image(3, 81, 49)[..., ::-1])
    poses = stream(tmp_path / "p.jsonl", "w", [0], size=(81, 49), files=["a.png"])
    with PictureWriter(tmp_path / "o") as writer:
        render_stream(open_source(folder), read_stream(poses), writer)
    image = read_picture(tmp_path / "o/a.png")
    assert image.shape == (49, 81, 3)
    assert marked(image)


def test_pictures_meet_by_name(tmp_path: Path, cli) -> None:
    for name, number in (("b10.png", 10), ("b2.jpg", 2), ("sub/a.png", 1)):
        (tmp_path / "w" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "w" / name), numbered_image(number)[..., ::-1])
    poses = stream(tmp_path / "p.jsonl", "w", [2, 0, 7], files=["sub/a.png", "b2.jpg", "elsewhere.png"])
    done = cli("render", tmp_path / "w", poses, "--out", f"{tmp_path}/o/", "--json")
    report = json.loads(done.out)
    assert (done.code, report["frames"], report["missing"], report["unused"]) == (0, 3, 1, 1)
    assert "1 of 3 frames" in done.err
    names = sorted(p.relative_to(tmp_path / "o").as_posix() for p in (tmp_path / "o").rglob("*.*"))
    assert names == ["b10.png", "b2.jpg", "sub/a.png"]
    assert [marked(read_picture(tmp_path / "o" / n)) for n in names] == [False, True, True]
    assert number_of(read_picture(tmp_path / "o/sub/a.png")) == 1
    # Originals are out of reach of the output.
    done = cli("render", tmp_path / "w", poses, "--out", tmp_path / "w", "--overwrite")
    assert (done.code, "folder of the input" in done.err) == (1, True)
    done = cli("render", tmp_path / "w", poses, "--out", tmp_path / "w.mp4")
    assert (done.code, "pictures are rendered to pictures" in done.err) == (1, True)


def test_labels_are_drawn_as_they_are(tmp_path: Path, cli) -> None:
    """A data set in place of a stream: pictures below another folder, a video kept as pictures, crowds left out."""
    for name in ("v/000.png", "v/001.png", "a.png"):
        (tmp_path / "w" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "w" / name), numbered_image(1)[..., ::-1])
    size = numbered_image(1).shape[1::-1]
    crowd = replace(person([(5.0, 5.0)]), ignore=True)
    records = (
        Record(1, "../w/v/000.png", *size, (person([(20.0, 20.0)]), crowd), 1, 0),
        Record(2, "../w/v/001.png", *size, (), 1, 1),
        Record(3, "../w/a.png", *size, (person([(20.0, 20.0)]),)),
    )
    (tmp_path / "labels").mkdir()
    coco.write(Dataset(DOT, records, (Video(1, "v", "../w/v", *size, 0.0, 2),)), tmp_path / "labels" / "coco.json")
    done = cli("render", tmp_path / "w", tmp_path / "labels" / "coco.json", "--out", f"{tmp_path}/o/", "--json")
    report = json.loads(done.out)
    assert (done.code, report["frames"], report["people"], report["missing"]) == (0, 3, 2, 0), done.err
    # One of the videos alone, whose pictures the labels name relative to a folder above.
    stream_of_all = tmp_path / "all.jsonl"
    assert cli("convert", tmp_path / "labels" / "coco.json", "--out", stream_of_all).code == 0
    done = cli("render", tmp_path / "w" / "v", stream_of_all, "--out", f"{tmp_path}/one/", "--json")
    report = json.loads(done.out)
    assert (done.code, report["frames"], report["people"], report["missing"]) == (0, 2, 1, 0), done.err  # no crowd
    before, after = (read_picture(tmp_path / name).astype(int) for name in ("w/v/000.png", "one/000.png"))
    assert np.abs(after - before)[20, 20].max() > 30
    done = cli("render", tmp_path / "w", tmp_path / "w" / "a.png", "--out", f"{tmp_path}/x/")
    assert (done.code, "Traceback" in done.err) == (1, False)


@pytest.mark.parametrize("fps", [25.0, 0.0])
def test_labels_on_a_video_in_any_order(tmp_path: Path, cli, fps: float) -> None:
    make_clip(tmp_path / "c.mp4", 6)
    crowd = replace(person([(5.0, 5.0)]), ignore=True)
    records = tuple(Record(10 + i, "c.mp4", 80, 48, (person([(40, 30)]), crowd), 1, i) for i in (3, 0, 1, 5, 4, 2))
    coco.write(Dataset(DOT, records, (Video(1, "c", "c.mp4", 80, 48, fps, 6),)), tmp_path / "coco.json")
    done = cli("render", tmp_path / "c.mp4", tmp_path / "coco.json", "--out", tmp_path / "o.mp4", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert (report["frames"], report["people"], report["missing"], report["unused"]) == (6, 6, 0, 0)


@pytest.mark.parametrize("clips", ["c", "cd"])
def test_labels_of_extracted_frames_on_their_folder(tmp_path: Path, cli, clips: str) -> None:
    """What `convert --frames` made: its videos have a rate, and nothing of them was found in the folder."""
    records = []
    for n, name in enumerate(clips):
        make_clip(tmp_path / f"{name}.mp4", 6)
        records += [Record(10 * n + i, f"{name}.mp4", 80, 48, (person([(40, 30)]),), n, i) for i in (1, 2, 5)]
    videos = tuple(Video(n, name, f"{name}.mp4", 80, 48, 25.0, 6) for n, name in enumerate(clips))
    coco.write(Dataset(DOT, tuple(records), videos), tmp_path / "coco.json")
    made = cli("convert", tmp_path / "coco.json", "--out", tmp_path / "fr.json", "--frames", tmp_path / "jp")
    assert made.code == 0, made.err
    done = cli("render", tmp_path / "jp", tmp_path / "fr.json", "--out", f"{tmp_path}/o/", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    count = 3 * len(clips)
    assert [report[key] for key in ("frames", "people", "missing", "unused")] == [count, count, 0, 0]
    drawn = read_picture(tmp_path / "o/c/000005.jpg").astype(int) - read_picture(tmp_path / "jp/c/000005.jpg")
    assert np.abs(drawn)[30, 40].max() > 30


def test_one_picture(tmp_path: Path, cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("one.png", numbered_image(5)[..., ::-1])
    poses = stream(tmp_path / "p.jsonl", "one.png", [0], files=["one.png"])
    assert cli("render", "one.png", poses).code == 0
    assert marked(read_picture("one.overlay.png"))
    assert cli("render", "one.png", poses, "--out", "x.jpg", "--background", "black").code == 0
    assert read_picture("x.jpg")[5, 5].max() < 20
    done = cli("render", "one.png", poses, "--every", "2", "--overwrite")
    assert (done.code, "are for videos" in done.err) == (2, True)
    done = cli("render", "one.png", poses, "--out", "one.png", "--overwrite")
    assert (done.code, "the output is the input" in done.err) == (1, True)


def test_verb_on_video(tmp_path: Path, cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "c.mp4", 20)
    poses = stream(tmp_path / "p.jsonl", "c.mp4", list(range(20)))
    done = cli("render", "c.mp4", "p.jsonl")
    assert (done.code, done.out) == (0, "")
    assert "c.overlay.mp4: 20 frames, 20 people drawn" in done.err
    with av.open("c.overlay.mp4") as container:
        assert container.streams.video[0].codec_context.name == "h264"
    assert cli("render", "c.mp4", poses, "--quiet").code == 1  # is there already
    assert cli("render", "c.mp4", poses, "--quiet", "--overwrite").err == ""
    options = ("--style", "person", "--ids", "--labels", "--scores", "--boxes", "--start", "0.2s", "--end", "8")
    assert cli("render", "c.mp4", poses, "--out", "frames/", *options).code == 0
    assert sorted(p.name for p in Path("frames").iterdir()) == ["000005.png", "000006.png", "000007.png"]
    done = cli("render", "c.mp4", poses, "--out", "few.mp4", "--start", "1", "--every", "6")
    assert (done.code, "warning" in done.err) == (0, False)
    assert [number_of(f.image) for f in open_source("few.mp4").frames()] == [1, 7, 13, 19]
    assert cli("render", "c.mp4", poses, "--out", "one.png", "--start", "5", "--end", "6").code == 0
    assert cli("render", "c.mp4", poses, "--out", "six/", "--start", "5", "--end", "6").code == 0
    assert np.array_equal(cv2.imread("one.png"), cv2.imread("six/000005.png"))
    for wrong, code, said in (
        (("--style", "x"), 2, "one of side, person, limb"),
        (("--start", "soon"), 2, "is not a position"),
        (("--out", "o.avi"), 1, "cannot write .avi"),
        (("--out", "o.png"), 1, "one picture cannot hold"),
        (("--out", "o.mp4", "--start", "30"), 1, "no frame to write"),
    ):
        done = cli("render", "c.mp4", poses, *wrong)
        assert (done.code, said in done.err) == (code, True), done.err
        assert "Traceback" not in done.err
    assert not [p for p in tmp_path.iterdir() if "part" in p.name or p.name.startswith("o.")]


def test_streams_of_several_sources(tmp_path: Path, cli) -> None:
    source = open_source(make_clip(tmp_path / "b.mp4", 6))
    one, two = stream(tmp_path / "1", "a.mp4", [0, 1]), stream(tmp_path / "2", "b.mp4", [0, 1, 2])
    both = tmp_path / "both.jsonl"
    both.write_text(one.read_text() + two.read_text())
    said: list[str] = []
    assert [(h.source, f.frame) for h, f in poses_for(source, both, said.append)] == [("b.mp4", i) for i in range(3)]
    # The only source of a file is taken whatever its name; of a pipe nothing can be known beforehand.
    assert len(list(poses_for(source, one, said.append))) == 2
    assert said == [f"{one}: these are poses of a.mp4, drawn on b.mp4"]
    other = open_source(make_clip(tmp_path / "c.mp4", 6))
    with pytest.raises(PoseError, match=r"holds poses of a.mp4, b.mp4, not of c.mp4"):
        list(poses_for(other, both, said.append))
    both.write_text(two.read_text() * 2)
    with pytest.raises(PoseError, match="come twice"):
        list(poses_for(source, both, said.append))


def test_streams_that_do_not_fit(tmp_path: Path, cli) -> None:
    make_clip(tmp_path / "c.mp4", 6)
    for name, settings, expected in (
        ("size", {"size": (640, 480), "frames": [0, 1]}, "found on 640 x 480 pixels, this picture has 80 x 48"),
        ("back", {"frames": [0, 1, 1]}, "from frame 1 back to 1"),
    ):
        poses = stream(tmp_path / name, "c.mp4", **settings)
        done = cli("render", tmp_path / "c.mp4", poses, "--out", tmp_path / "o.mp4")
        assert (done.code, expected in done.err) == (1, True), done.err
    (tmp_path / "text").write_text("no stream\n")
    done = cli("render", tmp_path / "c.mp4", tmp_path / "text", "--out", tmp_path / "o.mp4")
    assert (done.code, "line 1" in done.err) == (1, True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "c.mp4", "size", "text"]


def test_pipe(tmp_path: Path) -> None:
    make_clip(tmp_path / "c.mp4", 10)
    text = stream(tmp_path / "p.jsonl", "c.mp4", list(range(10))).read_text()
    command = [sys.executable, "-m", "posecli", "render", "c.mp4", "-", "--out", "o.mp4"]
    done = subprocess.run(command, input=text[:-5], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "last line is cut off" in done.stderr
    assert "no line for 1 of 10 frames" in done.stderr
    assert [marked(f.image) for f in open_source(tmp_path / "o.mp4").frames()] == [True] * 9 + [False]


def test_damaged_frames_have_lines_and_no_picture(tmp_path: Path) -> None:

    path = damaged(make_clip(tmp_path / "d.mp4", 60, container={"movflags": "+faststart"}), 0.5)
    source = open_source(path)
    indices = [f.index for f in source.frames()]
    with StreamWriter(tmp_path / "p.jsonl") as writer:
        writer.header(StreamHeader("d.mp4", DOT, 80, 48, 25.0))
        for i in range(60):
            extra = {} if i in indices else {"broken": True}
            writer.frame(FramePoses(i, () if extra else (person([(40, 30)]),), extra=extra))
    with overlay_writer(source, tmp_path / "o.mp4") as writer:
        report = render_stream(source, read_stream(tmp_path / "p.jsonl"), writer)
    assert (report.frames, report.missing, report.unused, report.broken) == (len(indices), 0, 0, 60 - len(indices))


def moving(frames: int) -> list[tuple[StreamHeader, FramePoses]]:
    """Somebody whose nose moves 4 pixels to the right in each frame of a made clip; a cut after half of them."""
    header, box = StreamHeader("a.mp4", DOT), np.array([0, 0, 40, 40.0])
    return [
        (header, FramePoses(n, (person([(10 + 4 * n, 20)], track_id=1, box_xyxy=box),), extra={"cut": n == 8}))
        for n in range(frames)
    ]


def test_trails_lie_where_people_were_and_fade_and_end_at_cuts() -> None:
    trails = Trails(5)
    lines = [line for _, line in moving(16)]
    for n, line in enumerate(lines):
        if line.extra.get("cut"):
            trails.clear()
        mark = np.abs(trails.draw(black(100), line.instances, DOT).astype(int) - 128).sum(2)
        ways = np.flatnonzero(mark.sum(0))
        seen = min(n if n < 8 else n - 8, 5)
        if seen == 0:
            assert not len(ways)
        else:
            assert abs(ways.min() - (10 + 4 * (n - seen))) <= 2 and abs(ways.max() - (10 + 4 * n)) <= 2
            assert np.flatnonzero(mark.sum(1)).mean() == pytest.approx(20, abs=0.6)
        if seen > 2:
            assert mark[:, 10 + 4 * n - 3].max() > 1.5 * mark[:, 10 + 4 * (n - seen) + 2].max()


def test_a_leap_leaves_no_trail() -> None:
    trails = Trails(5)
    box = np.array([0, 0, 20, 20.0])
    trails.draw(black(), [person([(5, 5)], track_id=1, box_xyxy=box)], DOT)
    after = trails.draw(black(), [person([(50, 30)], track_id=1, box_xyxy=box)], DOT)
    np.testing.assert_array_equal(after, black())


def test_trails_of_people_with_gigantic_boxes() -> None:
    trails = Trails(3)
    for x in (20.0, 24.0):
        drawn_on = trails.draw(black(), [person([(x, 20.0)], box_xyxy=np.array([0, 0, 1e5, 1e5]), track_id=1)], DOT)
    assert np.flatnonzero((drawn_on != 128).any(axis=(1, 2)))[[0, -1]] == pytest.approx([20, 20], abs=9)


@pytest.mark.parametrize("layout", ["side", "split"])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_panels_of_a_few_columns(layout: str, width: int) -> None:
    image = np.zeros((9, width, 3), np.uint8)
    assert joined(image, image, layout, ("before", "after")).shape == (9, width * (2 if layout == "side" else 1), 3)


@pytest.mark.parametrize("layout", ["side", "split"])
def test_two_streams_in_one_video(tmp_path: Path, layout: str) -> None:
    make_clip(tmp_path / "a.mp4", 4)
    with open_source(tmp_path / "a.mp4") as source:
        width, height = source.width, source.height
    header = StreamHeader("a.mp4", DOT, width, height)
    for name, x in (("one", 0.25), ("two", 0.75)):
        with StreamWriter(tmp_path / f"{name}.jsonl") as writer:
            writer.header(header)
            for n in range(4):
                writer.frame(FramePoses(n, (person([(x * width, 0.6 * height)]),)))
    command = [sys.executable, "-m", "posecli", "render", "a.mp4", "one.jsonl", "two.jsonl", "--layout", layout]
    run = subprocess.run([*command, "--out", "b.mp4"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    with open_source(tmp_path / "b.mp4") as drawn_on, open_source(tmp_path / "a.mp4") as source:
        assert drawn_on.num_frames == 4
        image, plain = drawn_on.read_at(2).image.astype(int), source.read_at(2).image.astype(int)
    whole = np.hstack([plain, plain]) if layout == "side" else plain
    assert image.shape == whole.shape
    mark = np.abs(image - whole).sum(2)
    # The first's joint on the left, the second's on the right; in the other panels nothing is drawn there.
    row, at = round(0.6 * height), [0.25, 0.75] if layout == "split" else [0.25, 1.75]
    for place in (0.25, 0.75) if layout == "split" else (0.25, 0.75, 1.25, 1.75):
        x = round(place * width)
        assert (mark[row - 2 : row + 3, x - 2 : x + 3].max() > 150) == (place in at)


def test_two_streams_and_trails_are_for_videos(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), black())
    with open_source(tmp_path / "p.png") as source, pytest.raises(UsageError, match="videos"):
        render_stream(source, [], PictureWriter(tmp_path / "o.png", single=True), Style(trail=3))


def test_people_without_joints_are_drawn_by_their_boxes_alone() -> None:
    """Labels often give a box and no joint; whoever has nothing drawn is not counted, nor is a crowd."""
    grey = np.full((60, 80, 3), 90, np.uint8)
    some = person([(30.0, 30.0)])
    count = len(some.xy)
    nothing = replace(some, visibility=np.zeros(count, int), box_xyxy=np.array([10.0, 10, 50, 40]))
    unsure = replace(nothing, box_xyxy=np.array([np.nan, 10, 50, 40]))
    crowd = replace(nothing, ignore=True)
    skeleton = Skeleton("s", tuple(f"j{n}" for n in range(count)))
    header, line = StreamHeader("a.mp4", skeleton, 80, 60), FramePoses(0, (nothing, unsure, crowd))
    frame = Frame(grey, "a.mp4")
    plain, none = draw_line(frame, header, line, Style(ids=True, scores=True))
    assert none == 0 and np.array_equal(plain, grey)
    boxed, one = draw_line(frame, header, line, Style(boxes=True, scores=True))
    assert one == 1 and not np.array_equal(boxed, grey)
