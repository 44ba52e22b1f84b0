"""Targets and reading of the person finder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posecli.codecs.boxes import (
    FoundPeople,
    PeopleTargets,
    decode_people,
    encode_people,
    focal_heatmap_loss,
    giou_distance_loss,
    keep_boxes,
    merge_scales,
    moved_to_peaks,
    people_losses,
)
from posecli.grouping import dekr
from posecli.models.dekr import DekrBoxOutput

STRIDE, K = 8, 3


def targets(boxes, xy, visibility, size=(12, 16), known=None) -> PeopleTargets:
    return encode_people(
        np.array(boxes, float).reshape(-1, 4),
        np.array(xy, float).reshape(-1, K, 2),
        np.array(visibility).reshape(-1, K),
        np.ones(size) if known is None else known,
        STRIDE,
    )


def as_maps(t: PeopleTargets):
    """What a perfect network would give, batch of one."""
    heat = torch.from_numpy(t.heat).clamp(1e-6, 1 - 1e-6)
    return (heat.log() - (1 - heat).log())[None], torch.from_numpy(t.offset)[None], torch.from_numpy(t.box)[None]


def stacked(t: PeopleTargets) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(getattr(t, name))[None] for name in t.__dataclass_fields__}


def test_nobody_is_a_valid_picture():
    t = targets([], [], [])
    assert t.people == 0 and t.heat.max() == 0 and t.near.sum() == 0
    found = decode_people(*as_maps(t), STRIDE)[0]
    assert found.boxes_xyxy.shape == (0, 4) and found.xy.shape == (0, K, 2) and found.heat.shape == (0,)
    assert all(torch.isfinite(v) for v in people_losses(*as_maps(t), stacked(t)).values())


@settings(max_examples=30, deadline=None)
@given(st.floats(4, 60), st.floats(4, 40), st.floats(14, 60), st.floats(14, 50))
def test_round_trip_of_one_person(x, y, w, h):
    x1, y1 = min(x + w, 123), min(y + h, 91)
    joints = [[x + 1, y + 2], [x1 - 1, y1 - 3], [(x + x1) / 2, (y + y1) / 2]]
    t = targets([x, y, x1, y1], joints, [2, 1, 2])
    assert t.people == 1 and t.near.sum() == pytest.approx(1)
    found = decode_people(*as_maps(t), STRIDE, floor=0.5)[0]
    assert len(found.scores) == 1
    np.testing.assert_allclose(found.boxes_xyxy[0], [x, y, x1, y1], atol=1e-3)
    np.testing.assert_allclose(found.xy[0], joints, atol=1e-3)
    # A perfect network's joint heat at a regressed joint is that of its cell, at worst half a cell away diagonally.
    assert 0.5 < found.heat[0] <= 1


def test_the_mirrored_picture_says_the_same():
    """What a perfect network says of the mirrored input, moved as `mirrored_input` moves it, is what it says anyway."""
    size, swap = (12, 16), [1, 0, 2]
    box, joints = np.array([21.0, 10, 90, 71]), np.array([[30.0, 20], [80, 66], [61, 33]])
    # A pixel x of the input is seen at W - 1 - x in its mirror image, and STRIDE - 1 further left in the moved one.
    across = 8 * size[1] - 1 - (STRIDE - 1)
    turned = np.array([across - box[2], box[1], across - box[0], box[3]])
    swapped = np.column_stack([across - joints[swap, 0], joints[swap, 1]])
    both = [
        DekrBoxOutput(*as_maps(targets(corners, xy, [2, 2, 2]))) for corners, xy in ((box, joints), (turned, swapped))
    ]
    found = decode_people(*dekr.average_flipped(*both, swap), STRIDE, floor=0.5)[0]
    np.testing.assert_allclose(found.boxes_xyxy[0], box, atol=1e-3)
    np.testing.assert_allclose(found.xy[0], joints, atol=1e-3)
    x = torch.arange(3 * 4 * 128.0).reshape(1, 3, 4, 128)
    assert torch.equal(dekr.mirrored_input(x, STRIDE)[..., 5], x[..., across - 5])


def test_two_people_meet_and_the_smaller_keeps_its_middle():
    t = targets([[0, 0, 120, 88], [50, 34, 74, 58]], np.zeros((2, K, 2)), np.zeros((2, K)))
    assert t.people == 2
    found = decode_people(*as_maps(t), STRIDE, floor=0.5)[0]
    # Centres in one cell: one peak, the smaller person's box.
    np.testing.assert_allclose(found.boxes_xyxy, [[50, 34, 74, 58]], atol=1e-3)


def test_unlabelled_joints_are_unknown_in_their_persons_box_only():
    t = targets([[16, 16, 64, 64]], [[[20, 20], [0, 0], [40, 40]]], [[2, 0, 2]])
    assert t.heat_weight[1, 4, 4] == 0 and t.heat_weight[1, 10, 14] == 1
    assert t.heat_weight[0].min() == 1 and t.heat_weight[K].min() == 1
    assert not t.offset_weight[1].any()


def test_unknown_regions_do_not_punish_but_labelled_people_count():
    known = np.ones((12, 16))
    known[:, 8:] = 0
    t = targets([[80, 16, 112, 64]], np.zeros((1, K, 2)), np.zeros((1, K)), known=known)
    assert t.heat_weight[K, 0, 15] == 0
    assert t.heat_weight[K][t.heat[K] == 1] == 1


def test_a_centre_outside_the_map_is_left_out():
    t = targets([[-80, 0, -8, 60]], np.zeros((1, K, 2)), np.zeros((1, K)))
    assert t.people == 0 and t.heat.max() == 0


def test_focal_loss_by_hand():
    # p = 0.5 everywhere: a peak costs -log(.5) (.5)^2, background the same, a cell of target 0.5 a sixteenth of it.
    unit = np.log(2) * 0.25
    logits, target = torch.zeros(3), torch.tensor([1.0, 0.0, 0.5])
    assert focal_heatmap_loss(logits, target, torch.ones(3)).item() == pytest.approx(unit * (1 + 1 + 1 / 16))
    assert focal_heatmap_loss(logits, target, torch.tensor([0.0, 1, 0])).item() == pytest.approx(unit)


def test_giou_by_hand():
    one = torch.ones(1, 1, 1)
    same = torch.tensor([2.0, 3, 4, 5]).view(1, 4, 1, 1)
    assert giou_distance_loss(same, same, one).item() == pytest.approx(0, abs=1e-6)
    # A box of 2 x 2 within one of 4 x 4 about the same cell: IoU 1/4, hull = union.
    small, large = torch.ones(1, 4, 1, 1), torch.full((1, 4, 1, 1), 2.0)
    assert giou_distance_loss(small, large, one).item() == pytest.approx(0.75)
    # Boxes 3 x 2 to the left and to the right: inter 2 x 2, union 8, hull 4 x 2.
    a = torch.tensor([2.0, 1, 1, 1]).view(1, 4, 1, 1)
    b = torch.tensor([1.0, 1, 2, 1]).view(1, 4, 1, 1)
    assert giou_distance_loss(a, b, one).item() == pytest.approx(0.5)


def test_losses_fall_from_a_blank_network_to_a_perfect_one():
    t = targets(
        [[16, 16, 64, 72], [80, 8, 120, 80]], np.random.default_rng(0).uniform(20, 60, (2, K, 2)), np.full((2, K), 2)
    )
    batch = stacked(t)
    perfect = people_losses(*as_maps(t), batch)
    blank = people_losses(
        torch.full((1, K + 1, 12, 16), -2.0), torch.zeros(1, 2 * K, 12, 16), torch.full((1, 4, 12, 16), 2.0), batch
    )
    assert set(perfect) == {"centre", "joints", "box", "offset"}
    for name, value in perfect.items():
        assert value < blank[name] / 5, name
    assert perfect["box"] == pytest.approx(0, abs=1e-5) and perfect["offset"] == 0


def test_batch_of_one_equals_one_of_a_batch():
    rng = np.random.default_rng(1)
    maps = [
        as_maps(targets(b, rng.uniform(20, 60, (len(b), K, 2)), np.full((len(b), K), 2)))
        for b in ([[16, 16, 64, 72]], [[80, 8, 120, 80], [8, 8, 40, 40]], np.zeros((0, 4)))
    ]
    together = decode_people(*(torch.cat(m) for m in zip(*maps, strict=True)), STRIDE)
    for alone, among in zip(maps, together, strict=True):
        alone = decode_people(*alone, STRIDE)[0]
        for name in ("boxes_xyxy", "scores", "xy", "joint_scores"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(among, name))


def test_boxes_that_overlap_too_much_are_dropped_weakest_first():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 0, 60, 10]], float)
    assert keep_boxes(boxes, np.array([0.5, 0.9, 0.4]), 0.6).tolist() == [1, 2]
    assert keep_boxes(boxes, np.array([0.5, 0.9, 0.4]), 0.9).tolist() == [1, 0, 2]
    assert keep_boxes(np.zeros((0, 4)), np.zeros(0), 0.6).tolist() == []


def test_a_box_inside_a_better_one_is_dropped_when_asked():
    boxes = np.array([[0, 0, 40, 40], [10, 10, 20, 20], [30, 30, 60, 60]], float)
    scores = np.array([0.9, 0.5, 0.4])
    assert keep_boxes(boxes, scores, 0.6).tolist() == [0, 1, 2]
    assert keep_boxes(boxes, scores, 0.6, inside=0.8).tolist() == [0, 2]
    # The better one may be the smaller one.
    assert keep_boxes(boxes, scores[[1, 0, 2]], 0.6, inside=0.8).tolist() == [1, 2]


def test_scales_meet_in_the_pixels_of_the_reference():
    def seen(boxes, scores):
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        n = len(boxes)
        return FoundPeople(
            boxes, np.array(scores, np.float32), np.zeros((n, K, 2), np.float32), np.ones((n, K), np.float32)
        )

    # One person 60 high at the fine scale, 30 at the coarse one; one too large for the fine look, one too small for
    # the coarse look.
    fine = seen([[9.5, 19.5, 39.5, 79.5], [99.5, -0.5, 149.5, 159.5], [199.5, 9.5, 209.5, 25.5]], [0.8, 0.9, 0.5])
    coarse = seen([[4.5, 9.5, 19.5, 39.5], [49.5, -0.5, 79.5, 79.5], [119.5, 9.5, 124.5, 17.5]], [0.7, 0.6, 0.99])
    found = merge_scales([fine, coarse], [1.0, 2.0], smallest=20, largest=120)
    np.testing.assert_allclose(
        found.boxes_xyxy, [[9.5, 19.5, 39.5, 79.5], [99.5, -0.5, 159.5, 159.5], [199.5, 9.5, 209.5, 25.5]], rtol=1e-5
    )
    np.testing.assert_allclose(found.scores, [0.8, 0.6, 0.5])
    none = merge_scales([seen([], []), seen([], [])], [1.0, 2.0])
    assert none.boxes_xyxy.shape == (0, 4)


def test_boxes_of_one_person_vote():
    boxes = np.array([[10, 10, 50, 90], [12, 10, 54, 90]], np.float32)
    look = FoundPeople(
        boxes, np.array([0.8, 0.4], np.float32), np.zeros((2, K, 2), np.float32), np.ones((2, K), np.float32)
    )
    found = merge_scales([look], [1.0])
    # Weights 0.64 and 0.16: the left side a fifth of the way from 10 to 12.
    np.testing.assert_allclose(found.boxes_xyxy, [[10.4, 10, 50.8, 90]], rtol=1e-5)
    np.testing.assert_allclose(found.scores, [0.8])


def test_joints_move_to_the_peaks_near_by() -> None:
    heat = torch.zeros(3, 12, 16)
    heat[0, 5, 6], heat[0, 5, 7] = 0.9, 0.3  # of joint 0: somebody's, between two cells
    heat[0, 5, 13] = 1.0  # and somebody else's, higher
    heat[1, 0, 0] = 0.8  # in a corner
    heat[2, 4, 4] = 0.05  # not seen
    joints = torch.tensor([[[5.0, 6.5], [1.0, 0.5], [4.5, 4.5]], [[12.0, 6.0], [15.0, 11.0], [1.0, 1.0]]])
    moved = moved_to_peaks(heat, joints, torch.tensor([2.0, 2.0]))
    assert torch.allclose(moved[0], torch.tensor([[6.25, 5.0], [0.0, 0.0], [4.5, 4.5]]), atol=1e-5)
    assert torch.allclose(moved[1, 0], torch.tensor([13.0, 5.0]), atol=1e-5)
    assert torch.equal(moved[1, 1:], joints[1, 1:])  # too far off; not seen
    assert moved_to_peaks(heat, joints[:0], torch.zeros(0)).shape == (0, 3, 2)


def test_people_with_joints_at_peaks() -> None:
    """Offsets that are all two cells wrong are made good by heat maps, and only if it is asked for."""
    heatmap = torch.full((1, 3, 16, 16), -9.0)
    heatmap[0, 2, 8, 8] = 3.0  # the centre
    places = torch.tensor([[5.0, 4.0], [11.0, 12.0]])
    for joint, (x, y) in enumerate(places.int().tolist()):
        heatmap[0, joint, y, x] = 3.0
    offset = (8.0 - (places + torch.tensor([2.0, -1.0]))).flatten().view(1, 4, 1, 1).expand(1, 4, 16, 16)
    box = torch.full((1, 4, 16, 16), 6.0)
    plain, moved = (decode_people(heatmap, offset, box, 8, reach=reach)[0] for reach in (0.0, 0.2))
    assert np.allclose(plain.xy[0], 8 * (places.numpy() + [2, -1]), atol=1e-3)
    assert np.allclose(moved.xy[0], 8 * places.numpy(), atol=0.1)
    assert (moved.joint_scores > 0.9).all() and (plain.joint_scores < 0.1).all()
