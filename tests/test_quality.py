"""A pose network that judges its own poses: what it says, how that makes a person's score, and how it is taught."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from learning import Pupil, make_people
from made_default_data import make_default_data

from posecli.augment_pictures import Canvas
from posecli.checkpoint import ModelMeta, build, read_parts, save_model
from posecli.errors import PoseError, UsageError
from posecli.inference import PoseModel, PredictOptions, load_model
from posecli.looks import agreed
from posecli.models.fpn import JudgedOutput, PoseFPN
from posecli.models.layers import HeatmapOutput, highest
from posecli.pose_scores import Judgement
from posecli.skeletons import COCO17, SKELETONS
from posecli.surgery import same_build
from posecli.types import Instance

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TINY = {"widths": (16, 16, 16, 16), "blocks": (1, 1, 1, 1), "stem_channels": 16, "channels": 16}
FINDER = {**TINY, "keypoints": 19}


def described(**extra: object) -> ModelMeta:
    arguments = {"keypoints": 17, **TINY, "quality": True}
    return ModelMeta("pose-fpn", arguments, COCO17, (64, 64), codec="softmax").with_extra(**extra)


def judging(**extra: object) -> PoseModel:
    torch.manual_seed(0)
    meta = described(**extra)
    network = build(meta)
    torch.nn.init.normal_(network.quality.weight)
    return PoseModel(network.eval(), meta, device="cpu", options=PredictOptions(flip_test=False))


def found(certainty: float, box: tuple[float, ...]) -> Instance:
    return Instance(np.zeros((17, 2), np.float32), np.zeros(17, int), np.zeros(17), certainty, np.array(box))


@torch.inference_mode()
def test_the_quality_is_a_line_over_maxima() -> None:
    torch.manual_seed(0)
    network = PoseFPN(5, **TINY, quality=True).eval()
    picture = torch.randn(3, 3, 64, 96)
    features = network.trunk(picture)
    output = network(picture)
    assert isinstance(output, JudgedOutput) and output.quality.shape == (3,)
    by_hand = features.flatten(2).max(2).values @ network.quality.weight[0] + network.quality.bias
    assert torch.allclose(output.quality, by_hand, atol=1e-5)
    assert torch.equal(output.heatmap, network.head(features))
    silent = PoseFPN(5, **TINY).eval()
    assert isinstance(silent(picture), HeatmapOutput) and not any("quality" in name for name in silent.state_dict())


@torch.inference_mode()
def test_the_coarse_map_has_its_say() -> None:
    torch.manual_seed(0)
    network = PoseFPN(5, **TINY, quality=True, judge=8).eval()
    picture = torch.randn(3, 3, 64, 96)
    output = network(picture)
    features, coarse = network.trunk.levels(picture)
    assert coarse.shape == (3, 16, 4, 6)
    both = torch.cat([features.amax((2, 3)), network.judge(coarse).amax((2, 3))], 1)
    assert torch.allclose(output.quality, both @ network.quality.weight[0] + network.quality.bias, atol=1e-5)
    assert torch.equal(output.heatmap, network.head(features))
    with pytest.raises(ValueError, match="judge = 8"):
        PoseFPN(5, **TINY, judge=8)


@pytest.mark.parametrize("size", [(40, 40), (24, 40), (5, 7), (1, 1)])
def test_the_highest_of_bytes_are_those_of_numbers(size: tuple[int, int]) -> None:
    maps = torch.randint(0, 256, (3, 6, *size), dtype=torch.uint8)
    for given in (maps, maps.contiguous(memory_format=torch.channels_last)):
        assert torch.equal(highest(given), maps.flatten(2).max(2).values)
    assert torch.equal(highest(maps.float()), maps.flatten(2).max(2).values.float())


def test_a_persons_score_is_the_finders_and_the_qualitys(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judgement(steepness=1.5, bias=1.0, certainty=0.3, size=0.1, full=9.0, by="quality")
    model = judging(judgement=asdict(judge), threshold=0.0)
    boxes = [(0, 0, 40, 60), (20, 5, 63, 63)]

    class Finder:
        def predict(self, images: list[np.ndarray], still: bool) -> list[list[Instance]]:
            return [[found(0.5, box) for box in boxes] for _ in images]

    monkeypatch.setattr(model, "_people_finder", Finder)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    people = model.find([image])[0]
    qualities = set()
    for before, person in zip(people, model.look([image], [people])[0], strict=True):
        assert person.quality is not None and 0 < person.quality < 1
        odds = before.person_score / (1 - before.person_score)
        odds *= min(person.quality / (1 - person.quality) / 9.0, 1.0) ** 1.5
        assert person.person_score == pytest.approx(odds / (1 + odds), rel=1e-4)
        assert person.person_score <= before.person_score
        qualities.add(round(person.quality, 6))
    assert len(qualities) == 2
    # The mirrored crop has its say.
    mirrored = PoseModel(model.network, model.meta, device="cpu", options=PredictOptions(flip_test=True))
    given = [np.array(boxes[:1])]
    plain, both = (m.predict([image], given)[0][0].quality for m in (model, mirrored))
    assert plain != both


def test_in_videos_the_unlikely_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    model = judging(judgement=asdict(Judgement(by="quality", full=9.0, least=0.4)), threshold=0.0)

    class Finder:
        def predict(self, images: list[np.ndarray], still: bool) -> list[list[Instance]]:
            return [[found(certainty, (0, 0, 40, 60)) for certainty in (0.5, 0.3)] for _ in images]

    monkeypatch.setattr(model, "_people_finder", Finder)
    image = np.zeros((64, 64, 3), np.uint8)
    assert len(model.find([image], still=True)[0]) == 2
    (likely,) = model.find([image])[0]
    assert likely.person_score == model.find([image], still=True)[0][0].person_score


def test_looks_agree_on_their_mean_quality() -> None:
    looks = [found(1.0, (0, 0, 9, 9)).changed(quality=q) for q in (0.2, 0.6, None)]
    assert agreed(looks).quality == pytest.approx(0.4)
    assert agreed([look.changed(quality=None) for look in looks]).quality is None


def test_a_judgement_by_a_quality_that_is_not_there_is_refused() -> None:
    meta = described(judgement=asdict(Judgement(by="quality")))
    silent = ModelMeta("pose-fpn", {"keypoints": 17, **TINY}, COCO17, (64, 64), codec="softmax", extra=meta.extra)
    with pytest.raises(PoseError, match="quality"):
        PoseModel(build(silent), silent, device="cpu")
    with pytest.raises(PoseError, match="heads"):
        Judgement(by="heads")
    assert Judgement.of(meta) == Judgement(by="quality")
    with pytest.raises(ValueError, match="without one"):
        Judgement(by="quality").seen(0.5, 0.5)


def test_fine_tuning_begins_without_it(tmp_path: Path) -> None:
    plain = described()
    meta = replace(plain, arguments={**plain.arguments, "judge": 8})
    file = tmp_path / "judging.safetensors"
    save_model(file, build(meta).state_dict(), meta)
    assert same_build("pose-fpn", file) == {
        key: list(value) if isinstance(value, tuple) else value for key, value in TINY.items()
    }


def test_training_by_itself_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="quality"):
        Pupil(make_people(tmp_path), "pose-fpn", model_arguments='{"quality": true}')


@pytest.mark.parametrize("judge", [0, 16])
def test_maps_in_int8_and_the_quality_agree(judge: int) -> None:
    from posecli.models.fast import fuse
    from posecli.models.int8 import Observer, can_quantise, quantise

    if not can_quantise():
        pytest.skip("this processor has no products of 8 bits (VNNI)")
    torch.manual_seed(0)
    network = PoseFPN(5, **TINY, quality=True, judge=judge).eval()
    torch.nn.init.normal_(network.quality.weight)
    pictures = torch.randn(16, 3, 64, 64)
    seen = Observer(fuse(network))
    with torch.inference_mode():
        seen.run(pictures)
        quantised = quantise(fuse(network), seen.ranges())
        whole = quantised(pictures)
        plain = network(pictures)
    assert np.corrcoef(whole.quality, plain.quality)[0, 1] > 0.9
    # The maxima are taken among bytes: a map of floats would take ten times as long to write as to read.
    node, *others = (node for node in quantised.graph.nodes if node.target is highest)
    assert len(others) == bool(judge)
    assert node.args[0].op == "call_module" and "int8" in node.args[0].target


@pytest.fixture(scope="module")
def lessons() -> ModuleType:
    sys.path.insert(0, str(EXAMPLES))
    try:
        import train_quality
    finally:
        sys.path.remove(str(EXAMPLES))
    return train_quality


def canvas() -> Canvas:
    """One labelled person on the left, one of whom only the box is known on the right."""
    count = SKELETONS["body19"].num_keypoints
    made = Canvas(200, 100, count)
    made.boxes = np.array([[10.0, 10, 60, 90], [140, 10, 190, 90]])
    made.xy = np.random.default_rng(0).uniform(10, 60, (2, count, 2))
    made.visibility = np.array([[2] * count, [0] * count])
    return made


def test_targets_are_the_oks_to_the_best_label(lessons: ModuleType) -> None:
    made = canvas()
    pose, box = made.xy[0], made.boxes[0]
    assert lessons.target(pose, box, made) == pytest.approx(1.0)
    # All joints off by one sigma of a joint each: OKS e^-(1/2).
    area = 0.53 * 50 * 80
    off = 2 * np.asarray(SKELETONS["body19"].sigmas) * np.sqrt(area)
    assert lessons.target(pose + np.stack([off, np.zeros_like(off)], 1), box, made) == pytest.approx(np.exp(-0.5))
    assert lessons.target(pose + 500, np.array([80.0, 10, 120, 90]), made) == pytest.approx(0.0, abs=1e-6)
    # Somebody is there, but nobody said where the joints are; and a place that nobody looked at.
    assert lessons.target(pose + 500, made.boxes[1], made) is None
    made.known[:, 70:130] = 0
    assert lessons.target(pose + 500, np.array([80.0, 10, 120, 90]), made) is None


def test_what_is_seen_is_learnt_from_features_and_from_maps(
    lessons: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of what matters stands in a feature, half at one place of a channel of the map."""
    monkeypatch.setattr(lessons, "EPOCHS", 20)  # as many steps as for six times as many boxes
    rng = np.random.default_rng(0)
    features = rng.normal(2.0, np.geomspace(0.1, 5.0, 16), (4000, 16)).astype(np.float32)
    coarse = rng.gamma(2.0, np.geomspace(0.05, 20.0, 16), (4000, 4, 4, 16)).transpose(0, 3, 1, 2).astype(np.float16)
    there = rng.random(4000) < 0.5
    coarse[there, 3, 1, 2] += 30 * coarse[:, 3].std()
    line = 3 * (features[:, 2] - 2.0) / features[:, 2].std() + 6.0 * there - 3.0
    oks = (rng.random(4000) < 1 / (1 + np.exp(-line))).astype(np.float32)
    # Half of the maps are turned, the others lie in a store with room for more.
    maps = np.zeros((4000, 16, 20), np.float16)
    maps[:, :, :16] = coarse.reshape(4000, 16, 16)
    sizes = np.where(np.arange(4000)[:, None] % 2 == 0, [4, 4], [2, 8])
    seen = lessons.Seen(features, maps, sizes, oks)
    meta = described()
    meta = replace(meta, arguments={**meta.arguments, "judge": 8})
    device = torch.device("cpu")
    network = lessons.taught(seen.of(np.arange(3000)), meta, device)
    rest = seen.of(np.arange(3000, 4000))
    guess = lessons.judged(network, rest, device)
    told, perfect, *halves = (
        lessons.measured(values, rest.oks)
        for values in (guess, 1 / (1 + np.exp(-line[3000:])), features[3000:, 2], there[3000:] + rng.random(1000) / 2)
    )
    assert told["auc"] > perfect["auc"] - 0.06 and abs(told["bias"]) < 0.05
    assert all(told["auc"] > half["auc"] + 0.03 for half in halves), halves


def test_how_well_it_tells(lessons: ModuleType) -> None:
    rng = np.random.default_rng(0)
    chance = rng.random(4000)
    told = lessons.measured(chance, (rng.random(4000) < chance).astype(float))
    assert told["bias"] == pytest.approx(0.0, abs=0.02)
    assert lessons.measured(np.array([0.9, 0.2, 0.6, 0.1]), np.array([0.9, 0.0, 0.6, 0.0]))["auc"] == 1.0
    assert lessons.measured(np.array([0.1, 0.9]), np.array([0.9, 0.0]))["auc"] == 0.0


def test_following_as_it_is_learnt_from(lessons: ModuleType) -> None:
    """Last poses lie around the boxes that come with them: what was seen, moved on, and the labels."""
    made = canvas()
    box = np.array([10.0, 10, 60, 90])
    pose = np.column_stack([made.xy[0], np.full(len(made.xy[0]), 0.9)])
    boxes, last = lessons.followed(np.stack([box] * 50), np.stack([pose] * 50), made, np.random.default_rng(0))
    seen = slice(0, 30)
    assert 20 < len(boxes) <= 51 and last.shape == (len(boxes), 19, 3)
    low, high = last[seen, :, :2].min(1), last[seen, :, :2].max(1)
    overlap = np.minimum(boxes[seen, 2:], high) - np.maximum(boxes[seen, :2], low)
    assert (overlap > 0.6 * (high - low)).all()
    nobody = lessons.followed(box[None], pose[None], Canvas(200, 100, 19), np.random.default_rng(5))
    assert [len(part) for part in nobody] in ([0, 0], [1, 1])


@pytest.mark.parametrize("last_pose", [False, True])
def test_it_is_taught_and_goes_on(tmp_path: Path, lessons: ModuleType, last_pose: bool) -> None:
    data = make_default_data(tmp_path / "sets")
    torch.manual_seed(0)
    skeleton = SKELETONS["body19"]
    more = {"last_pose": True} if last_pose else {}
    pose = ModelMeta("pose-fpn", {"keypoints": 19, **TINY, **more}, skeleton, (64, 64), codec="softmax")
    save_model(tmp_path / "pose.safetensors", build(pose).state_dict(), pose)
    finder = ModelMeta("dekr-finder", FINDER, skeleton, (64, 64), codec="people")
    save_model(tmp_path / "finder.safetensors", build(finder).state_dict(), finder)
    out = tmp_path / "out"

    def taught(canvases: int) -> str:
        command = [
            sys.executable, EXAMPLES / "train_quality.py", "--data", data, "--pose", tmp_path / "pose.safetensors",
            "--finder", tmp_path / "finder.safetensors", "--out", out, "--canvases", canvases, "--device", "cpu",
        ]  # fmt: skip
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert "3 canvases" in taught(3)
    state, meta = read_parts(out / "pose.safetensors")["main"]
    before, _ = read_parts(tmp_path / "pose.safetensors")["main"]
    assert meta.arguments["quality"] is True and state["quality.weight"].shape == (1, 16 + lessons.JUDGE)
    assert all(torch.equal(state[name], value) for name, value in before.items())
    assert "canvases" not in taught(3)
    again, _ = read_parts(out / "pose.safetensors")["main"]
    assert all(torch.equal(state[name], value) for name, value in again.items())
    (chunk,) = (out / "maps").glob("*_000003.npz")
    np.savez(chunk, features=np.zeros((1, 16)))
    done = subprocess.run(
        [sys.executable, EXAMPLES / "train_quality.py", "--data", data, "--pose", tmp_path / "pose.safetensors",
         "--finder", tmp_path / "finder.safetensors", "--out", out, "--canvases", "3", "--device", "cpu"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "earlier version" in done.stderr and "Traceback" not in done.stderr


def test_inputs_for_long_boxes_must_suit_the_network(tmp_path: Path) -> None:
    meta = described(narrow={"size": [64, 96], "ratio": 0.6, "side": 40})
    file = tmp_path / "pose.safetensors"
    save_model(file, build(meta).state_dict(), meta)
    load_model(file, "cpu")
    right = {"size": [64, 96], "ratio": 0.6, "side": 40}
    for size, message in (([64, 90], "multiples of 32"), ([64], "narrow")):
        wrong = meta.with_extra(narrow=[right, right | {"size": size}])
        save_model(file, build(wrong).state_dict(), wrong)
        with pytest.raises(PoseError, match=message):
            load_model(file, "cpu")
