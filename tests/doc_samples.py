"""Sample files for the examples of docs/formats.md, built afresh for each section: nothing is downloaded or copied."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from posecli.formats import coco
from posecli.predictions import FramePoses, StreamHeader, StreamWriter
from posecli.skeletons import COCO17, CROWDPOSE14, POSETRACK18, Skeleton
from posecli.types import Dataset, Instance, Record

# Section (the first name in its heading) to what fills the folder its commands run in.
SAMPLES: dict[str, Callable[[Path], None]] = {}


def sample(*sections: str) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Registers a builder for sections of docs/formats.md."""

    def register(build: Callable[[Path], None]) -> Callable[[Path], None]:
        for section in sections:
            assert section not in SAMPLES, section
            SAMPLES[section] = build
        return build

    return register


def picture(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    """A grey picture file."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((size[1], size[0], 3), 120, np.uint8))
    return path


def video(path: Path, frames: int = 8, size: tuple[int, int] = (64, 48)) -> Path:
    """A short grey H.264 video at 25 frames/s."""
    from posecli.video import VideoWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, *size, 25.0) as writer:
        for t in range(frames):
            writer.write(np.full((size[1], size[0], 3), 60 + t, np.uint8), t / 25)
    return path


def person(skeleton: Skeleton = COCO17, first: float = 5.0) -> Instance:
    """Somebody with all joints, visible, at (first + j, first + j / 2)."""
    j = np.arange(skeleton.num_keypoints)
    xy = np.stack([first + j, first + j / 2], 1)
    return Instance(xy, np.full(len(j), 2), np.ones(len(j), np.float32), box_xyxy=np.array([4.0, 4, 40, 40]))


@sample(
    "to-skeleton",
    "coco",
    "coco_results",
    "stream",
    "csv",
    "parquet",
    "openpose",
    "labelme",
    "labelstudio",
    "cvat",
    "yolo",
)
def coco_and_stream(folder: Path) -> None:
    """``coco.json`` with two pictures, ``clip.mp4`` with ``clip.poses.jsonl``, ``skeleton.toml``."""
    records = []
    for n in (1, 2):
        picture(folder / f"images/{n}.jpg")
        records.append(Record(n, f"{n}.jpg", 64, 48, (person(),) if n == 1 else ()))
    coco.write(Dataset(COCO17, tuple(records), (), str(folder / "images")), folder / "coco.json")
    video(folder / "clip.mp4")
    with StreamWriter(folder / "clip.poses.jsonl") as writer:
        writer.header(StreamHeader("clip.mp4", COCO17, 64, 48, 25.0, threshold=0.3))
        for frame in range(8):
            one = person(first=5.0 + frame)
            writer.frame(FramePoses(frame, (Instance(one.xy, one.visibility, one.score * 0.75, 0.8),), frame / 25))
    (folder / "skeleton.toml").write_text('name = "mine"\nkeypoints = ["pelvis", "neck", "nose"]\n')


@sample("mars")
def videos_with_labels(folder: Path) -> None:
    """``mars/`` with two videos and labels beside them."""
    for name in ("walk", "run"):
        video(folder / f"mars/{name}.mp4")
        frames = [{"frame": 2, "persons": [{"keypoints": [[10, 11, 2], [20, 21, 1]]}]}]
        value = {"frames": frames, "keypoints": ["left_wrist", "right_wrist"]}
        (folder / f"mars/{name}.json").write_text(json.dumps(value))


@sample("deeplabcut")
def deeplabcut_project(folder: Path) -> None:
    """``project/`` with a labelled picture, ``walk.mp4`` with its table of results."""
    labelled = folder / "project/labeled-data/walk"
    picture(labelled / "img3.png")
    head = "scorer,,,me,me,me,me\nbodyparts,,,nose,nose,neck,neck\ncoords,,,x,y,x,y\n"
    (labelled / "CollectedData_me.csv").write_text(head + "labeled-data,walk,img3.png,10,11,12.5,20\n")
    video(folder / "walk.mp4", frames=2)
    head = "scorer,net,net,net\nbodyparts,nose,nose,nose\ncoords,x,y,likelihood\n"
    (folder / "walkDLC_resnet50.csv").write_text(head + "0,10,11,0.9\n1,12,13,0.2\n")


@sample("alphapose")
def alphapose_results(folder: Path) -> None:
    """``alphapose-results.json`` of two people in ``images/street.jpg``."""
    picture(folder / "images/street.jpg")
    flat = [v for k in range(26) for v in (5.0 + k, 20.0, 0.9)]
    entry = {"image_id": "street.jpg", "category_id": 1, "keypoints": flat, "score": 2.9, "box": [4, 4, 30, 40]}
    (folder / "alphapose-results.json").write_text(json.dumps([entry, {**entry, "idx": 2}]))


@sample("mmpose")
def mmpose_results(folder: Path) -> None:
    """``predictions/street.json`` of ``images/street.jpg``, and a demo's ``results_walk.json`` of ``walk.mp4``."""
    picture(folder / "images/street.jpg")
    video(folder / "walk.mp4")
    points = [[5.0 + k, 20.0] for k in range(17)]
    person = {"keypoints": points, "keypoint_scores": [0.9] * 17, "bbox": [[4, 4, 34, 44]], "bbox_score": 0.8}
    names = {str(k): name for k, name in enumerate(COCO17.keypoints)}
    demo = {"meta_info": {"keypoint_id2name": names}, "instance_info": [{"frame_id": 1, "instances": [person]}]}
    (folder / "predictions").mkdir()
    (folder / "predictions/street.json").write_text(json.dumps([person]))
    (folder / "results_walk.json").write_text(json.dumps(demo))


@sample("yolo_predictions")
def yolo_text_files(folder: Path) -> None:
    """``predict/labels/street.txt`` of ``images/street.jpg``, and two frames of ``walk.mp4``."""
    picture(folder / "images/street.jpg")
    video(folder / "walk.mp4")
    line = " ".join(["0", "0.5 0.5 0.4 0.6", *("0.5 0.5 0.9" for _ in range(17)), "0.8"]) + "\n"
    for name in ("predict/labels/street.txt", "walk_found/walk_1.txt", "walk_found/walk_8.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(line)


@sample("mediapipe")
def landmarks_of_a_video(folder: Path) -> None:
    """``walk.mp4`` and its landmarks."""
    video(folder / "walk.mp4", frames=2)
    landmarks = [{"x": k / 40, "y": 0.5, "z": 0.0, "visibility": 0.9} for k in range(33)]
    frames = [{"frame": 0, "pose_landmarks": [landmarks]}, {"frame": 1, "pose_landmarks": []}]
    (folder / "walk.landmarks.json").write_text(json.dumps({"frames": frames}))


def _structs(rows: list[dict[str, Any]]) -> np.ndarray:
    """A 1 x N MATLAB struct array."""
    out = np.zeros((1, len(rows)), dtype=[(name, "O") for name in rows[0]])
    for i, row in enumerate(rows):
        out[0, i] = tuple(row.values())
    return out


@sample("lsp")
def lsp_folder(folder: Path) -> None:
    """``lsp/`` with two pictures."""
    joints = np.concatenate([np.full((2, 14, 2), 9.0), np.zeros((1, 14, 2))])
    for n in (1, 2):
        picture(folder / f"lsp/images/im000{n}.jpg")
    savemat(folder / "lsp/joints.mat", {"joints": joints})


@sample("mpii")
def mpii_files(folder: Path) -> None:
    """The release with one picture, and HRNet's JSON of it."""
    picture(folder / "images/1.jpg")
    points = [{"x": 10.0 + j, "y": 20.0, "id": float(j), "is_visible": 1.0} for j in range(16)]
    head = {"x1": 3.0, "y1": 4.0, "x2": 9.0, "y2": 12.0, "scale": 0.2, "objpos": {"x": 31.0, "y": 21.0}}
    one = {"image": {"name": "1.jpg"}, "annorect": _structs([head | {"annopoints": {"point": _structs(points)}}])}
    whole = {"annolist": _structs([one]), "img_train": np.ones((1, 1))}
    savemat(folder / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": whole})
    row = {"image": "1.jpg", "center": [31, 21], "scale": 0.2, "joints": [[9, 9]] * 16, "joints_vis": [1] * 16}
    (folder / "annot").mkdir()
    (folder / "annot/valid.json").write_text(json.dumps([row]))


@sample("flic")
def flic_folder(folder: Path) -> None:
    """``flic/`` with one example."""
    (folder / "flic").mkdir()
    coords = np.full((2, 29), np.nan)
    coords[:, [0, 1, 2, 3, 4, 5, 6, 9, 12, 13, 16]] = np.arange(1.0, 12)
    one = {
        "filepath": "film-1.jpg", "moviename": "film", "coords": coords, "imgdims": np.array([[48.0, 64, 3]]),
        "currframe": 1.0, "torsobox": np.array([[1.0, 2, 3, 4]]), "istrain": 1.0, "istest": 0.0,
    }  # fmt: skip
    savemat(folder / "flic/examples.mat", {"examples": _structs([one])})


@sample("aic")
def aic_folder(folder: Path) -> None:
    """``aic/`` with one picture of the release."""
    picture(folder / "aic/keypoint_train_images_20170902/ab12.jpg")
    one = {"image_id": "ab12", "keypoint_annotations": {"human1": [9, 9, 1] * 14}}
    one["human_annotations"] = {"human1": [1, 1, 20, 20]}
    (folder / "aic/keypoint_train_annotations_20170909.json").write_text(json.dumps([one]))


def _coco_style(skeleton: Skeleton, image: dict[str, Any], person: dict[str, Any], names: list[str]) -> dict[str, Any]:
    points = [9, 9, 1] * skeleton.num_keypoints
    return {
        "images": [{"id": 1, "width": 64, "height": 48, **image}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": points, "bbox": [1, 1, 9, 9]} | person],
        "categories": [{"id": 1, "name": "person", "keypoints": names}],
    }


@sample("crowdpose")
def crowdpose_file(folder: Path) -> None:
    """``crowdpose_val.json`` with one picture."""
    picture(folder / "images/1.jpg")
    names = [*CROWDPOSE14.keypoints[:12], "head", "neck"]
    value = _coco_style(CROWDPOSE14, {"file_name": "1.jpg", "crowdIndex": 0.4}, {}, names)
    (folder / "crowdpose_val.json").write_text(json.dumps(value))


@sample("posetrack")
def posetrack_folder(folder: Path) -> None:
    """``annotations/val/`` with one video of one labelled frame."""
    name = "images/val/000012_mpii_test/000000.jpg"
    picture(folder / name)
    image = {"file_name": name, "frame_id": 1, "vid_id": "000012", "nframes": 30, "is_labeled": True}
    value = _coco_style(POSETRACK18, image, {"track_id": 0, "bbox_head": [1, 1, 5, 5]}, list(POSETRACK18.keypoints))
    (folder / "annotations/val").mkdir(parents=True)
    (folder / "annotations/val/000012_mpii_test.json").write_text(json.dumps(value))


@sample("penn")
def penn_folder(folder: Path) -> None:
    """``Penn_Action/`` with two sequences of three frames, without pictures."""
    (folder / "Penn_Action/labels").mkdir(parents=True)
    for n in (1, 2):
        value = {
            "action": "squat", "pose": "front", "x": np.full((3, 13), 9.0), "y": np.full((3, 13), 9.0),
            "visibility": np.ones((3, 13)), "bbox": np.tile([[1.0, 1, 20, 20]], (3, 1)), "train": 1.0,
            "dimensions": np.array([[48.0, 64, 3]]), "nframes": 3.0,
        }  # fmt: skip
        savemat(folder / f"Penn_Action/labels/000{n}.mat", value)


@sample("jhmdb")
def jhmdb_folder(folder: Path) -> None:
    """``JHMDB/`` with one video of two frames, without pictures."""
    (folder / "JHMDB/joint_positions/catch/one").mkdir(parents=True)
    positions = {"pos_img": np.full((2, 15, 2), 50.0), "viewpoint": "S"}
    savemat(folder / "JHMDB/joint_positions/catch/one/joint_positions.mat", positions)
