"""Whatever a data file calls its pictures and videos, nothing is written outside the output folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from doc_samples import person, picture, video

from posecli.errors import PoseError
from posecli.exports import export_dataset, export_stream
from posecli.formats import WRITERS
from posecli.frames import extract_frames
from posecli.predictions import FramePoses, StreamHeader
from posecli.skeletons import COCO17
from posecli.types import Dataset, Record
from posecli.video import PictureWriter

NAMES = ["../../evil.jpg", "/tmp/evil.jpg", "a/../../../evil.jpg", "..\\..\\evil.jpg", "C:\\evil.jpg", "a\0b.jpg"]


def files_outside(root: Path, *allowed: str) -> list[Path]:
    return [p for p in root.rglob("*") if p.relative_to(root).parts[0] not in allowed]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["openpose", *sorted(WRITERS)])
def test_label_files(form: str, name: str, tmp_path: Path) -> None:
    deep = tmp_path / "deep/er"
    deep.mkdir(parents=True)
    dataset = Dataset(COCO17, (Record(1, name, 64, 48, (person(),)),), (), str(tmp_path / "pictures"))
    with contextlib.suppress(PoseError):
        export_dataset(dataset, deep / "out", form)
    assert files_outside(tmp_path, "deep") == [] and {p.name for p in deep.iterdir()} <= {"out"}
    for path in (deep / "out").rglob("*") if (deep / "out").is_dir() else ():
        assert path.is_symlink() or path.resolve().is_relative_to(deep)


@pytest.mark.parametrize("source", ["../evil", "..", "/tmp/evil", "a/../../evil"])
def test_openpose_sources(source: str, tmp_path: Path) -> None:
    frames = [(StreamHeader(s, COCO17, 64, 48), FramePoses(0, (person(),))) for s in ("first.mp4", source)]
    try:
        export_stream(frames, tmp_path / "deep/out", "openpose")
    except PoseError as error:
        assert "leads out of the output folder" in str(error)
    assert files_outside(tmp_path, "deep") == [] and {p.name for p in (tmp_path / "deep").iterdir()} <= {"out"}


def test_frames(tmp_path: Path) -> None:
    video(tmp_path / "evil.mp4", 3)
    (tmp_path / "set").mkdir()
    dataset = Dataset(COCO17, (Record(1, "../evil.mp4", 64, 48, (), 1, 0),), (), str(tmp_path / "set"))
    extract_frames(dataset, tmp_path / "out", workers=1)
    assert files_outside(tmp_path, "out", "set", "evil.mp4") == []
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/a").symlink_to(tmp_path / "elsewhere")
    video(tmp_path / "set/a/b.mp4", 3)
    dataset = Dataset(COCO17, (Record(1, "a/b.mp4", 64, 48, (), 1, 0),), (), str(tmp_path / "set"))
    with pytest.raises(PoseError, match="through a link"):
        extract_frames(dataset, tmp_path / "linked", workers=1)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_pictures(name: str, tmp_path: Path) -> None:
    with PictureWriter(tmp_path / "out") as writer, pytest.raises(PoseError, match="leads out of the output folder"):
        writer.write(np.zeros((4, 4, 3), np.uint8), name)
    assert files_outside(tmp_path, "out") == []


def test_through_the_command(tmp_path: Path, cli: Callable) -> None:
    """A COCO file whose picture is called ``../evil.jpg`` becomes labels beside, not above, the others."""
    from posecli.formats import coco

    picture(tmp_path / "evil.jpg")
    dataset = Dataset(COCO17, (Record(1, "../evil.jpg", 64, 48, (person(),)),), (), "")
    (tmp_path / "set").mkdir()
    coco.write(dataset, tmp_path / "set/a.json")
    done = cli("convert", tmp_path / "set/a.json", "--out", tmp_path / "out", "--to", "labelme")
    assert done.code == 0, done.err
    assert sorted(p.name for p in tmp_path.rglob("*.json")) == ["a.json", "evil.json"]
    assert (tmp_path / "out/evil.json").exists()
