"""Two sides read together: where maps show two places they get one each, and sure maps are read as ever."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posecli.checkpoint import ModelMeta
from posecli.codecs import sides
from posecli.codecs.softmax import decode_softmax, encode_softmax
from posecli.errors import UsageError
from posecli.inference import PoseModel, PredictOptions
from posecli.looks import agreed
from posecli.models import MODELS
from posecli.models.layers import HeatmapOutput
from posecli.readout import TOP_DOWN, reading
from posecli.skeletons import get_skeleton
from posecli.types import Instance

SKELETON = get_skeleton("body19")
LIMBS = sides.limb_joints(SKELETON.keypoints)
STRIDE, SIZE = 4, (32, 32)


def of(name: str) -> int:
    return SKELETON.keypoints.index(name)


def standing() -> np.ndarray:
    """Input pixels (19, 2) of somebody who stands, legs and arms apart."""
    xy = np.full((19, 2), 64.0)
    for limb, ys, left, right in (
        (("hip", "knee", "ankle"), (70, 92, 114), (72, 76, 80), (58, 54, 50)),
        (("shoulder", "elbow", "wrist"), (34, 50, 66), (76, 84, 92), (54, 46, 38)),
    ):
        for joint, y, *xs in zip(limb, ys, left, right, strict=True):
            for side, x in zip(("left", "right"), xs, strict=True):
                xy[of(f"{side}_{joint}")] = x, y
    return xy


def logits(xy: np.ndarray) -> torch.Tensor:
    return encode_softmax(torch.from_numpy(xy).float(), SIZE, STRIDE, 1.3).clamp(min=1e-9).log()[None]


def mixed(maps: torch.Tensor, shares: dict[str, float]) -> torch.Tensor:
    """Both sides' maps of each joint as mixtures: so much of the left side's place in both."""
    p = maps.exp()
    for joint, share in shares.items():
        left, right = of(f"left_{joint}"), of(f"right_{joint}")
        both = share * p[:, left] + (1 - share) * p[:, right]
        p[:, left], p[:, right] = both, both
    return p.log()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_sure_maps_are_read_as_ever(seed: int) -> None:
    xy = standing() + np.random.default_rng(seed).normal(0, 2, (19, 2))
    maps = logits(xy)
    plain, scores = decode_softmax(maps, STRIDE)
    found, others = sides.decode_sides(maps, STRIDE, LIMBS)
    assert torch.equal(plain, found) and torch.equal(scores, others)


def test_two_knees_of_the_same_maps_are_two() -> None:
    maps = mixed(logits(standing()), {"knee": 0.55})
    left, right = of("left_knee"), of("right_knee")
    plain, _ = decode_softmax(maps, STRIDE)
    assert torch.allclose(plain[0, left], plain[0, right])
    found, scores = sides.decode_sides(maps, STRIDE, LIMBS)
    assert (found[0, left] - found[0, right]).norm() > 18
    # The sure ankles and hips say which is which, and the score is that of the place taken.
    assert np.allclose(found[0].numpy(), standing(), atol=1)
    assert scores[0, left] > scores[0, right] > 0.3
    rest = [n for n in range(19) if n not in (left, right)]
    assert torch.equal(found[0, rest], plain[0, rest])


def test_the_sure_end_of_a_leg_decides() -> None:
    maps = mixed(logits(standing()), {"knee": 0.5, "hip": 0.5})
    found, _ = sides.decode_sides(maps, STRIDE, LIMBS)
    assert np.allclose(found[0, of("left_knee")].numpy(), standing()[of("left_knee")], atol=1)
    assert np.allclose(found[0, of("right_hip")].numpy(), standing()[of("right_hip")], atol=1)


def test_where_maps_show_one_place_both_stay() -> None:
    xy = standing()
    for joint in ("hip", "knee", "ankle"):  # seen from the side, one leg before the other
        xy[of(f"left_{joint}")] = xy[of(f"right_{joint}")]
    plain, _ = decode_softmax(logits(xy), STRIDE)
    found, _ = sides.decode_sides(logits(xy), STRIDE, LIMBS)
    assert torch.allclose(plain, found)


def expected(xy: np.ndarray, counts: float = 1.0) -> np.ndarray:
    return np.column_stack([xy, np.full(len(xy), counts)])[None]


def exchanged(xy: np.ndarray) -> np.ndarray:
    return xy[list(SKELETON.flip_index)]


ARMS = {"shoulder": 0.55, "elbow": 0.55, "wrist": 0.55}


def test_of_two_likely_arms_the_left_is_where_it_was() -> None:
    """Undecided maps are read as the frame before was, whichever way; without it, or where it counts nothing, the
    likelier way; and what lies elsewhere than before is not pulled there."""
    xy = standing()
    maps = mixed(logits(xy), ARMS)
    plain, scores = sides.decode_sides(maps, STRIDE, LIMBS)
    assert np.allclose(plain[0].numpy(), xy, atol=1)
    for before in (expected(xy), expected(xy + 3)):
        assert np.allclose(sides.decode_sides(maps, STRIDE, LIMBS, before=before)[0][0].numpy(), xy, atol=1)
    arms = [of(f"{side}_{joint}") for side in ("left", "right") for joint in ARMS]
    other = xy.copy()
    other[arms] = exchanged(xy)[arms]
    found, _ = sides.decode_sides(maps, STRIDE, LIMBS, before=expected(other))
    assert np.allclose(found[0].numpy(), other, atol=1)
    nothing, same = sides.decode_sides(maps, STRIDE, LIMBS, before=expected(other, 0))
    assert torch.equal(nothing, plain) and torch.equal(same, scores)


@given(st.integers(0, 2**32 - 1))
def test_sure_maps_are_read_as_ever_whatever_was_before(seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = logits(standing() + rng.normal(0, 2, (19, 2)))
    plain, scores = decode_softmax(maps, STRIDE)
    found, others = sides.decode_sides(maps, STRIDE, LIMBS, before=expected(rng.uniform(0, 128, (19, 2))))
    assert torch.equal(plain, found) and torch.equal(scores, others)


def test_people_of_a_batch_are_read_alone_and_mirrored_ones_in_the_mirror() -> None:
    rng = np.random.default_rng(3)
    maps = torch.cat([mixed(logits(standing() + rng.normal(0, 3, (19, 2))), {"ankle": 0.6, "wrist": 0.4})] * 2)
    maps[1] = mixed(logits(standing() + rng.normal(0, 3, (19, 2))), {"knee": 0.52, "elbow": 0.45})[0]
    found, scores = sides.decode_sides(maps, STRIDE, LIMBS)
    for n in range(2):
        alone, own = sides.decode_sides(maps[n : n + 1], STRIDE, LIMBS)
        assert torch.allclose(found[n], alone[0], atol=1e-4) and torch.allclose(scores[n], own[0], atol=1e-6)
    mirrored, _ = sides.decode_sides(maps.flip(3)[:, SKELETON.flip_index], STRIDE, LIMBS)
    back = mirrored[:, SKELETON.flip_index]
    back[..., 0] = STRIDE * SIZE[0] - 1 - back[..., 0]
    assert torch.allclose(back, found, atol=1e-3)


def test_peaks_are_the_highest_ones_with_their_mass() -> None:
    p = torch.zeros(1, 1, 20, 24)
    p[0, 0, 5, 6], p[0, 0, 15, 23], p[0, 0, 5, 8] = 0.5, 0.3, 0.2  # the last within the first's window
    places, mass = sides.peaks((p + 1e-12).log(), 1)
    assert np.allclose(places[0, 0, :2], [[6, 5], [23, 15]], atol=1e-4)
    assert np.allclose(mass[0, 0, :2], [0.5, 0.3], atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(20, 24), (40, 40), (9, 6)]), st.integers(1, 3), st.booleans())
def test_arrays_are_read_as_tensors_are(seed: int, size: tuple[int, int], reach: int, channels_last: bool) -> None:
    """Peaks, also of maps that have one alone, and whole poses: by arrays as on other devices; of many people to the
    last bit as of each alone."""
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(rng.normal(0, 4, (3, 19, *size)).astype(np.float32))
    row, column = np.mgrid[: size[0], : size[1]]
    maps[0, 5] = torch.from_numpy(-((row - 3.0) ** 2) - (column - 2.0) ** 2)
    if channels_last:
        maps = maps.contiguous(memory_format=torch.channels_last)
    joints = [joint for limb in LIMBS for pair in limb for joint in pair]
    places, mass = sides.peaks(maps[:, joints], reach)
    first, of_first, others, of_others = sides.peaks_here(maps.numpy(), joints, reach)
    assert np.allclose(of_first[:, joints], mass[:, :, 0], atol=1e-6)
    assert np.allclose(first[:, joints], places[:, :, 0], atol=1e-4)
    assert np.allclose(of_others, mass[:, :, 1:], atol=1e-6)
    sure = of_others > 1e-3
    assert np.allclose(others[sure], places[:, :, 1:].numpy()[sure], atol=1e-3)
    assert (of_others[0, joints.index(5)] == 0).all()
    found, scores = sides.decode_sides(maps, STRIDE, LIMBS, reach)
    there, of_there = sides.decode_sides(maps.double(), STRIDE, LIMBS, reach)
    assert torch.allclose(found.double(), there.double(), atol=1e-3)
    assert torch.allclose(scores.double(), of_there.double(), atol=1e-5)
    for n in range(3):
        alone, own = sides.decode_sides(maps[n : n + 1], STRIDE, LIMBS, reach)
        assert torch.equal(found[n], alone[0]) and torch.equal(scores[n], own[0])
    before = np.concatenate([rng.uniform(0, 80, (3, 19, 2)), rng.uniform(0, 1, (3, 19, 1))], 2)
    found, scores = sides.decode_sides(maps, STRIDE, LIMBS, reach, before)
    there, of_there = sides.decode_sides(maps.double(), STRIDE, LIMBS, reach, before)
    assert torch.allclose(found.double(), there.double(), atol=1e-3)
    assert torch.allclose(scores.double(), of_there.double(), atol=1e-5)


def test_chosen_as_all_combinations_tried() -> None:
    """The chain finds the likeliest of all combinations."""
    import itertools

    rng = np.random.default_rng(8)
    places, mass = rng.uniform(0, 128, (4, 6, 3, 2)), rng.dirichlet(np.ones(3), (4, 6))
    names = sides.LIMBS[0]
    before = np.concatenate([rng.uniform(0, 128, (4, 6, 2)), rng.uniform(0, 1, (4, 6, 1))], 2)
    chosen = sides.choose(places, mass, names, 128)
    remembered = sides.choose(places, mass, names, 128, before)

    def worth(person: int, picks: tuple[int, ...]) -> float:
        def at(n: int) -> np.ndarray:
            return places[person, n, picks[n]]

        total = sum(np.log(mass[person, n, pick] + 1e-3) for n, pick in enumerate(picks))
        pairs = [((names[n], names[n]), 2 * n, 2 * n + 1) for n in range(3)]
        pairs += [((names[n - 1], names[n]), 2 * n - 2 + side, 2 * n + side) for n in (1, 2) for side in (0, 1)]
        for kind, a, b in pairs:
            distance = np.linalg.norm(at(a) - at(b)) / 128
            total += sides.STRENGTH * np.interp(distance, sides.DISTANCES, sides.WEIGHTS[kind])
        return float(total)

    for person in range(4):
        every = list(itertools.product(range(3), repeat=6))
        assert tuple(chosen[person]) == max(every, key=lambda picks: worth(person, picks))

        def known(picks: tuple[int, ...], person: int = person) -> float:
            total = worth(person, picks)
            for n, pick in enumerate(picks):
                x, y, counts = before[person, n]
                away = np.hypot(*(places[person, n, pick] - (x, y))) / 128
                total -= sides.MEMORY * counts * (1 - np.exp(-away / sides.NEAR))
            return total

        assert tuple(remembered[person]) == max(every, key=known)


def test_who_reads_so() -> None:
    def meta(skeleton: str, codec: str) -> ModelMeta:
        known = get_skeleton(skeleton)
        return ModelMeta("pose-fpn", {"keypoints": known.num_keypoints}, known, (128, 128), codec=codec)

    assert reading(meta("body19", "softmax"), None) is TOP_DOWN["sides"]
    assert reading(meta("body19", "softmax"), "softmax") is TOP_DOWN["softmax"]
    assert reading(meta("body19", "gaussian"), None) is TOP_DOWN["gaussian"]
    gaussian = meta("body19", "gaussian")
    network = MODELS["pose-fpn"](keypoints=19)
    with pytest.raises(UsageError, match="sides does not read these maps"):
        PoseModel(network, gaussian, device="cpu", options=PredictOptions(codec="sides"))
    maps = mixed(logits(standing()), {"knee": 0.55})
    found, _ = TOP_DOWN["sides"].decode(HeatmapOutput(maps), None, meta("body19", "softmax"))
    twice, _ = TOP_DOWN["sides"].decode(
        HeatmapOutput(maps), HeatmapOutput(maps.flip(3)[:, SKELETON.flip_index]), meta("body19", "softmax")
    )
    assert torch.allclose(found, twice, atol=1e-3)


def test_in_a_video_arms_stay_where_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """People with an identity, for as long as what was seen of them is fresh."""
    meta = ModelMeta("pose-fpn", {"keypoints": 19}, SKELETON, (128, 128), codec="softmax")
    model = PoseModel(MODELS["pose-fpn"](keypoints=19), meta, device="cpu")
    xy = standing()
    maps = mixed(logits(xy), ARMS)
    monkeypatch.setattr(model, "maps", lambda crops, mirror=None: HeatmapOutput(maps.repeat(len(crops), 1, 1, 1)))
    box = np.array([50.0, 40, 150, 140])
    crop = TOP_DOWN["sides"].crop(box, meta)
    inverse = crop.inverse

    def in_picture(joints: np.ndarray) -> np.ndarray:
        return (joints @ inverse[:, :2].T + inverse[:, 2]).astype(np.float32)

    score = np.full(19, 0.9, np.float32)
    known = Instance(in_picture(exchanged(xy)), np.full(19, 2), score, 0.9, box, track_id=4)
    unsure = known.changed(score=np.full(19, 0.1, np.float32))
    stranger = known.changed(track_id=None)
    gone = known.changed(xy=np.full((19, 2), np.nan, np.float32), score=np.zeros(19, np.float32))
    picture = np.zeros((200, 200, 3), np.uint8)
    arms = [of(f"{side}_{joint}") for side in ("left", "right") for joint in ARMS]

    def seen(who: Instance, age: float | None) -> np.ndarray:
        # Beside others of whom more or less is known.
        return model.look([picture], [[stranger, who]], age)[0][1].xy[arms]

    as_ever, other = in_picture(xy)[arms], in_picture(exchanged(xy))[arms]
    for age in (0.0, 1 / 30, 1 / 25):
        assert np.allclose(seen(known, age), other, atol=1.5), age
        for who in (stranger, unsure, gone):
            assert np.allclose(seen(who, age), as_ever, atol=1.5), age
    for long in (None, sides.FADES, 0.5):
        assert np.allclose(seen(known, long), as_ever, atol=1.5), long
    model.options = PredictOptions(codec="softmax")
    assert not np.allclose(seen(known, 0.0), other, atol=1.5)


def looked(xy: np.ndarray, score: np.ndarray) -> Instance:
    box = np.array([32.0, 24, 96, 120])
    return Instance(xy.astype(np.float32), np.full(19, 2), score.astype(np.float32), 0.9, box)


def test_looks_that_exchange_the_legs_put_them_apart() -> None:
    """By itself each joint goes where its looks see it most surely: both ankles to the left one's place."""
    xy, score = standing(), np.full(19, 0.8)
    turned, other = xy.copy(), score.copy()
    left, right = of("left_ankle"), of("right_ankle")
    turned[[left, right]] = xy[[right, left]]
    score[[left, right]] = 0.6, 0.5
    other[[left, right]] = 0.5, 0.55
    looks = [looked(xy, score), looked(turned, other)]
    alone = agreed(looks)
    assert np.abs(alone.xy[left] - alone.xy[right]).max() < 1
    together = agreed(looks, LIMBS)
    assert np.abs(together.xy[left] - xy[left]).max() < 1 and np.abs(together.xy[right] - xy[right]).max() < 1
    # Nothing else is moved; where the looks agree it only matters whose place the mean is around.
    rest = np.delete(np.arange(19), [left, right])
    assert together.xy[rest].tolist() == alone.xy[rest].tolist()
    same = [looked(xy, score), looked(xy + 1, score)]
    assert np.abs(agreed(same, LIMBS).xy - agreed(same).xy).max() < 0.1
