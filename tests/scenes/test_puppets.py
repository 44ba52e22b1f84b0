"""Puppets: bones go where they are told, labels lie on what is drawn, splits share nothing, conditions all else."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecli.errors import PoseError, UsageError
from posecli.scenes.puppet_show import Cast, PuppetOptions, generate_puppets, rehearse, shoot
from posecli.scenes.puppets import J19, PARTS, People, bone_matrix, in_split, make_puppet

# A front view, 170 pixels tall; limbs stand apart.
BODY = {
    "nose": (75, 22), "head_top": (75, 8), "left_shoulder": (95, 40), "right_shoulder": (55, 40),
    "left_elbow": (118, 65), "right_elbow": (32, 65), "left_wrist": (132, 92), "right_wrist": (18, 92),
    "left_hip": (88, 95), "right_hip": (62, 95), "left_knee": (96, 132), "right_knee": (54, 132),
    "left_ankle": (102, 170), "right_ankle": (48, 170),
}  # fmt: skip
JOINTS = {name: np.array(place, float) for name, place in BODY.items()}
COLOURS = {name: (40 + 20 * n, 250 - 20 * n, (90 * n) % 256) for n, (name, _, _) in enumerate(PARTS)}


def picture():
    """A person of thick lines on a grey ground, a colour for each part."""
    image = np.full((200, 150, 3), 128, np.uint8)
    mask = np.zeros((200, 150), np.uint8)
    middle = {"neck": (75, 40), "pelvis": (75, 95), "crown": BODY["head_top"], **BODY}
    for name, a, b in PARTS:
        wide = 44 if name == "torso" else 14
        cv2.line(image, middle[a], middle[b], COLOURS[name], wide)
        cv2.line(mask, middle[a], middle[b], 1, wide)
    return image, mask


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """People, backgrounds and tracks for every split."""
    folder = tmp_path_factory.mktemp("puppets")
    (folder / "people").mkdir()
    (folder / "grounds").mkdir()
    image, mask = picture()
    outline, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    polygon = max(outline, key=len)[:, 0].astype(float).ravel().tolist()
    names = list(BODY)
    labels = [value for name in names for value in (*BODY[name], 2)]
    images, annotations = [], []
    for n in range(40):
        name = f"p{n}.png"
        cv2.imwrite(str(folder / "people" / name), image[..., ::-1])
        images.append({"id": n + 1, "file_name": f"people/{name}", "width": 150, "height": 200})
        annotations.append(
            {"id": n + 1, "image_id": n + 1, "category_id": 1, "iscrowd": 0, "bbox": [10, 5, 130, 170], "area": 9000,
             "keypoints": labels, "num_keypoints": len(names), "segmentation": [polygon]}
        )  # fmt: skip
        ground = np.full((60, 80, 3), 100 + n, np.uint8)
        cv2.imwrite(str(folder / "grounds" / f"g{n}.png"), ground)
    category = {"id": 1, "name": "person", "keypoints": names, "skeleton": []}
    people = folder / "people.json"
    people.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    order = [
        "nose",
        *(f"{s}_{j}" for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for s in ("right", "left")),
    ]
    one = np.array([BODY[name] for name in order], float)
    sequences, length = 44, 30
    swing = 12 * np.sin(np.arange(length) / 5)
    xy = np.repeat(one[None], length, 0)
    xy[:, 5:7, 1] -= swing[:, None]
    xy[..., 0] += np.arange(length)[:, None]
    views = np.array(["front" if n // 20 % 2 == 0 else "left" for n in range(sequences)])
    np.savez(
        folder / "tracks.npz", offset=np.arange(sequences) * length, num_frames=np.full(sequences, length),
        x=np.tile(xy[..., 0], (sequences, 1)), y=np.tile(xy[..., 1], (sequences, 1)),
        visibility=np.ones((sequences * length, 13)), action=np.array(["wave"] * sequences), view=views,
        train=np.where(np.arange(sequences) % 4 == 3, -1, 1),
    )  # fmt: skip
    return {"puppets": (str(people),), "motion": str(folder / "tracks.npz"), "backgrounds": str(folder / "grounds")}


def options(material, **changes):
    usual = {"size_wh": (160, 120), "frames": 6, "fps": 15.0, "count": 1}
    return PuppetOptions(**material, **{**usual, **changes})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-80, 80), min_size=8, max_size=8), st.floats(-3, 3))
def test_a_bone_goes_where_it_is_told(numbers, across):
    old, new = np.array(numbers[:4]).reshape(2, 2), np.array(numbers[4:]).reshape(2, 2)
    if min(np.linalg.norm(old[1] - old[0]), np.linalg.norm(new[1] - new[0])) < 1:
        return
    matrix = bone_matrix(old, new, across)
    np.testing.assert_allclose(old @ matrix[:, :2].T + matrix[:, 2], new, atol=1e-6)
    # Areas grow by the stretch along the bone times that across it.
    stretch = np.linalg.norm(new[1] - new[0]) / np.linalg.norm(old[1] - old[0])
    assert np.linalg.det(matrix[:, :2]) == pytest.approx(stretch * across, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("masked", ["polygon", "none", "empty"])
def test_parts_hold_what_belongs_to_their_bones(masked):
    image, mask = picture()
    outline, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    whole = [max(outline, key=len)[:, 0].astype(float).ravel().tolist()]
    polygon = {"polygon": whole, "none": None, "empty": [[]]}[masked]
    puppet = make_puppet(image, JOINTS, polygon)
    assert puppet is not None and puppet.shoulders == pytest.approx(40) and set(puppet.head) == {"nose", "head_top"}
    for name, part in puppet.parts.items():
        x, y = np.round(part.bone.mean(0)).astype(int)
        assert part.alpha[y, x] > 0.9 and tuple(part.image[y, x]) == COLOURS[name]


def test_a_picture_that_its_labels_do_not_fit(material, tmp_path):
    """It was made smaller after it was labelled: told before OpenCV meets an empty piece of it."""
    value = json.loads(Path(material["puppets"][0]).read_text())
    (tmp_path / "people").mkdir()
    for entry in value["images"]:
        cv2.imwrite(str(tmp_path / entry["file_name"]), np.full((30, 20, 3), 90, np.uint8))
    (tmp_path / "people.json").write_text(json.dumps(value))
    with pytest.raises(PoseError, match=r"p\d+\.png: 20 x 30 pixels, but its labels are of 150 x 200 \(posecli check"):
        People([tmp_path / "people.json"], "all").puppet(np.random.default_rng(0))
    image, _ = picture()
    for size in ((1, 1), (10, 200), (200, 3)):
        assert make_puppet(image[: size[0], : size[1]], JOINTS) is None
    far = {name: place + 1000 for name, place in JOINTS.items()}
    large = {name: 20 * place - (2990, 0) for name, place in JOINTS.items()}
    assert make_puppet(image, far) is None and make_puppet(image[:, :2], large) is None


def test_labels_lie_on_the_parts_that_are_drawn(material):
    made = options(material, blur=0.0, occluders=0.0, noise=0.0, camera_motion=2.0, frames=4)
    play = rehearse(made, Cast(made), "front", 0)
    actor = play[0][0]
    seen = 0
    for frame in range(4):
        image, (label,) = shoot(made, *play, frame)
        for joint, part in (
            ("left_elbow", "left_forearm"),
            ("right_wrist", "right_forearm"),
            ("left_knee", "left_shank"),
        ):
            if label.visibility[J19[joint]] != 2:
                continue
            # A step from the joint along the bone lies in the bone's colour.
            _, a, b = next(p for p in PARTS if p[0] == part)
            start, end = label.xy[J19[a]], label.xy[J19[b]]
            if not np.isfinite([*start, *end]).all():
                continue
            x, y = np.round(0.5 * start + 0.5 * end).astype(int)
            wanted = np.array(COLOURS[part]) * actor.light
            assert np.abs(image[y, x] - np.clip(wanted, 0, 255)).max() < 40, (frame, part)
            seen += 1
        low, high = label.box_xyxy[:2] - 1, label.box_xyxy[2:] + 1
        found = label.xy[label.visibility > 0]
        assert ((found > low - 12) & (found < high + 12)).all() and label.area > 100
    assert seen >= 6


def test_conditions_change_pixels_and_nothing_else(material):
    """The same seed shows the same people doing the same, whatever the picture suffers."""
    plain = options(material, blur=0.0, occluders=0.0)
    cast = Cast(plain)
    _, (label,) = shoot(plain, *rehearse(plain, cast, "side", 0), 3)
    for changes in ({"blur": 1.0}, {"occluders": 6.0}, {"noise": 20.0, "light": "dim"}):
        hard = options(material, **{"blur": 0.0, "occluders": 0.0, **changes})
        _, (other,) = shoot(hard, *rehearse(hard, cast, "side", 0), 3)
        np.testing.assert_allclose(other.xy, label.xy, atol=1e-3)
    hard = options(material, blur=0.0, occluders=6.0)
    hidden = [shoot(hard, *rehearse(hard, cast, "side", 0), f)[1][0].visibility for f in range(6)]
    assert (np.stack(hidden) == 1).any()


def test_splits_share_no_person_background_or_track(material):
    used = {}
    for split in ("train", "val", "test"):
        cast = Cast(options(material, split=split))
        people = {path.name for path, *_ in cast.people._people}
        grounds = {path.name for path in cast.backgrounds.files}
        tracks = {cast.track(view, np.random.default_rng(n)).number for view in ("front", "side") for n in range(30)}
        assert people and grounds and tracks and all(in_split(name, split) for name in people | grounds)
        used[split] = people | grounds | {str(n) for n in tracks}
    assert not used["train"] & used["val"] and not used["train"] & used["test"] and not used["val"] & used["test"]


def test_the_verb_writes_a_folder_that_convert_reads(material, tmp_path, cli):
    from posecli.formats import coco

    more = ["--motion", material["motion"], "--backgrounds", material["backgrounds"], "--size", "96x96", "--frames", 4]
    made = cli(
        "scenes", tmp_path / "mars", "--puppets", material["puppets"][0], *more, "--count", 1, "--people", 1, "--quiet"
    )
    assert made.code == 0 and "2 videos, 8 frames, 8 people" in made.out
    done = cli("convert", tmp_path / "mars", "--out", tmp_path / "coco.json", "--no-frames", "--quiet")
    assert done.code == 0, done.err
    dataset = coco.read(tmp_path / "coco.json")
    assert {video.tags for video in dataset.videos} == {("front",), ("side",)} and len(dataset.records) == 8
    assert all(p.track_id == 1 for r in dataset.records for p in r.instances)
    again = cli("scenes", tmp_path / "mars", "--puppets", material["puppets"][0], *more, "--quiet")
    assert again.code == 1 and "exists already" in again.err
    wrong = cli("scenes", tmp_path / "b", "--puppets", material["puppets"][0], "--quiet")
    assert wrong.code == 2 and "--motion" in wrong.err


def test_errors(material, tmp_path):
    with pytest.raises(UsageError, match="views"):
        generate_puppets(tmp_path / "a", options(material, views=("top",)))
    small = json.loads(Path(material["puppets"][0]).read_text())
    small["annotations"] = small["annotations"][:0]
    (tmp_path / "none.json").write_text(json.dumps(small))
    with pytest.raises(PoseError, match="nobody for a puppet"):
        Cast(options({**material, "puppets": (str(tmp_path / "none.json"),)}))
