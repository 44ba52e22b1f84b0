"""Writing: what players need (H.264, yuv420p, index first), time stamps, sound, odd sizes, nothing half-finished."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from made_clips import make_clip, number_of, numbered_image

from posecli.errors import PoseError
from posecli.video import VideoWriter, open_source
from posecli.video.writer import fine_time_base, nominal_rate


def write(
    path: Path, times: list[float | None], *, fps: float | Fraction = 25, size=(80, 48), **options
) -> VideoWriter:
    with VideoWriter(path, *size, fps, **options) as writer:
        for number, time in enumerate(times):
            writer.write(numbered_image(number, *size), time)
    return writer


def test_what_players_need(tmp_path: Path) -> None:
    write(tmp_path / "o.mp4", [None] * 30)
    data = (tmp_path / "o.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "o.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 25
        assert stream.codec_context.colorspace == 1  # BT.709, and said so
    assert [number_of(f.image) for f in open_source(tmp_path / "o.mp4").frames()] == list(range(30))
    assert [p.name for p in tmp_path.iterdir()] == ["o.mp4"]


def test_variable_rate_is_kept(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.51, 1.9, 4.0]
    write(tmp_path / "v.mp4", times)
    assert [f.time for f in open_source(tmp_path / "v.mp4").frames()] == pytest.approx(times, abs=1e-4)


def test_rate_is_never_rounded(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    write(tmp_path / "n.mp4", [float(i / rate) for i in range(90)], fps=float(rate), time_base=Fraction(1, 30000))
    source = open_source(tmp_path / "n.mp4")
    assert source.rate == rate
    assert [f.time for f in source.frames()] == [float(i / rate) for i in range(90)]


def test_rates_and_time_bases() -> None:
    assert nominal_rate(29.97) == nominal_rate(29.97002997) == Fraction(30000, 1001)
    assert nominal_rate(23.976) == Fraction(24000, 1001)
    assert nominal_rate(59.94) == Fraction(60000, 1001)
    assert [nominal_rate(r) for r in (25, 30.0, 12.5, 28.05)] == [25, 30, Fraction(25, 2), Fraction(561, 20)]
    assert fine_time_base(Fraction(1, 15360), Fraction(1, 30)) == Fraction(1, 15360)
    assert fine_time_base(Fraction(1, 25), Fraction(1, 25)) == Fraction(1, 10000)
    assert fine_time_base(None, Fraction(1001, 30000)) == Fraction(1, 90000)


def test_times_that_do_not_grow_are_kept_apart(tmp_path: Path) -> None:
    write(tmp_path / "s.mp4", [0.0, 0.0, 0.04, 0.03])
    source = open_source(tmp_path / "s.mp4")
    assert source.num_frames == 4
    times = [f.time for f in source.frames()]
    assert times == sorted(set(times))


@pytest.mark.parametrize("size", [(81, 48), (80, 49), (81, 49)])
def test_odd_sizes_are_padded_not_cut(tmp_path: Path, size: tuple[int, int]) -> None:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[:, -1] = image[-1] = 255
    with VideoWriter(tmp_path / "o.mp4", *size, 25, crf=1) as writer:
        writer.write(image)
    shown = next(open_source(tmp_path / "o.mp4").frames()).image
    assert shown.shape == (size[1] + size[1] % 2, size[0] + size[0] % 2, 3)
    assert np.abs(shown[: size[1], : size[0]].astype(int) - image).mean() < 8
    assert shown[-1].mean() > 225
    assert shown[:, -1].mean() > 225


def sound_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(audio=0) if p.size]


@pytest.mark.parametrize(("name", "codec"), [("s.mp4", "aac"), ("s.avi", "libmp3lame"), ("s.mkv", "aac")])
def test_sound_is_copied_unchanged(tmp_path: Path, name: str, codec: str) -> None:
    path = make_clip(tmp_path / name, 50, sound=codec, codec="mpeg4" if name.endswith("avi") else "libx264")
    source = open_source(path)
    writer = write(tmp_path / "o.mp4", [f.time for f in source.frames()], audio_from=path)
    assert writer.audio == "copied"
    assert sound_of(tmp_path / "o.mp4") == sound_of(path)
    with av.open(str(path)) as before, av.open(str(tmp_path / "o.mp4")) as after:
        starts = [next(c.decode(audio=0)).time - (c.start_time or 0) / av.time_base for c in (before, after)]
    assert starts[0] == pytest.approx(starts[1], abs=0.03)


def test_sound_of_a_part_of_the_source(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "s.mp4", 100, sound="aac")
    source = open_source(path)
    times = [f.time for f in source.frames(50, 75)]
    with VideoWriter(
        tmp_path / "o.mp4", 80, 48, 25, audio_from=path, span=(source.time_of(50), source.time_of(75))
    ) as w:
        for number, time in enumerate(times):
            w.write(numbered_image(number), time)
    made = open_source(tmp_path / "o.mp4")
    assert [f.time for f in made.frames()] == pytest.approx([i / 25 for i in range(25)], abs=1e-4)
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(1.0, abs=0.06)
    whole, part = sound_of(path), sound_of(tmp_path / "o.mp4")
    first = whole.index(part[0])
    assert whole[first : first + len(part)] == part
    assert first * 1024 / 44100 == pytest.approx(2.0, abs=0.06)


def test_sound_that_does_not_fit_is_left_out_and_said(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "s.avi", 10, sound="adpcm_ima_wav", codec="mpeg4")
    writer = write(tmp_path / "o.mp4", [None] * 10, audio_from=path)
    assert "adpcm_ima_wav" in writer.audio
    assert "left out" in writer.audio


def test_sound_of_an_unknown_kind_is_left_out_and_said(tmp_path: Path) -> None:
    """FFmpeg knows neither AC-4 nor Apple's spatial sound, which stands beside a plain track, though."""
    source = make_clip(tmp_path / "a.mov", 10, sound="pcm_s16le")
    source.write_bytes(source.read_bytes().replace(b"sowt", b"ac-4"))
    assert write(tmp_path / "o.mp4", [None] * 10, audio_from=source).audio == (
        "left out: it is in no form that is known here"
    )
    assert open_source(tmp_path / "o.mp4").num_frames == 10


def test_sound_whose_time_stamps_begin_again(tmp_path: Path) -> None:
    """Recordings of a camera joined with cat: all pictures, and the sound as far as its stamps rise."""
    one = make_clip(tmp_path / "one.ts", 30, sound="aac").read_bytes()
    (tmp_path / "two.ts").write_bytes(one + one)
    source = open_source(tmp_path / "two.ts")
    with VideoWriter(tmp_path / "o.mp4", source.width, source.height, 25, audio_from=source.path) as writer:
        for frame in source.frames():
            writer.write(frame.image, frame.time)
        assert writer.audio == "left out where its time stamps run backwards"
    assert open_source(tmp_path / "o.mp4").num_frames == 60
    # MP4 says once what stands before each packet of ADTS, in seven bytes.
    assert sound_of(tmp_path / "o.mp4") == [packet[7:] for packet in sound_of(tmp_path / "one.ts")]


def test_a_source_without_sound(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "s.mp4", 10)
    assert write(tmp_path / "o.mp4", [None] * 10, audio_from=path).audio == "none"


def test_real_sound(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/clips/face_closeup.avi"
    source = open_source(path)
    with VideoWriter(tmp_path / "o.mp4", 320, 240, source.rate, audio_from=path, time_base=source.time_base) as writer:
        for frame in source.frames():
            writer.write(frame.image, frame.time)
    assert sound_of(tmp_path / "o.mp4") == sound_of(path)
    again = open_source(tmp_path / "o.mp4")
    assert (again.num_frames, again.rate) == (164, 25)


def test_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    """Recordings and downloads are called after their titles."""
    write(tmp_path / ("ä" * 125 + ".mp4"), [None] * 3)
    assert [p.name for p in tmp_path.iterdir()] == ["ä" * 125 + ".mp4"]


def test_nothing_half_finished_is_left(tmp_path: Path) -> None:
    (tmp_path / "o.mp4").write_bytes(b"before")
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "o.mp4", 80, 48, 25) as writer:
        writer.write(numbered_image(0))
        raise RuntimeError
    with pytest.raises(PoseError, match="no frame to write"), VideoWriter(tmp_path / "o.mp4", 80, 48, 25):
        pass
    assert (tmp_path / "o.mp4").read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["o.mp4"]


def test_a_size_that_cannot_be_encoded(tmp_path: Path) -> None:
    with (
        pytest.raises(PoseError, match=r"o\.mp4: cannot be written"),
        VideoWriter(tmp_path / "o.mp4", 20000, 2, 25) as w,
    ):
        w.write(np.zeros((2, 20000, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "o.mp4").write_bytes(b"before")
    with pytest.raises(PoseError, match="--overwrite"):
        VideoWriter(tmp_path / "o.mp4", 80, 48, 25, overwrite=False)
    with pytest.raises(PoseError, match=r"use \.mp4"):
        VideoWriter(tmp_path / "o.avi", 80, 48, 25)
    with pytest.raises(PoseError, match="sound cannot be read"):
        VideoWriter(tmp_path / "n.mp4", 80, 48, 25, audio_from=tmp_path / "o.mp4")
    with VideoWriter(tmp_path / "n.mp4", 80, 48, 25) as writer:
        with pytest.raises(ValueError, match="must be"):
            writer.write(np.zeros((48, 48, 3), np.uint8))
        writer.write(numbered_image(0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["n.mp4", "o.mp4"]


def test_without_an_h264_encoder_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(PoseError, match="pip install --upgrade av"):
        VideoWriter(tmp_path / "o.mp4", 80, 48, 25)


@pytest.mark.parametrize(("layout", "audio"), [("mono", "copied"), ("stereo", "copied"), ("3.0", "left out: its 3 ")])
@pytest.mark.parametrize("name", ["s.mkv", "s.avi"])
def test_uncompressed_sound_of_a_container_that_only_counts_channels(
    tmp_path: Path, name: str, layout: str, audio: str
) -> None:
    """MP4 wants to know which channels they are, and refused the whole file."""
    with av.open(str(tmp_path / name), "w") as output:
        video, sound = output.add_stream("mpeg4", rate=25), output.add_stream("pcm_s16le", rate=44100)
        video.width, video.height, video.pix_fmt, sound.layout = 80, 48, "yuv420p", layout
        for i in range(10):
            output.mux(video.encode(av.VideoFrame.from_ndarray(numbered_image(i), format="rgb24")))
        output.mux(video.encode(None))
        count = sound.codec_context.layout.nb_channels
        part = av.AudioFrame.from_ndarray(np.ones((1, 4096 * count), np.int16), format="s16", layout=layout)
        part.sample_rate, part.pts = 44100, 0
        output.mux(sound.encode(part))
        output.mux(sound.encode(None))
    with av.open(str(tmp_path / name)) as made:
        if not made.streams.audio[0].codec_context.layout.name.endswith(" channels"):
            audio = "copied"
    writer = write(tmp_path / "o.mp4", [None] * 10, audio_from=tmp_path / name)
    assert writer.audio.startswith(audio) and open_source(tmp_path / "o.mp4").num_frames == 10
    if audio == "copied":
        assert b"".join(sound_of(tmp_path / "o.mp4")) == b"".join(sound_of(tmp_path / name))
    assert write(tmp_path / "o.mkv", [None] * 10, audio_from=tmp_path / name).audio == "copied"


def test_a_place_without_room_for_a_file_is_noticed_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PoseError, match="file is no folder"):
        VideoWriter(tmp_path / "file/o.mp4", 80, 48, 25)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(PoseError, match="a device or a pipe"):
        VideoWriter(tmp_path / "pipe.mp4", 80, 48, 25)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "pipe.mp4"]
