"""A file with a pose network and its finder: saving, loading, and finding people without boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posecli.augment_pictures import Canvas
from posecli.checkpoint import ModelMeta, build, save_model
from posecli.codecs.boxes import encode_people, people_losses
from posecli.inference import PoseModel, PredictOptions, load_model
from posecli.skeletons import SKELETONS

BODY = SKELETONS["body19"]
K = BODY.num_keypoints
TINY = {"widths": [16, 16, 32, 32], "blocks": [1, 1, 1, 1], "stem_channels": 8, "channels": 16}
FINDER = ModelMeta(
    "dekr-finder", {"keypoints": K, "heatmap_channels": 16, **TINY}, BODY, (128, 128), codec="people",
    extra={"stride": 8, "floor": 0.3},
)  # fmt: skip
POSE = ModelMeta("pose-fpn", {"keypoints": K, **TINY}, BODY, (64, 64), codec="softmax", extra={"box_scale": 1.2})


def drawn_person(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture (128, 128, 3) of noise with one bright rectangle, and the rectangle."""
    image = rng.integers(0, 90, (128, 128, 3), dtype=np.uint8)
    w, h = rng.integers(24, 60), rng.integers(40, 90)
    x, y = rng.integers(0, 128 - w), rng.integers(0, 128 - h)
    image[y : y + h, x : x + w] += 140
    return image, np.array([x, y, x + w - 1, y + h - 1], float)


@pytest.fixture(scope="module")
def finder() -> torch.nn.Module:
    """A finder that has learnt bright rectangles for some seconds: enough to see that its maps mean the right thing."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = build(FINDER).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (FINDER.mean, FINDER.std))
    nothing = np.zeros((1, K, 2)), np.zeros((1, K), int)
    for _ in range(60):
        images, targets = [], []
        for _ in range(8):
            image, box = drawn_person(rng)
            images.append(image)
            targets.append(encode_people(box[None], *nothing, np.ones((16, 16)), 8))
        batch = {n: torch.from_numpy(np.stack([getattr(t, n) for t in targets])) for n in ("heat", "heat_weight", "box",
                 "offset", "offset_weight", "near", "people")}  # fmt: skip
        pixels = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() - mean) / std
        losses = people_losses(*network(pixels.contiguous(memory_format=torch.channels_last)), batch)
        optimizer.zero_grad()
        (losses["centre"] + 2 * losses["box"]).backward()
        optimizer.step()
    return network.eval()


def test_what_is_learnt_is_found_at_any_size(finder):
    rng = np.random.default_rng(1)
    model = PoseModel(finder, FINDER, device="cpu")
    overlaps = []
    for zoom in (1, 2, 3):
        image, box = drawn_person(rng)
        large = image.repeat(zoom, 0).repeat(zoom, 1)
        people = model.predict([large])[0]
        assert people
        wanted = box * zoom
        found = people[0].box_xyxy
        inter = np.clip(np.minimum(found[2:], wanted[2:]) - np.maximum(found[:2], wanted[:2]), 0, None).prod()
        union = (found[2:] - found[:2]).prod() + (wanted[2:] - wanted[:2]).prod() - inter
        overlaps.append(inter / union)
        assert people[0].heat is not None and 0 <= people[0].heat <= 1
    assert np.mean(overlaps) > 0.5


def test_two_networks_in_one_file(finder, tmp_path: Path):
    torch.manual_seed(1)
    path = tmp_path / "both.safetensors"
    save_model(path, build(POSE), POSE.with_extra(threshold=0.1), finder=(finder, FINDER), dtype=torch.bfloat16)
    model = load_model(path, "cpu")
    assert model.top_down and model.threshold == 0.1 and model.finder is not None
    image, box = drawn_person(np.random.default_rng(2))
    wide = np.concatenate([image, np.zeros((128, 300, 3), np.uint8)], 1)
    black = np.zeros((90, 160, 3), np.uint8)
    together = model.predict([image, black, wide])
    assert len(together) == 3
    for people in together:
        assert all(p.xy.shape == (K, 2) and np.isfinite(p.xy).all() for p in people)
        scores = [p.person_score for p in people]
        assert scores == sorted(scores, reverse=True)
    # One picture alone gives what it gives among others.
    for alone, among in zip(model.predict([wide])[0], together[2], strict=True):
        np.testing.assert_allclose(alone.xy, among.xy, atol=0.05)
    # Given boxes the finder is not asked.
    (given,) = model.predict([image], [box[None]])
    assert len(given) == 1 and given[0].heat is None
    np.testing.assert_array_equal(given[0].box_xyxy, box)


def test_a_canvas_without_people_is_a_valid_sample():
    canvas = Canvas(64, 64, K)
    t = encode_people(canvas.boxes, canvas.xy, canvas.visibility, canvas.known[::8, ::8], 8)
    assert t.people == 0 and t.heat_weight.min() == 1


def test_the_finder_takes_the_pose_networks_trunk():
    pose, finder = build(POSE), build(replace(FINDER, arguments={"keypoints": K, **TINY}))
    own = {n.removeprefix("trunk.") for n in pose.state_dict() if n.startswith("trunk.")}
    wanted = set(finder.backbone.state_dict())
    assert wanted <= own
    assert all("s4" in name for name in own - wanted)


def test_a_finder_made_for_two_scales_looks_twice(finder):
    image, box = drawn_person(np.random.default_rng(3))
    once = PoseModel(finder, FINDER, device="cpu").predict([image])[0]
    twice = PoseModel(finder, FINDER.with_extra(scales=[1.0, 0.5], trusted=[16, 400]), device="cpu")
    people = twice.predict([image])[0]
    assert people and people[0].person_score >= once[0].person_score - 1e-4
    middle = (people[0].box_xyxy[:2] + people[0].box_xyxy[2:]) / 2
    assert (middle > box[:2]).all() and (middle < box[2:]).all()


def test_in_a_video_a_finders_smaller_looks_go_through_the_network_together(finder, monkeypatch):
    """What each look sees is the same as by itself."""
    image, _ = drawn_person(np.random.default_rng(3))
    looks = FINDER.with_extra(scales=[1.0, 0.5, 0.25], trusted=[8, 400])
    model = PoseModel(finder, looks, device="cpu")
    apart = PoseModel(finder, looks, device="cpu", options=PredictOptions(filled=True, batch=1))
    calls = []
    maps = model.maps
    monkeypatch.setattr(model, "maps", lambda crops, mirror=None: calls.append(crops.shape[:3]) or maps(crops, mirror))
    for flip_test in (False, True):
        for m in (model, apart):
            m.options = replace(m.options, flip_test=flip_test)
        calls.clear()
        found, alone = (m.predict([image], still=False)[0] for m in (model, apart))
        assert sorted(set(calls)) == [(3, 128, 128)] and len(calls) == 1 + flip_test
        assert len(found) == len(alone) > 0
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_allclose(one.box_xyxy, other.box_xyxy, atol=0.01)
    calls.clear()
    model.predict([image])
    assert {shape[0] for shape in calls} == {1}  # a picture's looks are as small as they can be
