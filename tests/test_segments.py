"""Shards, segments, and the joining of streams: what several processes find is what one finds."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_clips import make_clip, with_keys

from posecli.checkpoint import load_finder, save_model
from posecli.errors import PoseError, UsageError
from posecli.infer_jobs import plan_jobs
from posecli.inference import load_model
from posecli.merging import merge, scan
from posecli.pipeline import InferOptions
from posecli.segments import made_with, prepare
from posecli.spans import Span, _cut, parse_shard, segments_of, share_of, wanted_frames
from posecli.video import VideoWriter, list_inputs, open_source

ALONE = ("--find-every", "0", "--device", "cpu")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames with a key frame every 12, a cut to other colours at frame 36, shapes that move."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    across, down = np.meshgrid(np.arange(96), np.arange(64))
    plain = path.with_name("plain.mp4")
    with VideoWriter(plain, 96, 64, 25) as writer:
        for t in range(60):
            image = np.full((64, 96, 3), 60 if t < 36 else 200, np.uint8)
            image[..., 1] += (across + 3 * t).astype(np.uint8) % 50
            image[(across - 20 - t % 36) ** 2 + (down - 30) ** 2 < 150] = (220, 180, 150) if t < 36 else (0, 0, 90)
            writer.write(image, t / 25)
    return with_keys(plain, path, 12)


@given(st.integers(0, 50), st.integers(0, 300), st.integers(1, 7), st.integers(1, 12))
def test_shares_of_a_folder_are_all_of_it(start: int, count: int, every: int, shards: int) -> None:
    frames = range(start, start + count, every)
    spans = [s for i in range(shards) if (s := share_of(frames, (i + 1, shards))) is not None]
    assert [f for s in spans for f in s.frames()] == list(frames)
    for one, other in itertools.pairwise(spans):
        assert one.following == other.first
    assert not spans or (spans[-1].ends and all(len(s.frames()) <= len(frames) // shards + 1 for s in spans))


@given(st.integers(0, 20), st.integers(1, 200), st.integers(1, 5), st.floats(0.01, 9), st.sets(st.integers(0, 220)))
def test_segments_are_all_of_a_video(start: int, count: int, every: int, seconds: float, keys: set[int]) -> None:
    frames = range(start, start + count, every)
    spans = _cut(frames, sorted(keys), [k / 25 for k in sorted(keys)], start / 25, seconds)
    assert [f for s in spans for f in s.frames()] == list(frames)
    assert all(Span.from_json(json.loads(json.dumps(s.to_json())), "") == s for s in spans)
    assert spans[-1].ends and all(one.following == other.first for one, other in itertools.pairwise(spans))


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/2", "a/b", "1/2/3"])
def test_shards_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_shard(text)


def test_segments_begin_at_key_frames(long_clip: Path) -> None:
    with open_source(long_clip) as source:
        assert source.key_frames() == [0, 12, 24, 36, 48]
        frames = wanted_frames(source, InferOptions())
        assert [(s.first, s.stop) for s in segments_of(source, frames, 0.1)] == [
            (0, 12), (12, 24), (24, 36), (36, 48), (48, 60),
        ]  # fmt: skip
        assert [(s.first, s.stop) for s in segments_of(source, frames, 0.9)] == [(0, 24), (24, 48), (48, 60)]
        some = wanted_frames(source, InferOptions(start=5, end="1.92s", every=5))
        assert [list(s.frames()) for s in segments_of(source, some, 0.1)] == [
            [5, 10], [15, 20], [25, 30, 35], [40, 45],
        ]  # fmt: skip


def test_a_video_without_time_stamps_is_one_segment(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.avi", 30, codec="mpeg4", gop=5, bframes=0)
    with open_source(path) as source:
        assert source.key_frames() is None
        assert len(segments_of(source, wanted_frames(source, InferOptions()), 0.1)) == 1


@pytest.fixture(scope="session")
def one_process(long_clip: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stream of one process that looks at each frame by itself."""
    from posecli.__main__ import main

    out = tmp_path_factory.mktemp("one") / "long.poses.jsonl"
    with pytest.raises(SystemExit) as stop:
        main(["infer", str(long_clip), "-w", str(tiny_model), "-o", str(out), "--quiet", *ALONE])
    assert not stop.value.code
    return out


def assert_same_people(a: Path, b: Path) -> None:
    """Ids equal, coordinates within 0.02 px."""
    one, other = lines(a), lines(b)
    assert one[0] == other[0] and [f["frame"] for f in one[1:]] == [f["frame"] for f in other[1:]]
    for x, y in zip(one[1:], other[1:], strict=True):
        assert [p.get("id") for p in x["persons"]] == [p.get("id") for p in y["persons"]]
        assert {k: v for k, v in x.items() if k != "persons"} == {k: v for k, v in y.items() if k != "persons"}
        for p, q in zip(x["persons"], y["persons"], strict=True):
            assert np.allclose(np.array(p["keypoints"])[:, :2], np.array(q["keypoints"])[:, :2], atol=0.0201)


@pytest.mark.parametrize("seconds", ["0.4", "100"])
def test_any_number_of_segments_gives_what_one_process_gives(
    here: Path, cli: Callable, long_clip: Path, tiny_model: Path, one_process: Path, seconds: str
) -> None:
    result = cli("infer", long_clip, "-w", tiny_model, "--segments", seconds, "--json", *ALONE)
    assert result.code == 0, result.err
    assert json.loads(result.out)[0]["frames"] == 60
    assert not (here / "long.poses.jsonl.parts").exists()
    assert any("id" in p for f in lines(here / "long.poses.jsonl")[1:] for p in f["persons"])
    assert any(f.get("cut") for f in lines(here / "long.poses.jsonl")[1:])
    assert_same_people(here / "long.poses.jsonl", one_process)


def test_shards_of_segments_are_joined_by_merge(
    here: Path, cli: Callable, long_clip: Path, tiny_model: Path, one_process: Path
) -> None:
    """Each shard by itself, in any order; half way there `merge` says what is missing."""
    base = ["infer", long_clip, "-w", tiny_model, "--segments", "0.4", *ALONE]
    assert cli(*base, "--shard", "2/2").code == 0
    parts = here / "long.poses.jsonl.parts"
    assert sorted(p.name[:19] for p in parts.iterdir()) == ["000000012-000000024", "000000036-000000048"]
    early = cli("merge", parts, "--out", "m.jsonl")
    assert early.code == 1 and "frames 24 to 35 of long.mp4 are missing" in early.err and not Path("m.jsonl").exists()
    assert cli(*base, "--shard", "1/2").code == 0
    result = cli("merge", parts, "--out", "m.jsonl", "--json")
    assert result.code == 0 and json.loads(result.out)["parts"] == 5
    assert_same_people(here / "m.jsonl", one_process)
    assert cli("merge", parts, "--out", "m.jsonl").code == 1  # it is there
    assert cli("merge", parts, "--out", "n.jsonl", "--track", "none").code == 0
    assert not any("id" in p for f in lines(here / "n.jsonl")[1:] for p in f["persons"])


def test_a_run_that_goes_on_skips_what_is_done(here: Path, cli: Callable, long_clip: Path, tiny_model: Path) -> None:
    base = ["infer", long_clip, "-w", tiny_model, "--segments", "0.4", *ALONE]
    assert cli(*base, "--shard", "1/2").code == 0
    parts = here / "long.poses.jsonl.parts"
    before = {p.name: p.stat().st_mtime_ns for p in parts.iterdir()}
    assert cli(*base, "--shard", "1/2").code == 1  # says that the output exists
    (parts / ".000000012-000000024.poses.1.part.jsonl").write_text("left by a process that was killed")
    for place in parts.glob("0*"):  # an untouched part keeps its bytes: they end up in the whole
        place.write_text(place.read_text().replace('"frame": 1,', '"kept": true, "frame": 1,'))
    other = cli(*base, "--resume", "--min-score", "0.5")
    assert other.code == 1 and "other options" in other.err
    result = cli(*base, "--resume")
    assert result.code == 0 and "3 segments are done already" in result.err and before
    assert lines(here / "long.poses.jsonl")[2]["kept"] and not parts.exists()
    again = cli(*base, "--resume")
    assert again.code == 0 and "1 inputs" in again.err


def test_a_video_that_ends_before_the_range_begins(here: Path, cli: Callable, tiny_model: Path) -> None:
    """Beside longer ones: no error, but the stream that one process gives, a header."""
    for name, count in (("short.mp4", 10), ("long.mp4", 40)):
        make_clip(here / name, count)
    run = ("infer", "short.mp4", "long.mp4", "-w", tiny_model, *ALONE, "--start", "30")
    result = cli(*run, "--segments", "1", "--out", "parts")
    assert result.code == 0 and "short.mp4: no frame was looked at" in result.err, result.err
    assert cli(*run, "--out", "whole").code == 0
    for name in ("short", "long"):
        parts, whole = (here / folder / f"{name}.poses.jsonl" for folder in ("parts", "whole"))
        assert [f.get("frame") for f in lines(parts)] == [f.get("frame") for f in lines(whole)]
    again = cli(*run, "--segments", "1", "--out", "parts", "--resume")
    assert again.code == 0 and "2 inputs" in again.err


def test_shared_work_replaces_no_overlay_unasked(here: Path, clip: Path) -> None:
    jobs = plan_jobs(list_inputs([clip]), "o", render=True, render_out="mine.mp4")
    (here / "mine.mp4").touch()
    with pytest.raises(PoseError, match="the output exists already"):
        prepare(jobs, [], overwrite=False, resume=False)
    assert prepare(jobs, [], overwrite=True, resume=False) == prepare(jobs, [], overwrite=False, resume=True) == jobs


def test_a_stream_that_one_process_began_is_not_taken_for_finished(
    here: Path, cli: Callable, clip: Path, tiny_model: Path
) -> None:
    run = ("infer", clip, "-w", tiny_model, *ALONE, "--out", "a.jsonl")
    assert cli(*run).code == 0
    whole = (here / "a.jsonl").read_text()
    for kept, code in ((None, 0), (12, 1)):
        (here / "a.jsonl").write_text("".join(whole.splitlines(keepends=True)[:kept]))
        result = cli(*run, "--segments", "1", "--resume")
        assert result.code == code, result.err
    assert "is not finished" in result.err
    assert cli(*run, "--resume").code == 0 and (here / "a.jsonl").read_text() == whole


def test_shared_work_does_not_write_two_inputs_to_one_stream(here: Path, clip: Path) -> None:
    make_clip(here / "other.mp4", 4)
    jobs = plan_jobs(list_inputs([clip, "other.mp4"]), "all.jsonl", render=False, render_out=None)
    with pytest.raises(UsageError, match="a stream for each input"):
        prepare(jobs, [], overwrite=False, resume=False)


def test_pictures_of_a_folder_in_shards(here: Path, cli: Callable, tiny_model: Path) -> None:
    folder = here / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for i in range(5):
        cv2.imwrite(str(folder / f"{i}.png"), noise.integers(0, 255, (40, 60, 3), dtype=np.uint8))
    shutil.copy(folder / "1.png", folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "1.png").read_bytes()[:900])
    assert cli("infer", folder, "-w", tiny_model, "-o", "whole").code == 0
    for i in range(1, 10):
        result = cli("infer", folder, "-w", tiny_model, "-o", "parts", "--shard", f"{i}/9", "--resume")
        assert result.code == 0, result.err
    assert len(list((here / "parts").iterdir())) == 6  # three of the nine have nothing to do
    assert cli("merge", "parts", "-o", "m.jsonl").code == 0
    assert (here / "m.jsonl").read_bytes() == (here / "whole/pictures.poses.jsonl").read_bytes()


def test_videos_in_shards(here: Path, cli: Callable, clip: Path, tiny_model: Path) -> None:
    for name in "abc":
        shutil.copy(clip, here / f"{name}.mp4")
    base = ["infer", "a.mp4", "b.mp4", "c.mp4", "-w", tiny_model, "--end", "3"]
    assert cli(*base, "-o", "whole.jsonl").code == 0
    assert cli(*base, "--shard", "1/2").code == 0 and cli(*base, "--shard", "2/2", "-o", "two.jsonl").code == 0
    assert sorted(p.name for p in (here / "poses").iterdir()) == ["a.poses.jsonl", "c.poses.jsonl"]
    assert [h["source"] for h in lines(here / "two.jsonl") if "posecli" in h] == ["b.mp4"]
    assert cli("merge", "poses/a.poses.jsonl", "two.jsonl", "poses/c.poses.jsonl", "-o", "m.jsonl").code == 0
    assert (here / "m.jsonl").read_bytes() == (here / "whole.jsonl").read_bytes()
    four = cli(*base, "--shard", "4/4")
    assert four.code == 0 and four.out == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--segments", "1"], "--find-every 0"),
        (["--segments", "1", *ALONE, "--render"], "posecli render"),
        (["--segments", "1", *ALONE, "--out", "-"], "merge"),
        (["--segments", "1", *ALONE, "--out", "a.csv"], "merge"),
        (["--segments", "1", *ALONE, "--track", "flow"], "looks at pictures"),
        (["--shard", "3/2"], "i from 1 to n"),
    ],
)
def test_asked_wrongly(here: Path, cli: Callable, clip: Path, tiny_model: Path, options, words) -> None:
    result = cli("infer", clip, "-w", tiny_model, *options)
    assert result.code == 2 and words in result.err


def _stream(path: Path, frames: range, *, change: str = "", into: str = "", person: str = "", part: str = "") -> Path:
    skeleton = '{"name": "two", "keypoints": ["a", "b"], "edges": [[0, 1]], "sigmas": [0.1, 0.1], "flip_pairs": []}'
    header = f'{{"posecli": 1, "kind": "header", "source": "v.mp4", "fps": 25.0, "skeleton": {skeleton}, "model": "m"'
    text = [f'{header}, "weights_sha256": "12"{part}}}'.replace(change, into) if change else header + part + "}"]
    text += [f'{{"frame": {i}, "time": {i / 25}, "persons": [{person}]}}' for i in frames]
    path.write_text("\n".join(text) + "\n")
    return path


PERSON = '{"id": 1, "score": 0.9, "box": [0, 0, 9, 9], "keypoints": [[1, 1, 0.9], [5, 5, 0.9]]}'


def test_streams_without_parts_are_joined_by_their_frames(tmp_path: Path) -> None:
    a, b = _stream(tmp_path / "a.jsonl", range(0, 6, 2)), _stream(tmp_path / "b.jsonl", range(6, 9, 2))
    report = merge([b, a], tmp_path / "m.jsonl")
    assert [f["frame"] for f in lines(tmp_path / "m.jsonl")[1:]] == [0, 2, 4, 6, 8]
    assert (report.parts, report.frames, report.sources) == (2, 5, ["v.mp4"])
    assert merge([tmp_path / "m.jsonl"], None).frames == 5  # only checked
    # One frame tells no step; the run that made it does.
    for name, first in (("c", 0), ("d", 50)):
        _stream(tmp_path / f"{name}.jsonl", range(first, first + 1), part=', "run": {"every": 50, "track": "none"}')
    merge([tmp_path / "c.jsonl", tmp_path / "d.jsonl"], tmp_path / "n.jsonl")
    assert [f["frame"] for f in lines(tmp_path / "n.jsonl")[1:]] == [0, 50]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"frames": range(4, 9)}, "frames 3 to 3 of v.mp4 are missing"),
        ({"frames": range(2, 9)}, "frames 2 to 2 are there twice"),
        ({"frames": range(3, 9, 2)}, "steps that differ"),
        ({"frames": range(3, 9), "change": '"m"', "into": '"other"'}, "model differs"),
        ({"frames": range(3, 9), "change": '"12"', "into": '"13"'}, "weights_sha256 differs"),
        ({"frames": range(3, 9), "change": "[0.1, 0.1]", "into": "[0.1, 0.2]"}, "skeletons that are both called two"),
        ({"frames": range(3, 9), "change": '"fps": 25.0', "into": '"fps": 24.0'}, "more than their parts"),
        ({"frames": range(3, 9), "person": PERSON}, "--track oks gives them anew"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, second: dict, words: str) -> None:
    first = _stream(tmp_path / "a.jsonl", range(3), change="12", into="12")
    second = {"change": "12", "into": "12", **second}
    other = _stream(tmp_path / "b.jsonl", second.pop("frames"), **second)
    with pytest.raises(PoseError, match=words):
        merge([first, other], tmp_path / "m.jsonl")
    assert not (tmp_path / "m.jsonl").exists()


def test_identities_are_given_anew_over_the_whole(tmp_path: Path) -> None:
    a = _stream(tmp_path / "a.jsonl", range(3), person=PERSON)
    b = _stream(tmp_path / "b.jsonl", range(3, 9), person=PERSON.replace('"id": 1', '"id": 7'))
    report = merge([a, b], tmp_path / "m.jsonl", track="oks")
    assert {p["id"] for f in lines(tmp_path / "m.jsonl")[1:] for p in f["persons"]} == {1} and report.identities == 1


@pytest.mark.parametrize(
    ("frames", "part", "words"),
    [
        (range(3), '{"first": 0, "stop": 4, "every": 1, "of": [0, 9]}', "ends before frame 3"),
        (range(4), '{"first": 0, "stop": 4, "every": 1, "of": [0, 9]}', "frames 4 to 8 of v.mp4 are missing"),
        (range(4, 9), '{"first": 4, "stop": 9, "every": 1, "of": [0, 9]}', "frames 0 to 3 of v.mp4 are missing"),
        (range(9), '{"first": 0, "stop": 4, "every": 1, "of": [0, 9]}', "frame 4, of which this is no part"),
        (range(0), '{"first": 4, "stop": 4, "every": 0, "of": [0, 9]}', "contradicts itself"),
        (range(0), '[1]', "part is none"),
    ],
)  # fmt: skip
def test_parts_must_be_whole(tmp_path: Path, frames: range, part: str, words: str) -> None:
    path = _stream(tmp_path / "a.jsonl", frames, part=f', "part": {part}')
    with pytest.raises(PoseError, match=words):
        merge([path], tmp_path / "m.jsonl")


def test_unfinished_and_damaged_streams(tmp_path: Path) -> None:
    path = _stream(tmp_path / "a.jsonl", range(3))
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(PoseError, match="cut off"):
        merge([path], None)
    path.write_bytes(whole.replace(b'"frame": 1', b'"frame": 0'))
    with pytest.raises(PoseError, match="frame 0 comes after frame 0"):
        merge([path], None)
    path.write_bytes(whole.replace(b'"frame": 1,', b'"frame": 1, "mine": NaN,'))
    with pytest.raises(PoseError, match="NaN is no number of JSON"):
        merge([path], tmp_path / "m.jsonl")
    path.write_bytes(whole[:-1])  # the last line is whole, but for its end
    assert scan(path)[0].count == 3
    merge([path], tmp_path / "m.jsonl")
    assert (tmp_path / "m.jsonl").read_bytes().splitlines()[1:] == whole.splitlines()[1:]
    with pytest.raises(PoseError, match="named twice"):
        merge([path, tmp_path], None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PoseError, match="no pose stream"):
        merge([tmp_path / "empty"], None)


def test_segments_made_with_another_finder_are_others(tiny_model: Path, tmp_path: Path) -> None:
    other = tmp_path / "finder.safetensors"
    network, meta = load_finder(tiny_model)
    save_model(other, network, meta)
    names = {
        made_with(load_model(tiny_model, "cpu", box_weights=weights), InferOptions(), None) for weights in (None, other)
    }
    assert len(names) == 2
