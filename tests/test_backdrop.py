"""People cut out along their masks and put before other pictures: pixels, labels, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from posecli import augment
from posecli.augment_pictures import Picture, cut_out
from posecli.data import make_source, pictures_named
from posecli.errors import PoseError, UsageError
from posecli.formats import coco
from posecli.masks import mask_of
from posecli.settings import gentle, read_toml, resolve, to_toml
from posecli.skeletons import SKELETONS
from posecli.tasks import make_task

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
STILL = {
    "rotation": 0.0, "shift": 0.0, "box_scale": [1.2, 1.2], "flip": 0.0, "colour": 0.0, "grey": 0.0, "blur": 0.0,
    "noise": 0.0, "occlude": 0.0, "min_side": 1.0,
}  # fmt: skip


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Two red people on blue ground; the first has a mask. Green backdrops."""
    joints = SKELETONS["coco17"].keypoints
    image = np.zeros((80, 60, 3), np.uint8)
    image[..., 0] = 255
    image[20:60, 20:40] = (0, 0, 255)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "b.png"), image)
    (tmp_path / "grounds").mkdir()
    for n in range(3):
        cv2.imwrite(str(tmp_path / f"grounds/{n}.png"), np.full((50, 70 + n, 3), (0, 200, 0), np.uint8))
    keypoints = np.tile([30.0, 40.0, 2], (17, 1))
    keypoints[5], keypoints[12] = (22, 25, 2), (38, 50, 2)
    annotations = [
        {"id": n + 1, "image_id": n + 1, "category_id": 1, "bbox": [20, 20, 20, 40], "area": 800.0, "iscrowd": 0,
         "num_keypoints": 17, "keypoints": keypoints.ravel().tolist(),
         **({"segmentation": [[20, 20, 39, 20, 39, 59, 20, 59]]} if n == 0 else {})}
        for n in range(2)
    ]  # fmt: skip
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({
        "images": [{"id": n + 1, "file_name": f"{name}.png", "width": 60, "height": 80} for n, name in enumerate("ab")],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(joints), "skeleton": []}],
    }))  # fmt: skip
    return file


def samples(file: Path, **changes: object) -> list[dict[str, np.ndarray]]:
    dataset = coco.read(file)
    settings = resolve({"model": "pose-fpn", "data": [str(file)], "input_size": [96, 96]}, STILL, changes)
    task = make_task(settings, [make_source(dataset, dataset.skeleton, "people")], dataset.skeleton)
    return [task.sample(0, n, np.random.default_rng(5), (96, 96)) for n in range(2)]


@pytest.mark.parametrize("model", ["pose-fpn", "deeppose-tiny"])
def test_a_person_with_a_mask_stands_before_another_picture(people: Path, model: str) -> None:
    before = samples(people, model=model)
    after = samples(people, model=model, backdrop=1.0, backdrops=str(people.parent / "grounds"))
    red, blue, green = (
        [(sample["image"][..., channel].astype(int) > 120) for sample in after] for channel in (0, 2, 1)
    )
    assert blue[1].any() and not green[1].any()  # no mask: as it was
    assert not blue[0].any()  # the old ground is gone, and
    assert green[0].mean() > 0.5  # another is there
    was = before[0]["image"][..., 0] > 120
    assert (red[0] & was).sum() / (red[0] | was).sum() > 0.9  # the person is not
    for was, now in zip(before, after, strict=True):
        np.testing.assert_array_equal(was["xy"], now["xy"])


def test_backdrops_are_asked_for_as_a_whole_or_refused(people: Path, tmp_path: Path) -> None:
    base = {"model": "pose-fpn", "data": [str(people)]}
    for wrong in ({"backdrop": 0.5}, {"backdrops": "x"}, {"backdrop": 1.5, "backdrops": "x"}):
        with pytest.raises(UsageError, match="backdrop"):
            resolve(base, wrong)
    asked = {"backdrop": 0.5, "backdrops": str(people.parent / "grounds")}
    with pytest.raises(UsageError, match="clips"):
        resolve({**base, "model": "unipose-lstm-resnet50", "clip_frames": 3}, asked)
    dataset = coco.read(people)
    with pytest.raises(UsageError, match="whole pictures"):
        make_task(
            resolve({**base, "model": "dekr-tiny", "input_size": [96, 96]}, asked),
            [make_source(dataset, dataset.skeleton, "people")],
            dataset.skeleton,
        )
    with pytest.raises(PoseError, match="nowhere"):
        samples(people, backdrop=0.5, backdrops=str(tmp_path / "nowhere"))
    settings = resolve(base, asked)
    assert gentle(settings).backdrop == 0.25
    (tmp_path / "run.toml").write_text(to_toml(settings))
    assert resolve(read_toml(tmp_path / "run.toml")) == settings
    # In a configuration file the folder is seen from the file.
    (tmp_path / "own.toml").write_text('backdrop = 0.5\nbackdrops = "grounds"\n')
    assert read_toml(tmp_path / "own.toml")["backdrops"] == str(tmp_path / "grounds")


def test_pictures_are_named_by_a_folder_or_a_list(people: Path) -> None:
    folder = people.parent
    assert [p.name for p in pictures_named(folder)] == ["a.png", "b.png"]
    names = folder / "list.txt"
    names.write_text("b.png\n\ngrounds/0.png\n")
    assert pictures_named(names) == [folder / "b.png", folder / "grounds/0.png"]
    names.write_text("gone.png\n")
    with pytest.raises(PoseError, match=r"gone\.png"):
        pictures_named(names)
    names.write_text("\n")
    with pytest.raises(PoseError, match="no pictures"):
        pictures_named(names)


def test_a_random_part_has_the_shape_asked_for_and_keeps_proportions() -> None:
    rows, columns = np.mgrid[:120, :200]
    image = np.stack([columns, rows, rows], -1).astype(np.uint8)
    widths = []
    for seed in range(40):
        part = augment.random_part(image, 50, 25, np.random.default_rng(seed)).astype(float)
        assert part.shape == (25, 50, 3)
        across, down = abs(part[0, -1, 0] - part[0, 0, 0]) / 49, (part[-1, 0, 1] - part[0, 0, 1]) / 24
        assert across == pytest.approx(down, rel=0.06)
        widths.append(across * 50)
    assert 95 < min(widths) < 130 and 170 < max(widths) < 205


def test_masks_of_another_picture_are_refused() -> None:
    rle = {"size": [4, 3], "counts": [2, 5, 5]}
    np.testing.assert_array_equal(mask_of(rle, 3, 4).flatten(order="F"), [0] * 2 + [1] * 5 + [0] * 5)
    with pytest.raises(PoseError, match="3 x 4 pixels for a picture of 6 x 8"):
        mask_of(rle, 6, 8)


@pytest.mark.parametrize("counts", [[], [5], [50, 50], "", "zzzzzz", "7c", "7", "5l"])
def test_run_lengths_that_end_early_are_refused(counts: object) -> None:
    """The rest was whatever lay in memory."""
    with pytest.raises(PoseError, match=r"here: .*(of 200 pixels|cannot read)"):
        mask_of({"size": [10, 20], "counts": counts}, 20, 10, "here")


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_of_both_kinds_are_the_same_mask(seed: int) -> None:
    from pycocotools import mask as coco_mask

    shape = np.random.default_rng(seed).integers(0, 60, 2) // 3 + 1
    wanted = (np.random.default_rng(seed).random(shape) < 0.3 * (seed % 4)).astype(np.uint8)
    packed = coco_mask.encode(np.asfortranarray(wanted))
    flat = wanted.flatten(order="F")
    edges = [0, *(np.flatnonzero(np.diff(flat, prepend=0)).tolist()), flat.size]
    plain = {"size": list(shape), "counts": np.diff(edges).tolist()}
    for rle in (packed, {**packed, "counts": packed["counts"].decode()}, plain):
        np.testing.assert_array_equal(mask_of(rle, int(shape[1]), int(shape[0])), wanted)


def test_outlines_far_beyond_any_picture_are_refused() -> None:
    """They took the process with them: pycocotools makes a list of all pixels on the way."""
    with pytest.raises(PoseError, match="here: the segmentation holds"):
        mask_of([[1e9, 1e9, 2e9, 1, 1, 1]], 20, 10, "here")
    assert mask_of([[-90.0, -90, 5000, -90, 5000, 5000, -90, 5000]], 20, 10).all()


OUTLINE = [20.0, 20, 39, 20, 39, 59, 20, 59]


@pytest.mark.parametrize("nothing", [[[]], [[20, 20, 39, 59]], [[], [20, 20, 39, 59]]])
def test_masks_that_enclose_nothing_are_none(people: Path, nothing: list[list[float]]) -> None:
    """Tools write empty polygons and lines among the others: the person stays, and a crowd is masked by its box."""
    value = json.loads(people.read_text())
    value["annotations"][0]["segmentation"] = nothing
    value["annotations"][1]["segmentation"] = [*nothing, OUTLINE]
    people.write_text(json.dumps(value))
    first, second = samples(people, backdrop=1.0, backdrops=str(people.parent / "grounds"))
    was = samples(people)
    np.testing.assert_array_equal(first["image"], was[0]["image"])
    assert (second["image"] != was[1]["image"]).any()
    assert len(samples(people, paste=1.0)) == 2

    value["annotations"][0]["iscrowd"] = 1
    people.write_text(json.dumps(value))
    dataset = coco.read(people)
    still = {"rotation": 0.0, "scale": [1.0, 1.0], "shift": 0.0, "flip": 0.0}
    settings = resolve({"model": "dekr-tiny", "data": [str(people)], "input_size": [64, 64]}, still)
    task = make_task(settings, [make_source(dataset, dataset.skeleton, "people")], dataset.skeleton)
    sample = task.sample(0, 0, np.random.default_rng(0), (64, 64))
    assert (sample["weight"][:, 4:11, 6:10] == 0).all() and (sample["weight"][:, :2] > 0).all()


@pytest.mark.parametrize(
    "odd",
    [[[[20, 20], [39, 20], [39, 59]]], [["a", 1, 2, 3, 4, 5]], [1, 2, 3, 4, 5, 6], {"counts": [5]}, 3, [[np.nan] * 6]],
)
def test_masks_that_are_none_are_refused(odd: object) -> None:
    with pytest.raises(PoseError, match=r"here: (cannot read the|the) segmentation"):
        mask_of(odd, 60, 80, "here")


def athlete_masks() -> ModuleType:
    sys.path.insert(0, str(EXAMPLES))
    try:
        return __import__("athlete_masks")
    finally:
        sys.path.remove(str(EXAMPLES))


def test_an_athletes_mask_is_kept_where_it_meets_the_labels() -> None:
    fits, rle = athlete_masks().fits, athlete_masks().rle
    joints = np.array([
        [40, 95], [40, 80], [42, 65], [58, 65], [60, 80], [60, 95], [25, 60], [28, 48], [38, 35], [62, 35], [72, 48],
        [75, 60], [50, 30], [50, 12],
    ], float)  # fmt: skip
    joints = np.column_stack([joints, np.full(14, 2.0)])
    body = np.zeros((110, 100), np.uint8)
    for a, b in athlete_masks().LIMBS:
        cv2.line(body, joints[a, :2].astype(int).tolist(), joints[b, :2].astype(int).tolist(), 1, 9)
    cv2.fillConvexPoly(body, joints[[2, 3, 9, 8], :2].astype(np.int32), 1)
    person = body.astype(bool)
    assert fits(person, joints)
    np.testing.assert_array_equal(mask_of(rle(person), 100, 110).astype(bool), person)
    legs_missing = person.copy()
    legs_missing[70:] = False
    assert not fits(legs_missing, joints)
    assert not fits(np.ones_like(person), joints)  # the whole picture
    assert not fits(np.zeros_like(person), joints)
    assert not fits(np.roll(person, 30, 1), joints)  # somebody beside
    # What is cut out along it has its outline's box.
    xy = np.zeros((1, 14, 2)) + joints[None, :, :2]
    picture = Picture(
        Path("none"), np.array([[0.0, 0, 99, 109]]), xy, np.full((1, 14), 2), (rle(person),), joint_boxes=True
    )
    cutout = cut_out(picture, np.zeros((110, 100, 3), np.uint8), 0, SKELETONS["lsp14"])
    assert cutout is not None
    rows, columns = np.flatnonzero(person.any(1)), np.flatnonzero(person.any(0))
    outline = np.array([columns[0], rows[0], columns[-1], rows[-1]])
    np.testing.assert_array_equal(cutout.box_xyxy, outline - np.tile(outline[:2] - 4, 2))  # 4 pixels around it
