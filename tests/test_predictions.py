"""The pose stream: what is written comes back, the schema holds, streams concatenate, cut off and go on."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecli.errors import PoseError
from posecli.predictions import (
    FramePoses,
    StreamHeader,
    StreamWriter,
    complete_prefix,
    frame_from_json,
    frame_to_json,
    read_headers,
    read_stream,
)
from posecli.skeletons import COCO17
from posecli.spans import PART, Span
from posecli.types import Instance, Skeleton

SKELETON = Skeleton("three", ("nose", "left_hand", "right_hand"), edges=((0, 1), (0, 2)), sigmas=(0.1, 0.2, 0.2))
HEADER = StreamHeader(
    "clip.mp4", SKELETON, 640, 480, 29.97, "default", "ab" * 32, 0.3, 0.25, {"note": [1, {"a": None}]}
)


def person(x: float = 1.0, **changes) -> Instance:
    values = {
        "xy": np.array([[x, 2.125], [np.nan, np.nan], [-3.5, 1e4]], np.float32),
        "visibility": np.array([2, 0, 2]),
        "score": np.array([0.98768, 0, 0.5], np.float32),
        "person_score": 0.912345,
        "box_xyxy": np.array([10.0, 20, 40.456, 60]),
        "track_id": 4,
        "heat": 0.77,
        "extra": {"filled": ["nose"], "raw": [[1, 2, 0.5], None, None]},
    }
    return Instance(**(values | changes))


def line(number: int, *people: Instance, **changes) -> FramePoses:
    return FramePoses(number, people, **({"time": number / 25} | changes))


def write(*items: StreamHeader | FramePoses) -> str:
    text = io.StringIO()
    with StreamWriter(text) as writer:
        for item in items:
            writer.header(item) if isinstance(item, StreamHeader) else writer.frame(item)
    return text.getvalue()


def read(text: str, **options) -> list[tuple[StreamHeader, FramePoses]]:
    return list(read_stream(io.StringIO(text), **options))


def test_round_trip_and_rounding() -> None:
    frame = line(12, person(), image_id=13, file="a/b.jpg", width=640, height=480, extra={"weather": "rain"})
    text = write(HEADER, frame, line(13))
    [(header, back), (_, empty)] = read(text)
    assert header == HEADER
    assert (empty.frame, empty.instances) == (13, ())
    assert (back.frame, back.time, back.image_id, back.file, back.width, back.extra) == (
        12, 0.48, 13, "a/b.jpg", 640, {"weather": "rain"},
    )  # fmt: skip
    [one] = back.instances
    assert json.loads(text.splitlines()[1])["persons"][0] == {
        "id": 4,
        "score": 0.9123,
        "box": [10, 20, 30.46, 40],
        "keypoints": [[1.0, 2.12, 0.9877], None, [-3.5, 10000.0, 0.5]],
        "heat": 0.77,
        "filled": ["nose"],
        "raw": [[1, 2, 0.5], None, None],
    }
    assert one.visibility.tolist() == [2, 0, 2]
    assert np.isnan(one.xy[1]).all()
    assert one.score[1] == 0
    assert one.box_xyxy.tolist() == pytest.approx([10, 20, 40.46, 60])
    assert one.extra == person().extra
    # What has been rounded once stays: reading and writing again gives the same bytes.
    assert write(header, back, empty) == text


def test_what_is_unknown_or_absent_is_not_invented() -> None:
    bare = person(track_id=None, box_xyxy=None, heat=None, extra={})
    [(header, back)] = read(write(StreamHeader("p", SKELETON), FramePoses(0, (bare,))))
    assert (header.fps, header.width, header.threshold, back.time) == (None, None, None, None)
    value = frame_to_json(back)
    assert set(value) == {"frame", "persons"}
    assert set(value["persons"][0]) == {"score", "keypoints"}


finite = st.floats(-1e4, 1e4, width=32)
unit = st.floats(0, 1, width=32)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(finite, finite, unit, st.booleans()), min_size=3, max_size=3), unit)
def test_any_person_survives(joints: list[tuple[float, float, float, bool]], score: float) -> None:
    there = np.array([j[3] for j in joints])
    one = Instance(
        np.array([j[:2] for j in joints], np.float32),
        np.where(there, 2, 0),
        np.array([j[2] for j in joints], np.float32),
        person_score=score,
    )
    [(_, back)] = read(write(HEADER, line(0, one)))
    again = back.instances[0]
    assert (again.visibility > 0).tolist() == there.tolist()
    assert np.abs(again.xy[there] - one.xy[there]).max(initial=0) <= 0.0051
    assert np.abs(again.score[there] - one.score[there]).max(initial=0) <= 0.000051


def test_output_fits_the_published_schema() -> None:
    schema = json.loads((Path(__file__).parent.parent / "docs/pose-stream.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    text = write(HEADER, line(0, person(), person(5)), line(1), line(2, extra={"broken": True}))
    text += write(StreamHeader("p", COCO17), FramePoses(0, (), file="a.jpg", width=3, height=4, image_id="x7"))
    for value in map(json.loads, text.splitlines()):
        check.validate(value)
    part = Span(4, 9, 2, (0, 20)).to_json() | {"track": "oks", "made": "0f"}
    header = json.loads(write(replace(HEADER, extra={PART: part})))
    assert header[PART] == part
    check.validate(header)
    assert not check.is_valid(header | {PART: part | {"of": [0]}}) and not check.is_valid(header | {PART: {}})
    good = frame_to_json(line(3, person()))
    for key, wrong in (("frame", -1), ("frame", 1.5), ("persons", {}), ("time", "1"), ("posecli", 2)):
        assert not check.is_valid(good | {key: wrong}), key
    for point in ([1, 2], [1, 2, 3], "x", [1, 2, None], {}):
        broken = json.loads(json.dumps(good))
        broken["persons"][0]["keypoints"][0] = point
        assert not check.is_valid(broken), point


def test_streams_concatenate() -> None:
    other = StreamHeader("b.mp4", COCO17)
    text = write(HEADER, line(0, person()), line(1)) + write(other, line(0))
    assert [(h.source, f.frame, h.skeleton.name) for h, f in read(text)] == [
        ("clip.mp4", 0, "three"),
        ("clip.mp4", 1, "three"),
        ("b.mp4", 0, "coco17"),
    ]


def test_cut_off_last_line_is_dropped_with_a_warning(tmp_path: Path) -> None:
    text = write(HEADER, line(0, person()), line(1, person()), line(2, person()))
    last = len(text.splitlines()[-1]) + 1
    for missing in (2, 10, last - 1):
        (tmp_path / "s.jsonl").write_text(text[:-missing])
        said: list[str] = []
        frames = [f.frame for _, f in read_stream(tmp_path / "s.jsonl", warn=said.append)]
        assert frames == [0, 1]
        assert said == [f"{tmp_path / 's.jsonl'}, line 4: the last line is cut off; it was dropped"]
    # Only the line's end is missing: nothing is lost.
    assert [f.frame for _, f in read(text[:-1])] == [0, 1, 2]
    with pytest.raises(PoseError, match="line 3: not JSON"):
        read(text.replace('"frame": 1,', '"frame" 1,'))


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    good = write(HEADER, line(0, person()))
    two_joints = {"persons": [{"keypoints": [None, None]}], "frame": 3}
    cases = {
        "line 1: not JSON": "hello\nworld\n",
        "line 1: a JSON object is wanted, not list": "[1, 2]\n",
        "line 1: not a pose stream": '{"images": []}\n',
        "the pose stream is empty": "",
        "s.jsonl: the pose stream is empty": "\n \n",
        "line 1: a header of version 2": good.replace('"posecli": 1', '"posecli": 2'),
        "line 1: the header lacks source or skeleton": '{"posecli": 1, "kind": "header"}\n',
        "line 1: skeleton 'three': flip pair": good.replace('"flip_pairs": [[1, 2]]', '"flip_pairs": [[1, 9]]'),
        "line 3, person 1: 2 keypoints, but the skeleton three has 3": good + json.dumps(two_joints) + "\n",
        "line 3: a frame needs a list of persons": good + '{"frame": 1}\n',
        "line 3: frame must be a whole number from 0, not -1": good + '{"frame": -1, "persons": []}\n',
        "line 2, person 1: nose must be null or": good.replace("[1.0, 2.12, 0.9877]", "[1.0, 2.12]"),
        "line 2: not JSON: NaN is no number": good.replace("0.9877", "NaN"),
        "line 2, person 1: box must be": good.replace("[10.0, 20.0,", "[10.0,"),
        "line 2, person 1: score must be a finite number": good.replace("0.9123", '"high"'),
    }
    for expected, text in cases.items():
        path.write_text(text)
        with pytest.raises(PoseError) as caught:
            list(read_stream(path))
        assert f"{path}" in str(caught.value)
        assert expected in str(caught.value), str(caught.value)
    path.write_bytes(b"\x80\x04\x95pickle\xff\n")
    with pytest.raises(PoseError, match="line 1: not JSON"):
        list(read_stream(path))
    with pytest.raises(PoseError, match="cannot read the pose stream"):
        list(read_stream(tmp_path / "gone.jsonl"))


def test_writer_refuses_what_would_not_come_back(tmp_path: Path) -> None:
    with StreamWriter(tmp_path / "s.jsonl") as writer:
        with pytest.raises(ValueError, match="header comes before"):
            writer.frame(line(0))
        writer.header(HEADER)
        with pytest.raises(ValueError, match="finite"):
            writer.frame(line(0, person(float("nan"))))
        with pytest.raises(ValueError, match="3 keypoints expected"):
            writer.frame(line(0, Instance(np.zeros((2, 2)), np.zeros(2, int), np.zeros(2))))
    assert complete_prefix(tmp_path / "s.jsonl").frame is None
    with pytest.raises(PoseError, match="--overwrite"):
        StreamWriter(tmp_path / "s.jsonl", overwrite=False)


def test_each_line_can_be_read_at_once(tmp_path: Path) -> None:
    writer = StreamWriter(tmp_path / "s.jsonl")
    writer.header(HEADER)
    for number in range(3):
        writer.frame(line(number, person()))
        assert [f.frame for _, f in read_stream(tmp_path / "s.jsonl")] == list(range(number + 1))
    writer.close()


def test_going_on_after_any_interruption(tmp_path: Path) -> None:
    # Cut at every byte: the whole lines count, and what is written after them makes the complete stream again.
    other = StreamHeader("b.mp4", SKELETON)
    items = [HEADER, line(0, person()), line(1), other, line(0), line(7, person())]
    whole = write(*items).encode()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    path = tmp_path / "s.jsonl"
    for cut in [0, 1, *range(5, len(whole), 97), *ends, *(e - 1 for e in ends)]:
        path.write_bytes(whole[:cut])
        done = sum(end <= cut for end in ends)
        prefix = complete_prefix(path)
        assert prefix.size == ([0, *ends])[done]
        assert prefix.header == (None, HEADER, HEADER, HEADER, other, other, other)[done]
        assert prefix.frame == (None, None, 0, 1, None, 0, 7)[done]
        assert prefix.finished == (("clip.mp4",) if done > 3 else ())
        with StreamWriter(path, append=True) as writer:
            for item in items[done:]:
                writer.header(item) if isinstance(item, StreamHeader) else writer.frame(item)
        assert path.read_bytes() == whole
    assert complete_prefix(path).last.instances[0].track_id == 4
    path.write_bytes(b'{"posecli": 1,\n' + whole)
    with pytest.raises(PoseError, match="line 1: not JSON"):
        complete_prefix(path)


def test_another_file_without_a_line_break_is_not_cut_to_nothing(tmp_path: Path) -> None:
    """`infer --out notes.jsonl --resume` emptied it."""
    path = tmp_path / "notes.jsonl"
    path.write_text('{"notes": "one line, no line break"}')
    with pytest.raises(PoseError, match="line 1: not a pose stream"):
        StreamWriter(path, append=True)
    assert path.read_text().startswith('{"notes"')


def test_headers_alone(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text(write(HEADER, line(0), StreamHeader("b.mp4", COCO17)))
    assert [h.source for h in read_headers(tmp_path / "s.jsonl")] == ["clip.mp4", "b.mp4"]


def test_pipe() -> None:
    program = (
        "import sys; from posecli.predictions import *\n"
        "with StreamWriter('-') as w:\n"
        "    for n, (header, frame) in enumerate(read_stream('-')):\n"
        "        n or w.header(header)\n"
        "        w.frame(frame)\n"
    )
    text = write(HEADER, line(0, person()), line(1))
    # A plain C locale must do: the stream is ASCII.
    environment = os.environ | {"PYTHONUTF8": "0", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=text + '{"frame": 2, "per',
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (done.returncode, done.stdout) == (0, text)
    assert "line 4: the last line is cut off" in done.stderr


def test_frames_are_read_lazily() -> None:
    def lines():
        yield from write(HEADER, line(0)).splitlines(keepends=True)
        raise AssertionError("read ahead")

    stream = read_stream(lines())  # type: ignore[arg-type]
    assert next(stream)[1].frame == 0


def test_a_frame_alone() -> None:
    assert frame_from_json({"frame": 5, "persons": []}, SKELETON).frame == 5
