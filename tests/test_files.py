"""Files complete or absent; names from data never lead out of the output folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import av
import pytest

from posecli.errors import PoseError
from posecli.files import inside, refuse_device, replace_when_done
from posecli.predictions import StreamHeader, StreamWriter
from posecli.skeletons import COCO17
from posecli.video import VideoWriter


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "a/..",
        "/etc/x",
        "\\x",
        "..\\x",
        "a\\..\\..\\x",
        "C:\\x",
        "c:/x",
        "",
        ".",
        "a\0b",
        "//host/x",
    ],
)
def test_names_that_lead_out(name: str, tmp_path: Path) -> None:
    with pytest.raises(PoseError, match=r"leads out of the output folder") as error:
        inside(tmp_path, name, "labels.json, image 3")
    assert error.value.where == "labels.json, image 3"


@pytest.mark.parametrize(
    "name", ["a.jpg", "a/b.jpg", "./a.jpg", "a\\b.jpg", "..a/b..jpg", "a//b", "ein Bild.png", "..."]
)
def test_names_that_stay(name: str, tmp_path: Path) -> None:
    assert tmp_path in inside(tmp_path / "out", name).parents


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/link").symlink_to(tmp_path)
    with pytest.raises(PoseError, match="through a link"):
        inside(tmp_path / "out", "link/x.jpg")


def test_devices_are_no_files(tmp_path: Path) -> None:
    link = tmp_path / "labels.json"
    link.symlink_to("/dev/zero")
    with pytest.raises(PoseError, match="a device, not a file"):
        refuse_device(link)
    for fine in (tmp_path, tmp_path / "nowhere", __file__):
        refuse_device(fine)


def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for place in (tmp_path / "pipe.jsonl", Path("/dev/null")):
        with pytest.raises(PoseError, match="a device or a pipe"), replace_when_done(place):
            pytest.fail("it would be replaced")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pipe.jsonl"]


def test_a_fault_of_the_system_names_the_output_and_not_what_stands_in_for_it(tmp_path: Path) -> None:
    place = tmp_path / "out.json"
    with (
        pytest.raises(FileNotFoundError) as caught,
        replace_when_done(place) as outer,
        replace_when_done(outer) as part,
    ):
        open(part / "below", "w").close()
    assert caught.value.filename == str(part / "below")  # a file of the block's own keeps its name
    with (
        pytest.raises(FileNotFoundError) as caught,
        replace_when_done(place) as outer,
        replace_when_done(outer) as part,
    ):
        open(part).close()
    assert caught.value.filename == str(place) and ".part" not in str(caught.value)


def test_a_full_disk_is_told_with_the_files_name(tmp_path: Path) -> None:
    """The system's error names no file: "file: No space left on device" was said."""
    with pytest.raises(OSError) as caught, replace_when_done(tmp_path / "a.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.csv") and not list(tmp_path.iterdir())
    with pytest.raises(OSError) as caught, replace_when_done(tmp_path / "a.csv"):
        raise OSError(errno.ECONNRESET, "not of this file")
    assert caught.value.filename is None
    writer = StreamWriter("/dev/full")
    with pytest.raises(OSError, match="/dev/full"):
        writer.header(StreamHeader("c.mp4", COCO17))
    with pytest.raises(OSError, match="/dev/full"):  # what waits to be written finds no room again
        writer.close()


def test_a_read_only_folder_is_told_with_the_files_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There even the removal of what is not there fails, and that error named a hidden file."""

    def refused(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(OSError) as caught, replace_when_done(tmp_path / "a.csv") as part:
        refused(part)
    assert caught.value.filename == str(tmp_path / "a.csv")
    monkeypatch.setattr(av, "open", lambda place, *_, **__: refused_by_ffmpeg(place))
    with pytest.raises(PoseError, match=r"/a\.mp4: cannot be written: Read-only"):
        VideoWriter(tmp_path / "a.mp4", 32, 32, 25)


def refused_by_ffmpeg(place: str) -> None:
    raise av.error.FFmpegError(errno.EROFS, "Read-only file system", place)


def test_a_folder_left_by_a_killed_run_of_the_same_number_is_cleared(tmp_path: Path) -> None:
    """In a container every run may be process 1."""
    left = tmp_path / f".frames.{os.getpid()}.part"
    left.mkdir()
    (left / "old").touch()
    with replace_when_done(tmp_path / "frames") as part:
        part.mkdir()
        (part / "new").touch()
    assert [p.name for p in (tmp_path / "frames").iterdir()] == ["new"]


def test_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    target = tmp_path / ("ä" * 125 + ".mp4")
    with replace_when_done(target) as part:
        assert part.suffix == ".mp4" and part.name.startswith(".")
        part.write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == [target.name] and target.read_text() == "whole"
