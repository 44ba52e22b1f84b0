"""The pose stream as labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posecli.exports import export_dataset
from posecli.formats import detect, read_dataset
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_stream
from posecli.skeletons import COCO17
from posecli.types import Dataset, Instance, Record, Video


def test_a_stream_is_a_data_set(tmp_path: Path) -> None:
    def person(score: float, track: int) -> Instance:
        visibility = np.array([2] * 16 + [0])
        xy = np.where(visibility[:, None] > 0, np.arange(34).reshape(17, 2), np.nan).astype(np.float32)
        joint_scores = np.where(visibility, 0.5, 0).astype(np.float32)
        joint_scores[3] = 0.125
        return Instance(xy, visibility, joint_scores, score, track_id=track)

    path = tmp_path / "clip.poses.jsonl"
    with StreamWriter(path) as writer:
        writer.header(StreamHeader("clip.mp4", COCO17, 64, 48, 25.0, threshold=0.3))
        writer.frame(FramePoses(0, (person(0.75, 7), person(0.2, 8)), 0.0))
        writer.frame(FramePoses(5, (), 0.2))
    assert detect(path) == ("pose_stream", "it begins with the header of a pose stream")
    notes: list[str] = []
    dataset = read_dataset(path, warn=notes.append)
    assert [(r.frame_id, r.file_name, len(r.instances)) for r in dataset.records] == [
        (0, "clip.mp4", 1),
        (5, "clip.mp4", 0),
    ]
    kept = dataset.records[0].instances[0]
    assert kept.visibility.tolist() == [2, 2, 2, 1] + [2] * 12 + [0] and (kept.track_id, kept.person_score) == (7, 0.75)
    assert dataset.videos[0].fps == 25 and any("1 people below" in note for note in notes)


@pytest.mark.parametrize("kind", ["stream", "csv"])
def test_pictures_of_a_recording_keep_their_names(tmp_path: Path, kind: str) -> None:
    """Of a folder of pictures that has a rate the stream kept frame numbers only."""
    visibility = np.full(17, 2)
    person = Instance(np.arange(34.0).reshape(17, 2), visibility, np.ones(17, np.float32), track_id=3)
    records = tuple(Record(40 + n, f"v/{n:06d}.jpg", 64, 48, (person,), 1, n) for n in (3, 12))
    video = Video(1, "v", "v", 64, 48, 25.0, 13)
    path = tmp_path / ("labels.jsonl" if kind == "stream" else "labels.csv")
    export_dataset(Dataset(COCO17, records, (video,), str(tmp_path)), path, kind)
    again = read_dataset(path, warn=pytest.fail)
    assert [r.file_name for r in again.records] == ["v/000003.jpg", "v/000012.jpg"]
    if kind == "stream":
        assert again.videos == (video,)
        assert [(r.image_id, r.video_id, r.frame_id) for r in again.records] == [(43, 1, 3), (52, 1, 12)]
        assert [poses.time for _, poses in read_stream(path)] == [0.12, 0.48]
