"""Small valid inputs of every form, and real samples where they are at hand: what the fuzz harness then spoils.

Each sample is a folder. Those of our own making come from one COCO data set of four pictures and one of a video: by
hand for forms that we only read, by `posecli convert --to` for each form that we write, so that a new writer brings
its sample along.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import scipy.io
from made_matlab import save73

from fuzz.server import Server
from posecli.skeletons import COCO17
from posecli.video import VideoWriter

SIZE = (64, 48)
PICTURES, FRAMES = 4, 6


@dataclass(frozen=True)
class Sample:
    """A valid input.

    Attributes:
        name: of the form, for messages.
        folder: everything that belongs to it; copied for each case.
        source: what a command is given, relative to the folder.
        spoil: files and folders that may be spoilt, as patterns.
        kind: ``"labels"`` (convert, check, stats, evaluate as labels) or ``"poses"`` (also render, evaluate as poses).
        options: of convert.
    """

    name: str
    folder: Path
    source: str
    spoil: tuple[str, ...] = ("**/*",)
    kind: str = "labels"
    options: tuple[str, ...] = ()


def _joints(rng: np.random.Generator, count: int = 17) -> np.ndarray:
    """(count, 3): somewhere on the picture, the first joint not labelled, the second hidden."""
    xy = np.round(rng.uniform(4, 40, (count, 2)), 2)
    joints = np.column_stack([xy, np.full(count, 2)])
    joints[0], joints[1, 2] = 0, 1
    return joints


def _person(number: int, image: int, rng: np.random.Generator) -> dict:
    joints = _joints(rng)
    low, high = joints[1:, :2].min(0), joints[1:, :2].max(0)
    return {
        "id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "keypoints": joints.ravel().tolist(),
        "num_keypoints": 16, "bbox": [*low, *(high - low)], "area": float((high - low).prod() * 0.6),
    }  # fmt: skip


CATEGORY = {
    "id": 1, "name": "person", "keypoints": list(COCO17.keypoints),
    "skeleton": [[a + 1, b + 1] for a, b in COCO17.edges],
}  # fmt: skip


def _pictures(folder: Path, names: list[str]) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8))


def _video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, *SIZE, 25.0) as writer:
        for frame in range(FRAMES):
            writer.write(np.full((SIZE[1], SIZE[0], 3), 30 * frame, np.uint8), frame / 25)


def _coco(folder: Path) -> Sample:
    rng = np.random.default_rng(1)
    names = [f"p{n}.png" for n in range(PICTURES)]
    _pictures(folder, names)
    images = [{"id": n + 1, "file_name": name, "width": 64, "height": 48} for n, name in enumerate(names)]
    people = [_person(n + 1, n // 2 + 1, rng) for n in range(5)]
    people[0]["segmentation"] = [[4, 4, 30, 4, 30, 40, 4, 40]]
    people[1] |= {"keypoints": [0] * 51, "num_keypoints": 0}
    crowd = {"iscrowd": 1, "segmentation": {"size": [48, 64], "counts": [100, 200, 2772]}}
    people[4] |= {"keypoints": [0] * 51, "num_keypoints": 0, **crowd}
    people[2]["head_box"] = [10, 10, 8, 8]
    value = {"images": images, "annotations": people, "categories": [CATEGORY]}
    (folder / "coco.json").write_text(json.dumps(value))
    return Sample("coco", folder, "coco.json", ("coco.json",))


def _coco_video(folder: Path) -> Sample:
    rng = np.random.default_rng(2)
    _video(folder / "clip.mp4")
    video = {
        "id": 1,
        "name": "clip",
        "file_name": "clip.mp4",
        "width": 64,
        "height": 48,
        "fps": 25,
        "num_frames": FRAMES,
    }
    images = [
        {"id": n + 1, "file_name": "clip.mp4", "width": 64, "height": 48, "video_id": 1, "frame_id": n}
        for n in range(FRAMES)
    ]
    people = [{**_person(n + 1, n + 1, rng), "track_id": 1} for n in range(FRAMES)]
    value = {
        "images": images,
        "annotations": people,
        "categories": [CATEGORY],
        "videos": [{**video, "tags": ["front"]}],
    }
    (folder / "coco.json").write_text(json.dumps(value))
    return Sample("coco-video", folder, "coco.json", ("coco.json",))


# --- videos with label files -----------------------------------------------------------------------------------------

_TOML = """name = "five"
keypoints = ["nose", "left_hip", "right_hip", "left_knee", "right_knee"]
edges = [["left_hip", "left_knee"], ["right_hip", "right_knee"]]
flip_pairs = [["left_hip", "right_hip"], ["left_knee", "right_knee"]]
sigmas = [0.026, 0.107, 0.107, 0.087, 0.087]
"""
_FIVE = ("nose", "left_hip", "right_hip", "left_knee", "right_knee")


def _tracks(people: int) -> np.ndarray:
    """(T, N, 5, 3)."""
    rng = np.random.default_rng(3)
    xy = np.round(rng.uniform(2, 46, (FRAMES, people, 5, 2)), 2)
    return np.concatenate([xy, np.full((FRAMES, people, 5, 1), 2.0)], axis=3)


def _write_json(path: Path) -> None:
    frames = [
        {"frame": t, "persons": [{"track_id": n, "keypoints": p.tolist()} for n, p in enumerate(people)]}
        for t, people in enumerate(_tracks(2))
    ]
    path.with_suffix(".json").write_text(json.dumps({"keypoints": list(_FIVE), "frames": frames}))


def _write_wide(path: Path) -> None:
    header = ["frame", "person", *(f"{j}_{a}" for j in _FIVE for a in "xyv")]
    lines = [",".join(header)]
    for t, people in enumerate(_tracks(2)):
        lines += [",".join([str(t), str(n), *(f"{v:g}" for v in p.ravel())]) for n, p in enumerate(people)]
    path.with_suffix(".csv").write_text("\n".join(lines) + "\n")


def _write_long(path: Path) -> None:
    lines = ["frame,person,joint,x,y,v"]
    for t, people in enumerate(_tracks(1)):
        lines += [f"{t},0,{j},{x:g},{y:g},{int(v)}" for j, (x, y, v) in zip(_FIVE, people[0], strict=True)]
    path.with_suffix(".csv").write_text("\n".join(lines) + "\n")


def _write_openpose(path: Path) -> None:
    path.mkdir()
    for t, people in enumerate(_tracks(1)):
        points = people[0] * [1, 1, 0.4]
        value = {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": points.ravel().tolist()}]}
        (path / f"clip_{t:012d}_keypoints.json").write_text(json.dumps(value))


LABEL_FILES: dict[str, Callable[[Path], object]] = {
    "json": _write_json,
    "csv-wide": _write_wide,
    "csv-long": _write_long,
    "npy": lambda path: np.save(path.with_suffix(".npy"), _tracks(1)[:, 0]),
    "npz": lambda path: np.savez(path.with_suffix(".npz"), keypoints=_tracks(2), names=np.array(_FIVE)),
    "mat": lambda path: scipy.io.savemat(path.with_suffix(".mat"), {"keypoints": _tracks(1)[:, 0]}),
}


def _mars(folder: Path, form: str) -> Sample:
    (folder / "mars/front").mkdir(parents=True)
    _video(folder / "mars/front/clip.mp4")
    LABEL_FILES[form](folder / "mars/front/clip")
    (folder / "mars/skeleton.toml").write_text(_TOML)
    return Sample(
        f"mars-{form}", folder, "mars", ("mars/front/clip.[!m]*", "mars/front/clip.mat", "mars/skeleton.toml")
    )


def _mars_pictures(folder: Path) -> Sample:
    _pictures(folder, [f"mars/walk/{n:03d}.png" for n in range(FRAMES)])
    (folder / "mars/labels").mkdir()
    _write_json(folder / "mars/labels/walk")
    (folder / "mars/skeleton.toml").write_text(_TOML)
    return Sample("mars-pictures", folder, "mars")


def _mars_openpose(folder: Path) -> Sample:
    (folder / "mars/labels").mkdir(parents=True)
    _video(folder / "mars/clip.mp4")
    _write_openpose(folder / "mars/labels/clip")
    (folder / "mars/skeleton.toml").write_text(_TOML)
    return Sample("mars-openpose", folder, "mars", ("mars/labels/**/*", "mars/clip.mp4"))


def _mars_lab(folder: Path) -> Sample:
    for number, view in ((1, "north"), (2, "east")):
        _video(folder / f"lab/walk/data{number}.mp4")
        (folder / "lab/walk" / view).mkdir()
        joints = np.arange(22)
        rows = [[t, *(2.25 + joints), *(4.5 + joints), *np.full(22, 0.9)] for t in range(FRAMES)]
        text = "".join(" ".join(f"{v:g}" for v in row) + "\n" for row in rows)
        (folder / "lab/walk" / view / "joints2d.txt").write_text(text)
    camera = {"K": [0] * 9, "RT": [0] * 12}
    (folder / "lab/calibration.json").write_text(json.dumps({"north": camera, "east": camera}))
    return Sample("mars_lab", folder, "lab", ("lab/walk/*/joints2d.txt", "lab/calibration.json", "lab/walk/data1.mp4"))


# --- public data sets in the form of their releases ---


def _lsp(folder: Path) -> Sample:
    _pictures(folder, [f"lsp/images/im{n:04d}.jpg" for n in (1, 2)])
    joints = np.random.default_rng(4).uniform(1, 45, (3, 14, 2))
    joints[2] = 0
    scipy.io.savemat(folder / "lsp/joints.mat", {"joints": joints})
    return Sample("lsp", folder, "lsp", ("lsp/joints.mat",))


def _lspet(folder: Path) -> Sample:
    _pictures(folder, [f"lspet/images/im{n:05d}.jpg" for n in (1, 2)])
    joints = np.random.default_rng(4).uniform(1, 45, (14, 3, 2))
    joints[:, 2] = 1
    scipy.io.savemat(folder / "lspet/joints.mat", {"joints": joints})
    return Sample("lspet", folder, "lspet", ("lspet/joints.mat",))


def _mpii(folder: Path) -> Sample:
    _pictures(folder, ["images/a.jpg"])
    rng = np.random.default_rng(5)
    points = [{"x": x, "y": y, "id": n, "is_visible": 1} for n, (x, y) in enumerate(rng.uniform(2, 46, (16, 2)))]
    person = {
        "x1": 5, "y1": 5, "x2": 15, "y2": 15, "scale": 0.2, "objpos": {"x": 20, "y": 20},
        "annopoints": {"point": np.array(points, object)},
    }  # fmt: skip
    picture = {"image": {"name": "a.jpg"}, "annorect": person, "vididx": 1, "frame_sec": 3}
    release = {"annolist": picture, "img_train": 1, "single_person": 1, "video_list": np.array(["film"], object)}
    scipy.io.savemat(folder / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": release})
    return Sample("mpii-release", folder, "mpii_human_pose_v1_u12_1.mat", ("*.mat",))


def _mpii_json(folder: Path) -> Sample:
    _pictures(folder, ["images/a.jpg", "images/b.jpg"])
    joints = np.random.default_rng(5).uniform(2, 46, (16, 2)).tolist()
    people = [
        {"image": f"{name}.jpg", "center": [20, 20], "scale": 0.2, "joints": joints, "joints_vis": [1] * 16}
        for name in "aab"
    ]
    (folder / "train.json").write_text(json.dumps(people))
    return Sample("mpii-json", folder, "train.json", ("train.json",), options=("--format", "mpii"))


def _flic(folder: Path) -> Sample:
    coords = np.full((2, 29), np.nan)
    coords[:, :17] = np.random.default_rng(6).uniform(2, 46, (2, 17))
    example = {
        "filepath": "a.jpg", "moviename": "film", "currframe": 7, "imgdims": np.array([48, 64, 3]), "coords": coords,
        "torsobox": np.array([10, 10, 30, 30]), "istrain": 1, "istest": 0, "poselet_hit_idx": 1,
    }  # fmt: skip
    scipy.io.savemat(
        folder / "examples.mat", {"examples": np.array([example, {**example, "filepath": "b.jpg"}], object)}
    )
    return Sample("flic", folder, "examples.mat", ("*.mat",))


def _aic(folder: Path) -> Sample:
    _pictures(folder, ["abc.jpg"])
    joints = np.column_stack([np.random.default_rng(7).uniform(2, 46, (14, 2)), np.ones(14)])
    entry = {
        "image_id": "abc", "url": "http://example.org/abc.jpg",
        "keypoint_annotations": {"human1": joints.ravel().tolist()},
        "human_annotations": {"human1": [1, 1, 40, 40]},
    }  # fmt: skip
    (folder / "aic.json").write_text(json.dumps([entry]))
    return Sample("aic-release", folder, "aic.json", ("aic.json",))


def _penn(folder: Path) -> Sample:
    rng = np.random.default_rng(8)
    (folder / "labels").mkdir()
    shape = (FRAMES, 13)
    value = {
        "action": "bowl", "pose": "front", "x": rng.uniform(2, 46, shape), "y": rng.uniform(2, 46, shape),
        "visibility": np.ones(shape), "bbox": np.tile([2.0, 2, 46, 46], (FRAMES, 1)), "train": 1, "nframes": FRAMES,
        "dimensions": np.array([48, 64, FRAMES]),
    }  # fmt: skip
    scipy.io.savemat(folder / "labels/0001.mat", value)
    return Sample("penn", folder, ".", ("labels/*",))


def _penn_npz(folder: Path) -> Sample:
    rng = np.random.default_rng(8)
    shape = (FRAMES, 13)
    np.savez(
        folder / "penn_action_labels.npz", sequence=np.array([1]), num_frames=np.array([FRAMES]), offset=np.array([0]),
        x=rng.uniform(2, 46, shape), y=rng.uniform(2, 46, shape), visibility=np.ones(shape, np.uint8),
        bbox=np.tile([2.0, 2, 46, 46], (FRAMES, 1)), action=np.array(["bowl"]), view=np.array(["front"]),
        train=np.array([1]), height_width_frames=np.array([[48, 64, FRAMES]]),
    )  # fmt: skip
    return Sample("penn-npz", folder, "penn_action_labels.npz", ("*.npz",))


def _jhmdb(folder: Path) -> Sample:
    place = folder / "joint_positions/run/walk_1"
    place.mkdir(parents=True)
    positions = np.random.default_rng(9).uniform(10, 200, (2, 15, FRAMES))
    scipy.io.savemat(place / "joint_positions.mat", {"pos_img": positions, "viewpoint": "N", "scale": np.ones(FRAMES)})
    return Sample("jhmdb", folder, ".", ("joint_positions/**/*",))


def _alphapose(folder: Path) -> Sample:
    rng = np.random.default_rng(10)
    _pictures(folder, ["p0.png", "p1.png"])
    people = [
        {"image_id": name, "category_id": 1, "score": 2.1, "box": [2, 2, 40, 40], "idx": n,
         "keypoints": (_joints(rng) * [1, 1, 0.4]).ravel().tolist()}
        for n, name in enumerate(("p0.png", "p0.png", "p1.png"))
    ]  # fmt: skip
    (folder / "alphapose-results.json").write_text(json.dumps(people))
    options = ("--format", "alphapose", "--skeleton", "coco17")
    return Sample("alphapose", folder, "alphapose-results.json", ("*.json",), options=options)


def _mmpose_person(rng: np.random.Generator) -> dict:
    points = np.round(rng.uniform(4, 40, (17, 2)), 2).tolist()
    return {"keypoints": points, "keypoint_scores": [0.75] * 17, "bbox": [[2, 2, 42, 42]], "bbox_score": 0.9}


def _mmpose(folder: Path) -> Sample:
    rng = np.random.default_rng(13)
    _pictures(folder, ["images/p0.png", "images/p1.png"])
    (folder / "predictions").mkdir()
    for name in ("p0", "p1"):
        people = [_mmpose_person(rng) for _ in range(2)]
        (folder / f"predictions/{name}.json").write_text(json.dumps(people, indent=2))
    options = ("--format", "mmpose", "--skeleton", "coco17", "--image-root", str(folder / "images"))
    return Sample("mmpose", folder, "predictions", ("predictions/*.json",), options=options)


def _mmpose_demo(folder: Path) -> Sample:
    rng = np.random.default_rng(14)
    _video(folder / "clip.mp4")
    names = {str(k): name for k, name in enumerate(COCO17.keypoints)}
    sigmas = {"__ndarray__": list(COCO17.sigmas), "dtype": "float32", "shape": [17]}
    meta = {"dataset_name": "coco", "keypoint_id2name": names, "skeleton_links": [[0, 1]], "sigmas": sigmas}
    frames = [{"frame_id": n, "instances": [_mmpose_person(rng)]} for n in range(1, FRAMES + 1)]
    (folder / "results_clip.json").write_text(json.dumps({"meta_info": meta, "instance_info": frames}))
    options = ("--format", "mmpose", "--image-root", str(folder / "clip.mp4"))
    return Sample("mmpose-demo", folder, "results_clip.json", ("*.json",), options=options)


def _yolo_predictions(folder: Path) -> Sample:
    rng = np.random.default_rng(12)
    _pictures(folder, ["p0.png", "p1.png"])
    for name in ("p0", "p1"):
        rows = [[*rng.uniform(0, 1, 4), *rng.uniform(0, 1, 51), 0.7] for _ in range(2)]
        (folder / "labels").mkdir(exist_ok=True)
        (folder / f"labels/{name}.txt").write_text("".join(f"0 {' '.join(f'{v:.6f}' for v in row)}\n" for row in rows))
    options = ("--format", "yolo_predictions", "--skeleton", "coco17")
    return Sample("yolo_predictions", folder, "labels", ("labels/*.txt",), options=options)


def _mediapipe(folder: Path) -> Sample:
    rng = np.random.default_rng(11)
    marks = [[{"x": x, "y": y, "z": 0.0, "visibility": 0.8} for x, y in rng.uniform(0, 1, (33, 2))] for _ in range(2)]
    frames = [{"frame": n, "pose_landmarks": [person]} for n, person in enumerate(marks)]
    value = {"source": "clip.mp4", "fps": 25, "width": 64, "height": 48, "frames": frames}
    _video(folder / "clip.mp4")
    (folder / "clip.json").write_text(json.dumps(value))
    return Sample("mediapipe", folder, "clip.json", ("clip.json",), options=("--format", "mediapipe"))


# --- HDF5 ---


def _mars_mat73(folder: Path) -> Sample:
    (folder / "mars/front").mkdir(parents=True)
    _video(folder / "mars/front/clip.mp4")
    save73(folder / "mars/front/clip.mat", {"keypoints": _tracks(2)})
    (folder / "mars/skeleton.toml").write_text(_TOML)
    return Sample("mars-mat73", folder, "mars", ("mars/front/clip.mat",))


def _penn_mat73(folder: Path) -> Sample:
    rng = np.random.default_rng(8)
    (folder / "labels").mkdir()
    shape = (FRAMES, 13)
    value = {
        "action": "bowl", "pose": "front", "x": np.round(rng.uniform(2, 46, shape), 2),
        "y": np.round(rng.uniform(2, 46, shape), 2), "visibility": np.ones(shape),
        "bbox": np.tile([2.0, 2, 46, 46], (FRAMES, 1)), "train": np.ones((1, 1)), "nframes": np.array([[6.0]]),
        "dimensions": np.array([[48.0, 64, FRAMES]]),
    }  # fmt: skip
    save73(folder / "labels/0001.mat", value)
    return Sample("penn-mat73", folder, ".", ("labels/*",))


def _deeplabcut_h5(folder: Path) -> Sample:
    """Labelled pictures, as pandas lays them out in an HDF5 file."""
    import h5py

    place = folder / "labeled-data/walk"
    names = [f"img{n}.png" for n in range(PICTURES)]
    _pictures(place, names)
    columns = [("me", j, c) for j in _FIVE for c in "xy"]
    rows = [("labeled-data", "walk", name) for name in names]
    with h5py.File(place / "CollectedData_me.h5", "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"], group.attrs["nblocks"] = b"frame", 1
        for name, labels in (("axis0", columns), ("block0_items", columns), ("axis1", rows)):
            group.attrs[f"{name}_variety"], group.attrs[f"{name}_nlevels"] = b"multi", len(labels[0])
            for level, parts in enumerate(zip(*labels, strict=True)):
                known = sorted(set(parts))
                group[f"{name}_level{level}"] = np.array([k.encode() for k in known])
                group[f"{name}_label{level}"] = np.array([known.index(p) for p in parts], np.int8)
        group["block0_values"] = _tracks(1)[:PICTURES, 0, :, :2].reshape(PICTURES, -1)
    source = "labeled-data/walk/CollectedData_me.h5"
    return Sample("deeplabcut-h5", folder, source, (source,))


BUILDERS: tuple[Callable[[Path], Sample], ...] = (
    _coco, _coco_video, *((lambda folder, form=form: _mars(folder, form)) for form in LABEL_FILES), _mars_pictures,
    _mars_openpose, _mars_lab, _lsp, _lspet, _mpii, _mpii_json, _flic, _aic, _penn, _penn_npz, _jhmdb,
    _alphapose, _mediapipe, _yolo_predictions, _mmpose, _mmpose_demo, _mars_mat73, _penn_mat73, _deeplabcut_h5,
)  # fmt: skip

# What a form's file may end in; a folder has none.
SUFFIXES = (".json", ".csv", ".parquet", ".xml", ".h5", "")

# Real samples beside the checkout: folder, source, files that are spoilt, options.
SHARED: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "real-coco": ("coco", "test_coco.json", ()),
    "real-crowdpose": ("crowdpose", "test_crowdpose.json", ()),
    "real-mpii": ("mpii", "test_mpii.json", ("--format", "mpii")),
    "real-aic": ("aic", "test_aic.json", ()),
    "real-jhmdb": ("jhmdb", "test_jhmdb_sub1.json", ()),
    "real-ochuman": ("ochuman", "test_ochuman.json", ()),
    "real-mhp": ("mhp", "test_mhp.json", ()),
}


def make_samples(folder: Path, server: Server, shared: Path | None) -> list[Sample]:
    """All samples, written into ``folder``; ``shared`` is the reference folder, or None where it is not at hand."""
    samples = []
    for number, build in enumerate(BUILDERS):
        place = folder / f"own{number}"
        place.mkdir(parents=True)
        samples.append(build(place))
    samples += _written(folder, server, samples[0], samples[1])
    if shared is not None:
        for name, (source, file, options) in SHARED.items():
            shutil.copytree(shared / "data" / source, folder / name)
            samples.append(Sample(name, folder / name, file, (file,), options=options))
        place = folder / "real-posetrack"
        shutil.copytree(shared / "data/posetrack18/annotations", place / "annotations")
        shutil.copytree(shared / "data/posetrack18/images", place / "images")
        source = "annotations/test_posetrack18_val.json"
        samples.append(Sample("real-posetrack", place, source, (source,)))
    return samples


def _with_its_pictures(written: Path) -> None:
    """Puts files in place of links to pictures: a link would lead nowhere from a case's copy."""
    for path in [p for p in written.rglob("*") if p.is_symlink()]:
        target = path.resolve()
        path.unlink()
        shutil.copyfile(target, path)


def _written(folder: Path, server: Server, pictures: Sample, video: Sample) -> list[Sample]:
    """What `convert --to` makes of both data sets in each form it knows."""
    from posecli.exports import FORMS

    found = []
    for form in FORMS:
        kind = "poses" if form in ("stream", "coco-results") else "labels"
        for source in (pictures, video):
            place = folder / f"{form}-{source.name}"
            shutil.copytree(source.folder, place, ignore=shutil.ignore_patterns("coco.json"))
            labels = str(source.folder / source.source)
            for suffix in (".jsonl",) if form == "stream" else SUFFIXES:
                name = f"written{suffix}"
                written = server.run(["convert", labels, "--to", form, "--out", name, "--quiet"], place)
                if written.code == 0:
                    _with_its_pictures(place / name)
                    read = server.run(["convert", name, "--out", "../read.json", "--overwrite", "--quiet"], place)
                    if form == "coco-results" or read.code == 0:
                        spoil = (f"{name}/**/*",) if (place / name).is_dir() else (name,)
                        found.append(Sample(f"{form} ({source.name})", place, name, spoil, kind))
                        break
                    shutil.rmtree(place / name) if (place / name).is_dir() else (place / name).unlink()
    return found
