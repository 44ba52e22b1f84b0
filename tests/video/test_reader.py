"""Reading: order, time stamps, exact random access, turned and damaged files, and what is not what it claims to be."""

from __future__ import annotations

import functools
import gc
import http.server
import itertools
import os
import pickle
import random
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from made_clips import TURNS, damaged, make_clip, number_of, numbered_image, turn_clip, turned

from posecli.errors import PoseError, UsageError
from posecli.video import FrameSource, VideoWriter, check_positions, open_source, parse_position


def same(a, b) -> bool:
    return a.index == b.index and a.time == b.time and np.array_equal(a.image, b.image)


def check_random_access(source: FrameSource, picks: int = 12) -> None:
    """`read_at` and `frames(start)` against a pass from the beginning."""
    frames = {frame.index: frame for frame in source.frames()}
    chooser = random.Random(3)
    indices = [chooser.randrange(len(frames)) for _ in range(picks)]
    # Backwards, forwards by one, the same again, the last and the first.
    for index in [*indices, indices[0], *sorted(indices)[:2], len(frames) - 1, 0, 1]:
        assert same(source.read_at(index), frames[index]), index
    start = len(frames) // 2 + 1
    assert same(next(source.frames(start)), frames[start])


CLIPS = {
    "b_frames.mp4": {},
    "open_groups.mp4": {"options": {"x264-params": "open-gop=1:scenecut=0"}},
    "intra_refresh.ts": {"options": {"x264-params": "intra-refresh=1"}, "bframes": 0},
    "fragments.mp4": {"container": {"movflags": "frag_keyframe+empty_moov"}},
    "matroska.mkv": {},
    "transport.ts": {"options": {"x264-params": "open-gop=1:scenecut=0"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4.mp4": {"codec": "mpeg4"},
    "h264.avi": {},
    "raw.h264": {},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "mpeg2.mpg": {"codec": "mpeg2video"},
    "h264.asf": {},
    "hidden_frames.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"lag-in-frames": "16", "cpu-used": "8"}},
}


@pytest.mark.parametrize("name", CLIPS)
def test_order_count_times_and_random_access(tmp_path: Path, name: str) -> None:
    settings = CLIPS[name]
    if settings.get("codec", "libx264") not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no encoder {settings['codec']}")
    with open_source(make_clip(tmp_path / name, 40, **settings)) as source:
        frames = list(source.frames())
        assert [number_of(f.image) for f in frames] == list(range(40))
        assert [f.index for f in frames] == list(range(40))
        assert source.num_frames == 40
        assert source.broken == 0
        assert np.allclose([f.time for f in frames], np.arange(40) / 25, atol=0.002)
        assert [source.position(text) for text in ("0s", "1s")] == [0, 25]
        assert (source.width, source.height, source.rate) == (80, 48, 25)
        check_random_access(source)


def test_the_b_frame_clip_has_b_frames(tmp_path: Path) -> None:
    with av.open(str(make_clip(tmp_path / "b.mp4", 40))) as container:
        stamps = [p.pts for p in container.demux(video=0) if p.size]
    assert stamps != sorted(stamps)


def test_start_stop_every(tmp_path: Path) -> None:
    source = open_source(make_clip(tmp_path / "a.mp4", 40))
    assert [number_of(f.image) for f in source.frames(5, 20, 4)] == [5, 9, 13, 17]
    assert [f.index for f in source.frames(38)] == [38, 39]
    assert list(source.frames(7, 7)) == []
    assert list(source.frames(99)) == []
    with pytest.raises(PoseError, match="no frames from 9 to 3"):
        source.frames(9, 3)
    with pytest.raises(PoseError, match="it has 40 frames"):
        source.read_at(40)


def test_variable_rate_is_kept(tmp_path: Path) -> None:
    ticks = [0, 40, 80, 500, 510, 700, 1900, 1940, 3000, 3001]
    source = open_source(make_clip(tmp_path / "v.mp4", len(ticks), ticks=ticks))
    assert np.allclose([f.time for f in source.frames()], np.array(ticks) / 1000, atol=1e-4)
    assert source.read_at(6).time == pytest.approx(1.9, abs=1e-4)
    assert [source.position(p) for p in ("0s", "0.5s", "0.6s", "1.9s", "4", "99s")] == [0, 3, 5, 6, 4, 10]
    assert source.time_of(8) == pytest.approx(3.0, abs=1e-4)


@pytest.mark.parametrize("milliseconds", [(0, 20), (10_000, 0), (0, 0), (0, 10_000)])
def test_recordings_joined_with_cat(tmp_path: Path, milliseconds: tuple[int, int]) -> None:
    """Time begins again between those of the first: every frame of both is there once, in the order of the file."""
    for name, later in zip("ab", milliseconds, strict=True):
        make_clip(tmp_path / "plain.ts", 20)
        with av.open(str(tmp_path / "plain.ts")) as source, av.open(str(tmp_path / f"{name}.ts"), "w") as target:
            track = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None and packet.pts is not None:
                    packet.dts, packet.pts = packet.dts + 90 * later, packet.pts + 90 * later
                    packet.stream = track
                    target.mux(packet)
    (tmp_path / "both.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    with open_source(tmp_path / "both.ts") as source:
        assert source.num_frames == 40
        frames = list(source.frames())
        assert [number_of(f.image) for f in frames] == [*range(20), *range(20)]
        assert [f.index for f in frames] == list(range(40)) and source.broken == 0
        times = [f.time for f in frames if f.time is not None]
        assert all(later > earlier for earlier, later in itertools.pairwise(times))
        assert times[:20] == pytest.approx(np.arange(20) / 25)
        steps = np.diff(times[19:])
        assert steps[1:] == pytest.approx(0.04) and steps[0] == pytest.approx(0.04 if milliseconds[1] < 9000 else 9.24)
        check_random_access(source)


@pytest.mark.parametrize("turn", TURNS)
def test_rotation_is_applied(tmp_path: Path, turn: str) -> None:
    path = make_clip(tmp_path / "r.mp4", 3)
    plain = next(open_source(path).frames()).image
    source = open_source(turn_clip(path, turn))
    expected = turned(plain, turn)
    assert (source.height, source.width) == expected.shape[:2]
    assert np.array_equal(next(source.frames()).image, expected)
    assert np.array_equal(source.read_at(0).image, expected)


def test_colours_survive(tmp_path: Path) -> None:
    # A flat colour goes through yuv420p within rounding; swapped channels or a wrong matrix would not.
    from posecli.video import VideoWriter

    image = np.full((64, 96, 3), (200, 60, 30), np.uint8)
    with VideoWriter(tmp_path / "c.mp4", 96, 64, 25) as writer:
        writer.write(image)
    assert np.abs(next(open_source(tmp_path / "c.mp4").frames()).image.astype(int) - image).max() <= 3


def test_real_clip_with_time_stamps_out_of_order(shared: Path) -> None:
    with open_source(shared / "data/clips/face_closeup.avi") as source:
        frames = list(source.frames())
        assert len(frames) == source.num_frames == 164
        assert np.allclose([f.time for f in frames], np.arange(164) / 25)
        assert source.repaired > 50
        check_random_access(source)


@pytest.mark.parametrize("name", ["tai_chi.mp4", "street_walk_5frames.mp4"])
def test_random_access_on_real_clips(shared: Path, name: str) -> None:
    with open_source(shared / "data/clips" / name) as source:
        check_random_access(source, picks=5)


def test_real_clip_with_variable_rate(shared: Path) -> None:
    source = open_source(shared / "data/clips/two_people_hug.mp4")
    steps = np.diff([f.time for f in source.frames(0, 72, 1)])
    assert steps.min() == pytest.approx(1 / 30, abs=1e-4)
    assert steps.max() == pytest.approx(0.2, abs=1e-4)


def test_a_bare_name_with_a_colon_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorders name files by date and time."""
    monkeypatch.chdir(tmp_path)
    made = make_clip(tmp_path / "made.mp4", 8, sound="aac")
    made.rename("2024-05-01T12:30:00.mp4")
    source = open_source("2024-05-01T12:30:00.mp4")
    with VideoWriter("2024-05-01T12:30:00.o.mp4", source.width, source.height, 25, audio_from=source.path) as writer:
        for frame in source.frames():
            writer.write(frame.image, frame.time)
    assert writer.audio == "copied"
    assert open_source("2024-05-01T12:30:00.o.mp4").num_frames == 8


def test_damage_in_the_middle_is_counted_and_passed_over(tmp_path: Path) -> None:
    path = damaged(make_clip(tmp_path / "d.mp4", 60, container={"movflags": "+faststart"}), 0.5)
    source = open_source(path)
    frames = list(source.frames())
    assert source.num_frames == 60
    assert source.broken == 60 - len(frames) > 0
    assert "cannot be decoded" in source.problems[0]
    # Frames after the damage keep their own index: a lost one leaves a gap.
    assert [f.index for f in frames if f.index >= 40] == list(range(40, 60))
    assert all(number_of(f.image) == f.index for f in frames if f.index >= 40)
    lost = next(i for i in range(60) if i not in {f.index for f in frames})
    with pytest.raises(PoseError, match=f"frame {lost} cannot be decoded"):
        source.read_at(lost)
    list(source.frames())
    assert source.broken == 60 - len(frames)  # counted anew in each pass


@pytest.mark.parametrize(
    ("name", "settings"), [("t.mp4", {"container": {"movflags": "+faststart"}}), ("t.avi", {"codec": "mpeg4"})]
)
def test_cut_off_tail(tmp_path: Path, name: str, settings: dict) -> None:
    path = make_clip(tmp_path / name, 60, **settings)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    source = open_source(path)
    frames = list(source.frames())
    assert 15 < len(frames) <= source.num_frames < 60
    # Half of the last packet may be gone, and it need not be that of the last frame.
    indices = [f.index for f in frames]
    assert indices == sorted(set(indices)) and indices[:16] == list(range(16))
    assert sum(number_of(f.image) != f.index for f in frames) <= 1
    assert "cut off" in source.problems[0]
    assert source.broken >= 60 - source.num_frames


def test_dropped_frames_of_an_avi_are_none_that_are_missing(tmp_path: Path) -> None:
    # A capture that lost frames shows the one before on: the file counts them, but they have no packet.
    whole = make_clip(tmp_path / "whole.avi", 20, codec="mpeg4", bframes=0)
    with av.open(str(whole)) as source, av.open(str(tmp_path / "drops.avi"), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts = packet.dts = packet.dts + 5 * (packet.dts >= 8)
                packet.stream = stream
                output.mux(packet)
    with open_source(tmp_path / "drops.avi") as opened:
        frames = list(opened.frames())
        assert [number_of(f.image) for f in frames] == [f.index for f in frames] == list(range(20))
        assert np.allclose([f.time for f in frames], np.array([*range(8), *range(13, 25)]) / 25)
        assert opened.broken == 0
        assert not opened.problems


def make_impostors(folder: Path) -> dict[str, bytes]:
    whole = make_clip(folder / "whole.mp4", 20).read_bytes()
    picture = cv2.imencode(".jpg", numbered_image(1))[1].tobytes()
    sound = folder / "sound.mka"
    with av.open(str(sound), "w", format="matroska") as output:
        stream = output.add_stream("aac", rate=44100)
        part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        part.sample_rate = 44100
        output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return {
        "empty": b"",
        "text": b"this is not a video\n" * 50,
        "is missing": whole[: len(whole) // 2],
        "not a video": pickle.dumps(list(range(5000))),
        "picture": picture,
        "no video in it": sound.read_bytes(),
    }


def test_what_is_no_video_is_one_clear_error(tmp_path: Path) -> None:
    for expected, content in make_impostors(tmp_path).items():
        path = tmp_path / "claims.mp4"
        path.write_bytes(content)
        with pytest.raises(PoseError, match=expected) as caught:
            open_source(path)
        assert str(path) in str(caught.value)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.mp4")
    with pytest.raises(PoseError, match="not a file on disk"):
        open_source(tmp_path / "p.mp4")


def test_positions() -> None:
    assert parse_position("300", 25) == 300
    assert parse_position(7, None) == 7
    assert parse_position("12.5s", 30) == 375
    assert parse_position("1s", Fraction(30000, 1001).__float__()) == 30
    assert parse_position(".5s", 25) == 13
    for bad in ("12.5", "-3", "-1s", "s", "abc", "", "1m"):
        with pytest.raises(PoseError, match="is not a position"):
            parse_position(bad, 25)
    with pytest.raises(PoseError, match="no frame rate"):
        parse_position("1s", None)


def test_positions_with_nothing_between_them() -> None:
    for fine in ((None, None), (None, "1"), ("5", None), ("5", "6"), (5, 6), ("1.5s", "1.6s"), ("90", "1s"), ("2s", 3)):
        check_positions(*fine)
    for bad in ((None, "0"), (None, "0s"), ("5", "5"), (6, 5), ("2s", "1.5s")):
        with pytest.raises(UsageError, match="there is no frame"):
            check_positions(*bad)


def test_nothing_is_held_while_reading(tmp_path: Path) -> None:
    # Decoded pictures are FFmpeg's memory; that none of them waits for the garbage collector shows in their number.
    source = open_source(make_clip(tmp_path / "long.mp4", 120))
    gc.collect()
    gc.disable()
    try:
        for _ in source.frames(0, 100):
            pass
        alive = sum(isinstance(item, av.VideoFrame) for item in gc.get_objects())
    finally:
        gc.enable()
    assert alive < 5


def test_a_url_is_read_as_a_stream(tmp_path: Path) -> None:
    make_clip(tmp_path / "u.mp4", 12, container={"movflags": "+faststart"})
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = open_source(f"http://127.0.0.1:{server.server_port}/u.mp4")
        assert [number_of(f.image) for f in source.frames()] == list(range(12))
        assert [f.time for f in source.frames()] == pytest.approx([i / 25 for i in range(12)])
        assert number_of(source.read_at(7).image) == 7
        source.close()
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


def test_unreachable_url_and_camera() -> None:
    with pytest.raises(PoseError, match="cannot be opened"):
        open_source("http://127.0.0.1:9/clip.mp4")
    with pytest.raises(PoseError, match="no camera 97"):
        open_source("97")


def test_a_raw_stream_is_timed_by_its_own_rate(tmp_path: Path) -> None:
    """The rate that was told, and by which seconds were counted, was always 25."""
    make_clip(tmp_path / "c.mp4", 70, rate=30, bframes=0)
    with av.open(str(tmp_path / "c.mp4")) as made, av.open(str(tmp_path / "c.h264"), "w") as raw:
        (track,) = made.streams.video
        copy = raw.add_stream_from_template(track)
        for packet in made.demux(track):
            if packet.size:
                packet.stream = copy
                raw.mux(packet)
    with open_source(tmp_path / "c.h264") as source:
        times = [frame.time for frame in source.frames()]
        assert source.fps == pytest.approx(1 / times[1]) and source.position("1s") == times.index(pytest.approx(1.0))
