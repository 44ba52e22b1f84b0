"""Canvases for the person finder: labels move with pixels, and nothing unlabelled is taken for background."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from posecli.augment_pictures import (
    Canvas,
    Picture,
    PictureMixer,
    Pool,
    cut_out,
    limb_mask,
    moved_boxes,
    pictures_of,
    random_view,
    split_tiles,
)
from posecli.errors import PoseError
from posecli.skeletons import SKELETONS
from posecli.types import Dataset, Instance, Record

BODY = SKELETONS["body19"]
K = BODY.num_keypoints
LEFT, RIGHT = BODY.index("left_wrist"), BODY.index("right_wrist")
BOX = np.array([20.0, 30.0, 60.0, 90.0])


@pytest.fixture
def picture(tmp_path: Path) -> tuple[Picture, np.ndarray]:
    """A person as a white rectangle on grey, a red and a blue dot for the left and right wrist."""
    image = np.full((120, 100, 3), 90, np.uint8)
    image[30:91, 20:61] = 255
    xy, visibility = np.zeros((1, K, 2)), np.zeros((1, K), int)
    for joint, at, colour in ((LEFT, (30, 45), (255, 0, 0)), (RIGHT, (50, 75), (0, 0, 255))):
        cv2.circle(image, at, 3, colour, -1)
        xy[0, joint], visibility[0, joint] = at, 2
    path = tmp_path / "one.png"
    cv2.imwrite(str(path), image[..., ::-1])
    polygon = [[20.0, 30.0, 61.0, 30.0, 61.0, 91.0, 20.0, 91.0]]
    return Picture(path, BOX[None], xy, visibility, masks=(polygon,)), image


def laid(picture: Picture, image: np.ndarray, matrix: np.ndarray, region=(0, 0, 160, 160), size=160) -> Canvas:
    canvas = Canvas(size, size, K)
    canvas.lay(picture, image, matrix, region, BODY.flip_index)
    return canvas


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("zoom", [0.45, 1.0, 1.5])
def test_pixels_and_labels_move_together(picture, zoom, flip):
    picture, image = picture
    matrix = np.array([[zoom, 0, 3.0], [0, zoom, 5.0]])
    if flip:
        matrix[0] = (-zoom, 0, 150)
    canvas = laid(picture, image, matrix)
    assert len(canvas.boxes) == 1
    white = np.argwhere(canvas.image.max(2) > 200)[:, ::-1]
    np.testing.assert_allclose(canvas.boxes[0], [*white.min(0), *white.max(0)], atol=1.5)
    # A mirrored left wrist is a right one: the red dot becomes the right wrist.
    for joint, channel in ((LEFT, 0), (RIGHT, 2)):
        colour = 2 - channel if flip else channel
        x, y = np.round(canvas.xy[0, joint]).astype(int)
        assert canvas.image[y, x, colour] > 150 and canvas.image[y, x, 1] < 100
    assert canvas.visibility[0, [LEFT, RIGHT]].tolist() == [2, 2] and canvas.visibility.sum() == 4


def test_people_cut_at_the_edge_lose_joints_then_count_as_unknown(picture):
    picture, image = picture
    half = laid(picture, image, np.array([[1.0, 0, -40], [0, 1, 0]]))
    np.testing.assert_allclose(half.boxes, [[0, 30, 20, 90]])
    assert half.visibility[0, LEFT] == 0 and half.visibility[0, RIGHT] == 2
    sliver = laid(picture, image, np.array([[1.0, 0, -52], [0, 1, 0]]))
    assert len(sliver.boxes) == 0
    assert sliver.known[60, 4] == 0 and sliver.known[60, 20] == 1


def test_a_region_is_all_that_changes(picture):
    picture, image = picture
    canvas = laid(picture, image, np.array([[1.0, 0, 60], [0, 1, 0]]), region=(80, 0, 120, 160))
    assert canvas.image[:, :80].max() == 0 and canvas.image[:, 120:].max() == 0
    np.testing.assert_allclose(canvas.boxes, [[80, 30, 119, 90]])


def test_small_people_are_unknown(picture):
    picture, image = picture
    canvas = laid(picture, image, np.array([[0.15, 0, 10], [0, 0.15, 10]]))
    assert len(canvas.boxes) == 0 and canvas.known[19, 15] == 0 and canvas.known[100, 100] == 1


def test_incomplete_pictures_are_known_around_their_people_only(picture):
    picture, image = picture
    loose = Picture(picture.path, picture.boxes_xyxy, picture.xy, picture.visibility, complete=False)
    canvas = laid(loose, image, np.array([[1.0, 0, 0], [0, 1, 0]]))
    assert canvas.known[60, 40] == 1 and canvas.known[10, 10] == 0
    assert canvas.known[140, 140] == 1  # empty canvas beyond the picture


def test_crowds_are_unknown(picture):
    picture, image = picture
    crowd = Picture(picture.path, *_nobody(), unknown=np.array([[70.0, 10, 90, 30]]))
    canvas = laid(crowd, image, np.array([[1.0, 0, 0], [0, 1, 0]]))
    assert canvas.known[20, 80] == 0 and canvas.known[60, 40] == 1


def test_turned_joint_boxes_follow_their_joints(picture):
    picture, image = picture
    xy, visibility = np.zeros((1, K, 2)), np.zeros((1, K), int)
    xy[0, :4], visibility[0, :4] = [[20, 40], [60, 40], [40, 40], [40, 50]], 2
    turned = Picture(picture.path, BOX[None], xy, visibility, joint_boxes=True)
    # A quarter turn: a wide figure becomes a tall one; the box is that of its joints and a tenth of 40 around.
    canvas = laid(turned, image, np.array([[0.0, -1, 120], [1, 0, 0]]))
    np.testing.assert_allclose(canvas.boxes, [[66, 16, 84, 64]])


def test_pasting(picture):
    picture, image = picture
    cutout = cut_out(picture, image, 0, BODY)
    assert cutout is not None and cutout.alpha.shape == cutout.image.shape[:2]
    canvas = Canvas(160, 160, K)
    small = cutout.scaled(0.5, True, BODY.flip_index)
    canvas.paste(small, 10, 20)
    assert len(canvas.boxes) == 1
    white = np.argwhere(canvas.image.max(2) > 128)[:, ::-1]
    np.testing.assert_allclose(canvas.boxes[0], [*white.min(0), *white.max(0)], atol=1.5)
    x, y = np.round(canvas.xy[0, RIGHT]).astype(int)
    assert canvas.image[y, x, 0] > canvas.image[y, x, 2] + 50
    canvas.paste(cutout, 0, 10)  # hides the first one
    assert len(canvas.boxes) == 1
    canvas.paste(cutout, 500, 500)  # beside the canvas
    assert len(canvas.boxes) == 1


def test_without_mask_thick_limbs_are_cut_or_nothing(picture):
    picture, image = picture
    assert cut_out(Picture(picture.path, picture.boxes_xyxy, picture.xy, picture.visibility), image, 0, BODY) is None
    xy = np.zeros((K, 2))
    xy[5:17] = [[60, 20], [40, 20], [70, 40], [30, 40], [75, 60], [25, 60], [55, 60], [45, 60], [56, 80], [44, 80],
                [56, 100], [44, 100]]  # fmt: skip
    visibility = np.r_[np.zeros(5), np.full(12, 2), 0, 0]
    mask = limb_mask(xy, visibility, BODY, 100, 120)
    assert mask[40, 50] > 0.9 and mask[110, 90] == 0 and mask[3, 3] == 0
    assert limb_mask(xy, np.zeros(K), BODY, 100, 120).max() == 0


def _nobody() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros((0, 4)), np.zeros((0, K, 2)), np.zeros((0, K), int)


def test_tiles_cover_the_canvas_once():
    rng = np.random.default_rng(0)
    for count in range(1, 7):
        cover = np.zeros((200, 320), int)
        for x0, y0, x1, y1 in split_tiles(320, 200, count, rng):
            cover[y0:y1, x0:x1] += 1
        assert (cover == 1).all()


def test_close_views_show_somebody_most_of_the_time(picture):
    picture, image = picture
    rng, seen = np.random.default_rng(0), 0
    for _ in range(60):
        matrix = random_view(picture, image, (0, 0, 128, 128), (2.5, 3.0), rng)
        box = moved_boxes(picture.boxes_xyxy, matrix)[0]
        seen += (box[2:] > 0).all() and (box[:2] < 128).all()
        corners = moved_boxes(np.array([[-0.5, -0.5, 99.5, 119.5]]), matrix)[0]
        assert (corners[:2] < 1).all() and (corners[2:] > 126).all()  # no empty margin
    assert seen > 45


def test_samples_are_those_of_their_seed(picture, tmp_path):
    picture, image = picture
    path = tmp_path / "empty.png"
    cv2.imwrite(str(path), image)
    mixer = PictureMixer(BODY, [Pool([picture], 1, paste_weight=1)], [Picture(path, *_nobody())])
    seen = 0
    for i in range(40):
        one, two = (mixer.sample(np.random.default_rng(i), 128, 96) for _ in range(2))
        assert one.image.shape == (96, 128, 3) and one.known.shape == (96, 128)
        for name in ("image", "known", "boxes", "xy", "visibility"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        assert (one.boxes >= 0).all() and (one.boxes <= [127, 95, 127, 95]).all()
        seen += len(one.boxes)
    assert seen > 20


def test_joints_of_data_sets_meet_by_name():
    names = SKELETONS["lsp14"]
    xy = np.arange(names.num_keypoints * 2, dtype=float).reshape(-1, 2)
    visibility = np.full(names.num_keypoints, 2)
    visibility[0], xy[0] = 0, np.nan
    score = np.ones(names.num_keypoints)
    person = Instance(xy, visibility, score, box_xyxy=BOX)
    crowd = Instance(xy, visibility, score, box_xyxy=BOX + 5, ignore=True)
    record = Record(1, "a.jpg", 100, 120, (person, crowd), extra={"all_people_labelled": False})
    (found,) = pictures_of(Dataset(names, (record,), root="pictures"), BODY)
    assert found.path == Path("pictures/a.jpg") and not found.complete
    np.testing.assert_array_equal(found.boxes_xyxy, [BOX])
    np.testing.assert_array_equal(found.unknown, [BOX + 5])
    np.testing.assert_array_equal(found.xy[0, BODY.index("head_top")], xy[names.index("head_top")])
    assert found.visibility[0, BODY.index("nose")] == 0 and found.visibility[0, BODY.index("right_ankle")] == 0
    assert np.isfinite(found.xy).all()


def test_unreadable_pictures_are_named(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(PoseError, match=r"text\.jpg"):
        Picture(tmp_path / "text.jpg", *_nobody()).read()
    with pytest.raises(PoseError, match="pool"):
        PictureMixer(BODY, [], [])
