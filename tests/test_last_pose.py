"""A pose network that is shown where somebody was a frame ago: drawn, learnt, followed by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from learning import make_people

from posecli import augment
from posecli.calibration import calibrate
from posecli.checkpoint import ModelMeta, load_checkpoint, save_model
from posecli.codecs.last_pose import drawn, is_trunk
from posecli.following import Follower
from posecli.inference import PoseModel, PredictOptions, load_model
from posecli.models.fpn import PoseFPN
from posecli.models.int8 import can_quantise
from posecli.settings import resolve
from posecli.skeletons import BODY19, COCO17
from posecli.surgery import transplant
from posecli.training import train
from posecli.types import Instance

SMALL = {"widths": [16, 16, 16, 16], "blocks": [1, 1, 1, 1], "stem_channels": 8, "channels": 16}


def network(**more: object) -> PoseFPN:
    torch.manual_seed(0)
    return PoseFPN(17, **SMALL, **more).eval()  # type: ignore[arg-type]


def meta(**more: object) -> ModelMeta:
    return ModelMeta("pose-fpn", {"keypoints": 17, **SMALL, **more}, COCO17, (64, 64), codec="softmax")


def model(**more: object) -> PoseModel:
    made = network(last_pose=True, **more)
    torch.nn.init.normal_(made.head.weight, std=1.0)
    return PoseModel(made, meta(last_pose=True, **more), device="cpu", options=PredictOptions(precision="float32"))


def standing(x: float = 32, y: float = 40) -> np.ndarray:
    """(17, 2) somebody of 50 pixels."""
    places = {"nose": (0, -24), "shoulder": (6, -16), "hip": (4, 0), "ankle": (5, 22), "wrist": (9, 0)}
    xy = np.full((17, 2), np.nan)
    for part, (across, down) in places.items():
        for name in COCO17.keypoints:
            if name.endswith(part):
                xy[COCO17.index(name)] = x + (-across if "right" in name else across), y + down
    return xy


def test_the_trunk_is_drawn_and_no_limb() -> None:
    xy = standing()
    there = ~np.isnan(xy[:, 0])
    picture = drawn(xy, there, (64, 80), COCO17)
    assert picture.shape == (80, 64) and picture.dtype == np.uint8
    for name in ("left_shoulder", "right_hip", "nose"):
        x, y = xy[COCO17.index(name)].astype(int)
        assert picture[y, x] > 60, name
    for name in ("left_ankle", "right_ankle"):
        x, y = xy[COCO17.index(name)].astype(int)
        assert picture[y - 1 : y + 2, x - 1 : x + 2].max() == 0, name
    assert sum(map(is_trunk, COCO17.keypoints)) == 9


def test_sides_differ() -> None:
    xy = standing()
    there = ~np.isnan(xy[:, 0])
    picture = drawn(xy, there, (64, 80), COCO17).astype(int)
    (lx, ly), (rx, ry) = (xy[COCO17.index(f"{side}_hip")].astype(int) for side in ("left", "right"))
    assert picture[ly, lx] > picture[ry, rx] + 80


@pytest.mark.parametrize("place", [1e6, -1e6, np.nan])
def test_what_is_far_away_or_unknown_is_no_error(place: float) -> None:
    xy = np.full((19, 2), place)
    assert drawn(xy, ~np.isnan(xy[:, 0]), (64, 64), BODY19).max() == 0


def test_without_a_joint_of_the_trunk_nothing_is_drawn() -> None:
    there = np.array([not is_trunk(name) for name in COCO17.keypoints])
    assert drawn(np.full((17, 2), 30.0), there, (64, 64), COCO17).max() == 0


def test_last_poses_for_learning() -> None:
    """As often as said there is none, or another's; the rest are near."""
    rng = np.random.default_rng(0)
    xy, there = np.nan_to_num(standing()), ~np.isnan(standing()[:, 0])
    other = xy * 3 + 100, there
    flip = np.array(COCO17.flip_index)
    made = [augment.remembered(xy, there, other, flip, rng) for _ in range(2000)]
    assert np.mean([not known.any() for _, known in made]) == pytest.approx(0.35, abs=0.04)
    middles = np.array([last[known].mean(0) for last, known in made if known.any()])
    away = np.linalg.norm(middles - xy[there].mean(0), axis=1)
    assert np.median(away) < 0.08 * 46 and 0.1 * 46 < np.quantile(away, 0.97) < 46
    assert (xy == np.nan_to_num(standing())).all()  # what came in is as it was


def test_a_blank_channel_is_no_channel() -> None:
    """A network that starts from one without gives the same maps, whatever it is shown, and without being shown."""
    plain, shown = network(), network(last_pose=True)
    state = plain.state_dict()
    kernel = next(name for name, value in state.items() if value.ndim == 4 and value.shape[1] == 3)
    wide = torch.cat([state[kernel], torch.zeros_like(state[kernel][:, :1])], 1)
    shown.load_state_dict({**state, kernel: wide})
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        there = shown(torch.cat([image, torch.rand(2, 1, 64, 64)], 1)).heatmap
        assert torch.allclose(plain(image).heatmap, there, atol=1e-5)


def test_weights_meet_with_and_without(tmp_path: Path) -> None:
    plain, shown = network(), network(last_pose=True)
    save_model(tmp_path / "plain.safetensors", plain, meta())
    told = transplant(shown, meta(last_pose=True), tmp_path / "plain.safetensors")
    assert not told.fresh and not told.unused
    kernel = shown.trunk.backbone.stem[0][0].weight
    assert (kernel[:, 3] == 0).all() and torch.equal(kernel[:, :3], plain.trunk.backbone.stem[0][0].weight)
    save_model(tmp_path / "shown.safetensors", shown, meta(last_pose=True))
    assert not transplant(network(), meta(), tmp_path / "shown.safetensors").fresh


@pytest.mark.parametrize("speed", ["plain", "fused"])
@pytest.mark.parametrize("flip_test", [False, True])
def test_only_people_with_an_identity_are_shown_their_last_pose(speed: str, flip_test: bool) -> None:
    found = model()
    found.speed = speed
    image = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    xy = standing().astype(np.float32)
    there = ~np.isnan(xy[:, 0])
    new = Instance(xy, np.where(there, 2, 0), there.astype(np.float32), 0.9, np.array([8.0, 8, 60, 70]))
    other = Instance(xy * 0, np.zeros(17, int), np.zeros(17, np.float32), 0.9, np.array([8.0, 8, 60, 70]))
    known = new.changed(track_id=3)
    seen = found._predict_top_down([image], [[new, other, known]], flip_test)[0]
    assert np.array_equal(seen[0].xy, seen[1].xy)
    assert not np.allclose(seen[0].xy, seen[2].xy)
    lost = known.changed(score=np.zeros(17, np.float32))  # of whom nothing was seen
    assert np.allclose(found._predict_top_down([image], [[lost]], flip_test)[0][0].xy, seen[0].xy, atol=1e-3)


@pytest.mark.skipif(not can_quantise(), reason="no VNNI here")
def test_in_whole_numbers() -> None:
    """The fourth channel goes in as bytes, like the colours, with a last pose and without."""
    exact = model()
    quick = PoseModel(exact.network, exact.meta, device="cpu")
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    shown = np.concatenate([crops, rng.integers(0, 255, (2, 64, 64, 1), dtype=np.uint8)], 3)
    with quick.calibrated():
        quick.maps(shown)
        quick.maps(crops)
    assert quick.in_whole_numbers
    made = {}
    for name, pixels in (("shown", shown), ("not", crops)):
        made[name] = [one.maps(pixels).heatmap.float().numpy().ravel() for one in (quick, exact)]
        assert np.corrcoef(*made[name])[0, 1] > 0.98, name
    by_the_pose = [there - without for there, without in zip(made["shown"], made["not"], strict=True)]
    assert np.corrcoef(*by_the_pose)[0, 1] > 0.8


def test_ranges_are_those_with_a_last_pose_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found = model()
    xy = np.nan_to_num(standing()).astype(np.float32)
    person = Instance(xy, np.full(17, 2), np.full(17, 0.9, np.float32), 0.9, np.array([8.0, 8, 60, 70]))
    monkeypatch.setattr(found, "predict", lambda images: [[person]])
    monkeypatch.setattr(found, "make_ready", lambda **_: None)
    assert calibrate(found, [np.zeros((80, 80, 3), np.uint8)]) == 1
    low, high = found.meta.extra["ranges"]["input"]
    assert low < -1.5 and high > 0.9  # black, and the last pose


def test_following_moves_the_last_pose_on() -> None:
    follower = Follower(model(), 1.0, (200, 100))
    for n in range(4):
        xy = standing(40 + 3 * n, 50).astype(np.float32)
        there = ~np.isnan(xy[:, 0])
        box = np.array([20.0 + 3 * n, 20, 60 + 3 * n, 80])
        score = np.where(there, 0.9, 0).astype(np.float32)
        xy = np.nan_to_num(xy)
        follower.see([Instance(xy, np.full(17, 2), score, 0.9, box, extra={"certainty": 0.9})], n / 25)
    carried = follower._carried(4 / 25)
    (moved,) = carried.values()
    assert moved.track_id is not None
    assert np.allclose(moved.xy[there] - xy[there], (3, 0), atol=0.5)  # half of what is new counts


def test_noise_is_kept_from_last_poses_but_not_motion() -> None:
    """Who stands still is shown with a third of the noise or less; who then steps aside is shown there at once."""
    rng = np.random.default_rng(0)
    still = np.nan_to_num(standing(40, 50)).astype(np.float32)
    there = ~np.isnan(standing()[:, 0])
    score = np.where(there, 0.9, 0).astype(np.float32)
    box = np.array([20.0, 20, 60, 80])

    def shown(xy: np.ndarray, n: int) -> np.ndarray:
        follower.see([Instance(xy, np.full(17, 2), score, 0.9, box, extra={"certainty": 0.9})], n / 25)
        (carried,) = follower._carried((n + 1) / 25).values()
        return carried.xy[there]

    follower, noise, last = Follower(model(), 1.0, (200, 100)), [], []
    for n in range(40):
        xy = still + rng.normal(0, 0.3, still.shape).astype(np.float32)
        last.append(shown(xy, n))
        noise.append(xy[there])
    moved = [np.abs(np.diff(poses[20:], axis=0)).mean() for poses in (last, noise)]
    assert moved[0] < moved[1] / 3
    aside = shown(still + (8, 0), 40)
    assert ((aside - still[there])[:, 0] > 7.5).all()


def test_joints_that_were_not_sure_are_shown_where_they_are() -> None:
    follower = Follower(model(), 1.0, (200, 100))
    still = np.nan_to_num(standing(40, 50)).astype(np.float32)
    score = np.full(17, 0.9, np.float32)
    score[5] = 0
    for n, xy in enumerate((np.where(score[:, None] > 0, still, np.nan), still)):
        follower.see([Instance(xy, np.full(17, 2), score, 0.9, np.array([20.0, 20, 60, 80]))], n / 25)
        score = np.full(17, 0.9, np.float32)
    (carried,) = follower._carried(2 / 25).values()
    assert np.allclose(carried.xy, still)


def test_train_and_infer(tmp_path: Path) -> None:
    data = make_people(tmp_path / "data")
    settings = resolve(
        {
            "model": "pose-fpn", "data": [str(data)], "val": str(data), "input_size": [64, 64], "workers": 0,
            "threads": 1, "batch": 2, "epochs": 2, "metric": "pck", "min_side": 1.0, "min_joints": 1,
            "model_arguments": str({**SMALL, "last_pose": True}).replace("'", '"').replace("True", "true"),
        }
    )  # fmt: skip
    train(settings, tmp_path / "run", device="cpu")
    made, told = load_checkpoint(tmp_path / "run/last.safetensors")
    assert told.arguments["last_pose"] is True and made.last_pose
    assert made.trunk.backbone.stem[0][0].weight[:, 3].abs().max() > 0
    found = load_model(tmp_path / "run/last.safetensors", "cpu")
    image = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    assert len(found.predict([image], [np.array([[8.0, 8, 60, 70]])])[0]) == 1
