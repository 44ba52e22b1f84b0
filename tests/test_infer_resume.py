"""`infer --resume` where the inputs, the frames asked for or the outputs are not the plain ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_clips import damaged, make_clip

from posecli.errors import PoseError
from posecli.infer_options import InferOptions
from posecli.pipeline import _Cuts
from posecli.types import Frame
from posecli.video import open_source


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def cut(path: Path, kept: int) -> Path:
    """Leaves the first lines of a stream, as a run does that was killed."""
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]))
    return path


def coco_of(path: Path, clip: str, frames: list[int]) -> Path:
    """A COCO JSON that names some frames of a clip."""
    images = [{"id": 100 + f, "file_name": clip, "frame_id": f, "width": 80, "height": 48} for f in frames]
    path.write_text(json.dumps({"images": images}))
    return path


@pytest.mark.parametrize("find_every", ["0", "0.2"])
@pytest.mark.parametrize("kept", [2, 3])
def test_steps_through_the_frames_of_a_coco_file_go_on(
    here: Path, cli: Callable, tiny_model, kept: int, find_every: str
) -> None:
    make_clip(here / "v.mp4", 40)
    coco_of(here / "c.json", "v.mp4", [1, 5, 10, 15, 20, 25, 30, 35])
    arguments = ("infer", "c.json", "-w", tiny_model, "--every", "2", "--find-every", find_every, "--out")
    assert cli(*arguments, "whole.jsonl").code == 0
    whole = (here / "whole.jsonl").read_text()
    assert [f["frame"] for f in lines(here / "whole.jsonl")[1:]] == [1, 10, 20, 30]
    cut(shutil.copy(here / "whole.jsonl", here / "part.jsonl"), kept)
    assert cli(*arguments, "part.jsonl", "--resume").code == 0
    assert (here / "part.jsonl").read_text() == whole


def test_a_broken_frame_among_those_of_a_coco_file_has_its_line(here: Path, cli: Callable, tiny_model) -> None:
    clip = damaged(make_clip(here / "v.mp4", 60, container={"movflags": "+faststart"}), 0.5)
    with open_source(clip) as source:
        good = {frame.index for frame in source.frames()}
    lost = next(i for i in range(60) if i not in good)
    coco_of(here / "c.json", "v.mp4", [2, lost, 50, 58])
    result = cli("infer", "c.json", "-w", tiny_model, "--out", "a.jsonl")
    assert result.code == 0 and f"frame {lost} cannot be decoded" in result.err, result.err
    found = lines(here / "a.jsonl")[1:]
    assert [(f["frame"], f["image_id"], f.get("broken", False)) for f in found] == [
        (2, 102, False), (lost, 100 + lost, True), (50, 150, False), (58, 158, False),
    ]  # fmt: skip
    coco_of(here / "c.json", "v.mp4", [2, 60])
    result = cli("infer", "c.json", "-w", tiny_model, "--out", "b.jsonl")
    assert result.code == 1 and "no frame 60" in result.err  # the file is of another video


@pytest.mark.parametrize("frames", [None, [1, 5, 10]])
def test_smoothed_clips_that_end_before_the_range_does_are_finished(
    here: Path, cli: Callable, tiny_model, frames: list[int] | None
) -> None:
    make_clip(here / "a.mp4", 20)
    make_clip(here / "b.mp4", 20)
    first = "a.mp4" if frames is None else str(coco_of(here / "c.json", "a.mp4", frames))
    arguments = ("infer", first, "b.mp4", "-w", tiny_model, "--end", "30", "--smooth", "kalman", "--out", "o")
    assert cli(*arguments).code == 0
    before = (here / "o/a.poses.jsonl").read_bytes()
    (here / "o/b.poses.jsonl").unlink()
    result = cli(*arguments, "--resume")
    assert result.code == 0, result.err
    assert (here / "o/a.poses.jsonl").read_bytes() == before
    assert len(lines(here / "o/b.poses.jsonl")) == 21
    longer = cli("infer", "b.mp4", "-w", tiny_model, "--end", "5", "--smooth", "kalman", "--out", "p")
    assert longer.code == 0
    more = cli("infer", "b.mp4", "-w", tiny_model, "--end", "9", "--smooth", "kalman", "--out", "p", "--resume")
    assert more.code == 1 and "smoothed" in more.err


def test_the_source_under_way_is_finished_before_new_ones_are_added(here: Path, cli: Callable, tiny_model) -> None:
    """A folder that grew meanwhile: the new clip comes first by its name, but the stream ends within the old one."""
    (here / "in").mkdir()
    make_clip(here / "in/b.mp4", 20)
    arguments = ("infer", "in", "-w", tiny_model, "--out", "all.jsonl")
    assert cli(*arguments).code == 0
    whole = (here / "all.jsonl").read_text()
    cut(here / "all.jsonl", 8)
    make_clip(here / "in/a.mp4", 10)
    assert cli(*arguments, "--resume").code == 0
    resumed = (here / "all.jsonl").read_text()
    assert resumed.startswith(whole)
    header, *frames = map(json.loads, resumed.removeprefix(whole).splitlines())
    assert header["source"] == "a.mp4" and [f["frame"] for f in frames] == list(range(10))


@pytest.mark.parametrize("kept", [4, 7, 9])
def test_two_lists_of_frames_of_one_video_are_two_sources(here: Path, cli: Callable, tiny_model, kept: int) -> None:
    make_clip(here / "v.mp4", 40)
    coco_of(here / "train.json", "v.mp4", [1, 5, 10, 15])
    coco_of(here / "val.json", "v.mp4", [3, 4, 20, 30])
    arguments = ("infer", "train.json", "val.json", "-w", tiny_model, "--out")
    assert cli(*arguments, "whole.jsonl").code == 0
    whole = (here / "whole.jsonl").read_text()
    cut(shutil.copy(here / "whole.jsonl", here / "part.jsonl"), kept)
    assert cli(*arguments, "part.jsonl", "--resume").code == 0
    assert (here / "part.jsonl").read_text() == whole


@pytest.mark.parametrize("chosen", [["--every", "2"], ["--start", "2", "--end", "6"], ["--shard", "2/3"]])
@pytest.mark.parametrize("smooth", [[], ["--smooth", "oneeuro", "--track", "oks"]])
def test_an_overlay_that_is_drawn_later_has_the_same_pictures(
    here: Path, cli: Callable, tiny_model, chosen: list[str], smooth: list[str]
) -> None:
    (here / "p").mkdir()
    for i in range(8):
        noise = np.random.default_rng(i).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(here / f"p/{i}.png"), noise)
    plain = ("infer", "p", "-w", tiny_model, "--no-second-look", "--render", *chosen)

    def drawn(folder: str) -> list[str]:
        (overlay,) = (p for p in (here / folder).iterdir() if p.is_dir())
        return sorted(p.name for p in overlay.iterdir())

    assert cli(*plain, "--out", "whole").code == 0
    assert 0 < len(drawn("whole")) < 8
    assert cli(*plain, *smooth, "--out", "part").code == 0
    if not smooth:
        cut(next((here / "part").glob("*.jsonl")), 2)
        shutil.rmtree(next(p for p in (here / "part").iterdir() if p.is_dir()))
        assert cli(*plain, "--out", "part", "--resume").code == 0
    assert drawn("part") == drawn("whole")


@pytest.mark.parametrize("names", [("a.mp4",), ("a.mp4", "b.mp4"), ("1.png", "2.png")])
def test_a_command_in_the_folder_of_its_videos_goes_on(
    here: Path, cli: Callable, clip: Path, tiny_model, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overlays that are drawn already lie among the inputs."""
    folder = here / "day"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in names:
        if name.endswith(".png"):
            cv2.imwrite(name, np.full((40, 60, 3), 90, np.uint8))
        else:
            shutil.copy(clip, name)
    command = ["infer", ".", "-w", tiny_model, "--render", "--device", "cpu"]
    assert cli(*command).code == 0
    made = {p: p.read_bytes() for p in folder.rglob("*") if p.suffix != ".mp4" and p.is_file()}
    again = cli(*command, "--resume")
    assert again.code == 0, again.err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.suffix != ".mp4" and p.is_file()} == made


def test_overlays_asked_for_when_all_is_done_are_drawn(here: Path, cli: Callable, tiny_model) -> None:
    for name in ("[first] a.mp4", "b.mp4"):
        make_clip(here / name, 8)
    arguments = ("infer", "[first] a.mp4", "b.mp4", "-w", tiny_model, "--out", "all.jsonl")
    assert cli(*arguments).code == 0
    result = cli(*arguments, "--resume", "--render")
    assert result.code == 0 and "[first] a.mp4: was finished already" in result.err, result.err
    for place in result.out.splitlines()[1:]:
        assert place == "all.jsonl" or open_source(here / place).num_frames == 8
    assert {"[first] a.overlay.mp4", "b.overlay.mp4"} <= set(result.out.splitlines())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--every", "3"], "every 1, not 3"),
        (["--roi", "0,0,40,40"], "roi as usual, not [0.0, 0.0, 40.0, 40.0]"),
        (["--track", "iou"], "track oks, not iou"),
        (["--find-every", "0"], "find_every 0.2, not 0"),
        (["--min-score", "0.5"], "min_score 0.001, not 0.5"),
        (["--boxes", "full"], "boxes"),
    ],
)
def test_a_stream_begun_with_other_options_is_not_gone_on_with(
    here: Path, cli: Callable, tiny_model, asked: list[str], words: str
) -> None:
    make_clip(here / "v.mp4", 12)
    base = ("infer", "v.mp4", "-w", tiny_model, "--out", "a.jsonl")
    assert cli(*base).code == 0
    part = cut(here / "a.jsonl", 5).read_text()
    result = cli(*base, "--resume", *asked)
    assert result.code == 1 and words in result.err and "--overwrite" in result.err, result.err
    assert (here / "a.jsonl").read_text() == part
    # The same by another name, or more quickly, is no other run.
    assert cli(*base, "--resume", "--track", "oks", "--batch", "2", "--end", "10").code == 0
    assert [f["frame"] for f in lines(here / "a.jsonl")[1:]] == list(range(10))


def test_a_stream_of_other_weights_or_another_video_is_not_gone_on_with(here: Path, cli: Callable, tiny_model) -> None:
    make_clip(here / "v.mp4", 12)
    assert cli("infer", "v.mp4", "-w", tiny_model, "--out", "a.jsonl").code == 0
    cut(here / "a.jsonl", 5)
    kept = (here / "a.jsonl").read_text()
    header = json.loads(kept.splitlines()[0])
    for key, other, words in (("weights_sha256", "0" * 64, "weights_sha256 000000000000"), ("width", 20, "width 20")):
        changed = json.dumps({**header, key: other}) + "\n"
        (here / "a.jsonl").write_text(changed + kept.split("\n", 1)[1])
        result = cli("infer", "v.mp4", "-w", tiny_model, "--out", "a.jsonl", "--resume")
        assert result.code == 1 and words in result.err, result.err
    # Streams of before say nothing of the options.
    del header["run"]
    (here / "a.jsonl").write_text(json.dumps(header) + "\n" + kept.split("\n", 1)[1])
    assert cli("infer", "v.mp4", "-w", tiny_model, "--out", "a.jsonl", "--resume").code == 0
    assert len(lines(here / "a.jsonl")) == 13


def test_a_cut_behind_a_broken_frame_is_seen_when_going_on_there() -> None:
    """It was compared with nothing, and identities went on from one scene to the next."""
    noise = np.random.default_rng(0).integers(0, 255, (2, 48, 64, 3), dtype=np.uint8)
    dark, bright = noise[0] // 8, 255 - noise[1] // 8

    class Broken:
        def indices(self, start: int, stop: int, every: int) -> range:
            return range(start, stop, every)

        def read_at(self, index: int) -> Frame:
            if index >= 4:
                raise PoseError(f"frame {index} cannot be decoded")
            return Frame(dark, "v.mp4", index, None)

    for image, cut_there in ((bright, True), (dark, False)):
        cuts = _Cuts(Broken(), InferOptions(), None, 0, 6)  # type: ignore[arg-type]
        assert cuts.begins(image, None, None) == cut_there
    assert not _Cuts(Broken(), InferOptions(start=4), None, 4, 6).begins(bright, None, None)  # type: ignore[arg-type]


def test_a_stream_cut_off_after_a_broken_frame_has_it_once(here: Path, cli: Callable, tiny_model) -> None:
    clip = damaged(make_clip(here / "v.mp4", 60, container={"movflags": "+faststart"}), 0.5)
    base = ("infer", clip, "-w", tiny_model, "--find-every", "0", "--start", "2", "--end", "24", "--out")
    whole = cli(*base, "a.jsonl", "--json")
    frames = lines(here / "a.jsonl")
    lost = [n for n, line in enumerate(frames) if line.get("broken")]
    assert len(lost) > 1 and json.loads(whole.out)[0]["broken"] == len(lost), whole.err
    text = (here / "a.jsonl").read_text()
    for kept in (lost[0], lost[0] + 1, lost[-1] + 1):  # before the first, after it, after the last
        result = cli(*base, cut(shutil.copy(here / "a.jsonl", here / "b.jsonl"), kept), "--resume", "--json")
        assert (here / "b.jsonl").read_text() == text
        assert json.loads(result.out)[0]["broken"] == sum(n >= kept for n in lost)


@pytest.mark.parametrize("asked", [["--start", "4"], ["--start", "1"], ["--start", "9s"]])
def test_a_stream_that_begins_elsewhere_is_not_gone_on_with(
    here: Path, cli: Callable, tiny_model, asked: list[str]
) -> None:
    """It had a hole, or frames between those asked for, of which nobody was told."""
    make_clip(here / "v.mp4", 16)
    base = ("infer", "v.mp4", "-w", tiny_model, "--every", "3", "--out", "a.jsonl")
    assert cli(*base, "--end", "6").code == 0
    kept = (here / "a.jsonl").read_text()
    result = cli(*base, "--resume", *asked)
    assert result.code == 1 and "begun at frame 0, not at frame" in result.err, result.err
    assert (here / "a.jsonl").read_text() == kept
    assert cli(*base, "--resume", "--start", "0s").code == 0
    assert [f["frame"] for f in lines(here / "a.jsonl")[1:]] == [0, 3, 6, 9, 12, 15]
