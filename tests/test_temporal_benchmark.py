"""What the benchmark of memory measures: jitter by hand, pairing, AP of clips drawn again."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from posecli.checkpoint import ModelMeta, build, load_checkpoint, save_model
from posecli.metrics import oks
from posecli.predictions import FramePoses, StreamHeader, StreamWriter
from posecli.skeletons import BODY19, LSP14, match_joints
from posecli.types import Instance

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
FRAMES = 12
CHANNELS = 16 + 19 * 4  # of the heads of `base`, heat maps' and offsets'


def module(name: str) -> ModuleType:
    """A module of the benchmark."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    return module("temporal_figures")


@pytest.fixture(scope="module")
def features() -> ModuleType:
    return module("temporal_features")


def pose(clip: int, frame: int) -> np.ndarray:
    """(19, 2): somebody who walks, ever faster, swinging about."""
    rng = np.random.default_rng(5)
    shape = rng.uniform(0, 80, (BODY19.num_keypoints, 2))
    return shape + np.array([40 + 2 * frame + 0.3 * frame**2 + 10 * clip, 50 + 6 * np.sin(frame)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Labels of two clips, one of each view, as puppets have them."""
    root = tmp_path_factory.mktemp("mars")
    for clip, view in enumerate(("front", "side")):
        (root / view).mkdir()
        frames = []
        for t in range(FRAMES):
            keypoints = [[float(x), float(y), 2] for x, y in pose(clip, t)]
            person = {"track_id": 1, "keypoints": keypoints, "bbox": [0, 0, 60, 100], "area": 4000}
            frames.append({"frame": t, "persons": [person]})
        (root / view / f"{view}_000.json").write_text(json.dumps({"frames": frames, "keypoints": BODY19.keypoints}))
    return root


def stream(path: Path, change) -> Path:
    """Poses of both clips: the true ones changed by ``change(pose, frame)``."""
    columns = match_joints(BODY19.keypoints, LSP14.keypoints)
    with StreamWriter(path) as writer:
        for clip, view in enumerate(("front", "side")):
            writer.header(StreamHeader(f"{view}/{view}_000.mp4", LSP14, fps=15.0))
            for t in range(FRAMES):
                xy = np.asarray(change(pose(clip, t), t), np.float32)[columns]
                who = Instance(xy, np.full(14, 2), np.ones(14, np.float32), 0.9 - 0.01 * t, heat=0.5)
                writer.frame(FramePoses(frame=t, instances=(who,), time=t / 15))
    return path


def jitter(figures: ModuleType, folder: Path, path: Path) -> float:
    """Thousandths of the box height over both clips."""
    sums = figures.score(path, figures.truth_of(folder)).sums["jitter"].sum(0)
    return float(1000 * sums[0] / sums[1])


def ap(matches: oks.Matches, frames: np.ndarray | None = None) -> float:
    """OKS-AP of some frames."""
    return float(oks.precision_recall(matches, "all", frames)[0].mean())


def test_jitter_is_of_the_error_so_a_frozen_pose_cannot_win(figures, folder, tmp_path):
    exact = jitter(figures, folder, stream(tmp_path / "a.jsonl", lambda xy, t: xy))
    aside = jitter(figures, folder, stream(tmp_path / "b.jsonl", lambda xy, t: xy + 3))
    drifting = jitter(figures, folder, stream(tmp_path / "c.jsonl", lambda xy, t: xy + 0.2 * t))
    # Two decimals are written: rounding alone.
    assert max(exact, aside, drifting) < 0.2
    # Every other frame 1 pixel to the right: second differences of 2 pixels, of a height of 100.
    trembling = jitter(figures, folder, stream(tmp_path / "d.jsonl", lambda xy, t: xy + np.array([t % 2, 0])))
    assert trembling == pytest.approx(20, abs=0.2)
    held = jitter(figures, folder, stream(tmp_path / "e.jsonl", lambda xy, t: pose(0, 4) * 0.5 + 0.5 * xy))
    assert held > 10


def test_figures_of_a_perfect_and_a_poor_network(figures, folder, tmp_path):
    truth = figures.truth_of(folder)
    assert truth.names == ("front/front_000.mp4", "side/side_000.mp4") and truth.xy.shape == (2 * FRAMES, 14, 2)
    rng = np.random.default_rng(0)
    good = figures.score(stream(tmp_path / "good.jsonl", lambda xy, t: xy), truth)
    poor = figures.score(stream(tmp_path / "poor.jsonl", lambda xy, t: xy + rng.normal(0, 9, xy.shape)), truth)
    weights = np.array([[2, 0], [0, 2], [1, 1]])
    found = figures.draws([good, poor], truth, np.ones(2, bool), weights)
    np.testing.assert_allclose(found["AP"][:, 0], 100)
    np.testing.assert_allclose(found["oks"][:, 0], 100, atol=0.01)
    assert (found["AP"][:, 1] < 60).all() and (found["jitter"][:, 1] > 50).all()
    np.testing.assert_allclose(found["AP"][3], found["AP"][0])
    # A draw of one clip twice is that clip alone; the whole is what the evaluation says.
    alone = ap(poor.matches, truth.clip == 0)
    assert found["AP"][1, 1] == pytest.approx(100 * alone, abs=1e-9)
    assert found["AP"][0, 1] == pytest.approx(100 * ap(poor.matches), abs=1e-9)
    side = figures.draws([poor], truth, truth.view == "side", weights)
    assert side["AP"][2, 0] == pytest.approx(100 * ap(poor.matches, truth.clip == 1), abs=1e-9)


def test_people_are_paired_once_and_the_better_first(figures):
    label, detection = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    found = figures.paired(3, label, detection, np.array([0.9, 0.8, 0.95, 0.02]))
    assert found.tolist() == [1, 0, -1]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A finder of random weights, its description as that of the shipped one."""
    torch.manual_seed(0)
    arguments = {"keypoints": 19, "heatmap_channels": 16, "widths": [8, 8, 16, 16], "blocks": [1, 1, 1, 1],
                 "stem_channels": 8, "channels": 16}  # fmt: skip
    meta = ModelMeta("dekr-finder", arguments, BODY19, (64, 64), codec="people", extra={"scales": [1.0]})
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_model(path, build(meta), meta)
    return path


def test_every_variant_starts_as_the_finder_and_sees_the_same_clips(features, base):
    """Before learning all give the finder's maps of a first frame; batches depend on seed and step alone, in order."""
    rng = np.random.default_rng(0)
    people = [[(1, np.array([8.0, 8, 40, 60]), np.column_stack([pose(0, 0)[:, :2] / 3, np.full(19, 2)]))]] * 12
    clip = features.Clip(rng.normal(size=(12, CHANNELS, 8, 8)).astype(np.float16), people, 15.0)
    recipe = features.Recipe(steps=3, batch=2, frames=4)
    one, other = (features.batch_maker([clip, clip], recipe, 8, 5)(1) for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert not torch.equal(one["features"], features.batch_maker([clip, clip], recipe, 8, 6)(1)["features"])
    assert one["gap"][:, 0].tolist() == [0, 0] and one["gap"][0, 1] in (
        pytest.approx(1 / 15), pytest.approx(2 / 15)
    )  # fmt: skip
    maps = []
    systems = module("temporal_systems")
    for system in {**systems.SYSTEMS, **systems.ABLATIONS}.values():
        network, meta = features.started(system["model"], base, 1, system.get("arguments", {}))
        heads = features.Heads(network.eval())
        with torch.no_grad():
            maps.append(heads(one["features"], one["gap"]))
        assert heads.whole().backbone is not None and meta.architecture == system["model"]
    for found in maps[1:]:
        for name in ("heatmap", "offset"):
            assert torch.equal(getattr(found, name)[:, 0], getattr(maps[0], name)[:, 0])


def test_a_stopped_lesson_ends_with_the_same_weights(features, base, tmp_path):
    rng = np.random.default_rng(0)
    people = [[(1, np.array([8.0, 8, 40, 60]), np.column_stack([pose(0, 0)[:, :2] / 3, np.full(19, 2)]))]] * 8
    clip = features.Clip(rng.normal(size=(8, CHANNELS, 8, 8)).astype(np.float16), people, 15.0)
    recipe = features.Recipe(steps=4, batch=2, frames=3, warmup=1, save_every=0.0)
    batches = features.batch_maker([clip], recipe, 8, 5)

    def stop(step):
        if step == 2:
            raise RuntimeError("power cut")
        return batches(step)

    def lesson(folder, given, model="dekr-gru-finder"):
        network, meta = features.started(model, base, 1, {})
        before = {k: v.clone() for k, v in network.state_dict().items()}
        path = features.learn(network, meta, tmp_path / folder, given, recipe, lambda text: None)
        return before, load_checkpoint(path)[0].state_dict()

    before, whole = lesson("whole", batches)
    with pytest.raises(RuntimeError):
        lesson("part", stop)
    _, part = lesson("part", batches)
    assert all(torch.equal(whole[name], part[name]) for name in whole)

    def moved(before, after):
        return {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}

    # A memory learns on what the per-frame network has learnt, which stays.
    assert moved(before, whole) == {"memory_offset"}
    assert moved(*lesson("still", batches, "dekr-finder")) == {"head_heatmap", "offset_final"}


def test_what_is_lost_in_oks_by_hand(features):
    """Two people, one exact, one whose single labelled joint lies 2 cells off."""
    joints = np.full((2, 19, 2), 40.0)
    visibility = np.zeros((2, 19))
    visibility[0], visibility[1, 0] = 2, 2
    boxes = np.array([[0.0, 0, 64, 64], [64, 0, 128, 128]])
    found = features.encode_people(boxes, joints, visibility, np.ones((16, 16), np.float32), 8)
    targets = {name: torch.from_numpy(np.asarray(getattr(found, name))[None]) for name in
               ("offset", "offset_weight", "near")}  # fmt: skip
    targets["people"] = torch.tensor([float(found.people)])
    offset = targets["offset"].clone()
    assert float(features.lost_oks(offset, targets)) == pytest.approx(0, abs=1e-6)
    owner = targets["offset_weight"][0, 1] == 0  # the second person has the first joint only
    offset[0, 0, owner] += 2
    area = 0.53 * 8 * 16
    wanted = (1 - np.exp(-4 / (2 * area * (2 * BODY19.sigmas[0]) ** 2))) / 2
    assert float(features.lost_oks(offset, targets)) == pytest.approx(wanted, rel=1e-4)


def test_heads_taken_apart_give_the_whole_network_s_maps(features, base):
    """What is kept in files, then last layers, is the network; and it is whole again afterwards."""
    network, _ = features.started("dekr-gru-finder", base, 1, {})
    network = network.eval()
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32))
    with torch.no_grad():
        seen = network.backbone(image)
        kept = torch.cat([
            network.head_heatmap[0](network.transition_heatmap(seen)),
            network.offset_blocks(network.transition_offset(seen)),
        ], 1)  # fmt: skip
        whole = network(image[None])
        heads = features.Heads(network)
        part = heads(kept[None], torch.zeros(1, 3))
        again = heads.whole()(image[None])
    for name in ("heatmap", "offset"):
        torch.testing.assert_close(getattr(part, name), getattr(whole, name))
        assert torch.equal(getattr(again, name), getattr(whole, name))


def test_a_changed_clip_moves_its_labels_along(features, tmp_path):
    """A bright dot and its label go to the same place, under the other side's name where the clip is mirrored."""
    texture = tmp_path / "grey.png"
    features.cv2.imwrite(str(texture), np.full((8, 8, 3), 20, np.uint8))
    places = np.full((19, 2), 32.0)
    for n, name in enumerate(BODY19.keypoints):
        if name == "left_wrist":
            places[n] = (40, 30)
            left = n
        if name == "right_wrist":
            right = n
    person = {"track_id": 1, "keypoints": [[*p, 2] for p in places.tolist()], "bbox": [20, 10, 25, 40]}
    labels = tmp_path / "clip.json"
    labels.write_text(json.dumps({"fps": 15.0, "frames": [{"persons": [person]}] * 3}))
    images = np.zeros((3, 64, 64, 3), np.uint8)
    images[:, 29:32, 39:42] = 255
    mirrored = 0
    for seed in range(12):
        change = features.ClipChange([texture])
        changed, matrix = change(images, np.random.default_rng(seed))
        np.savez(tmp_path / "kept.npz", features=np.zeros((3, 4, 8, 8), np.float16), box=0, matrix=matrix)
        clip = features.read_clip(tmp_path / "kept.npz", labels, 64)
        flipped = bool(np.linalg.det(matrix[:, :2]) < 0)
        mirrored += flipped
        ((_, _, joints),) = clip.people[0]
        x, y, seen = joints[right if flipped else left]
        frames = [f for f in changed if f.max() > 100]  # a thing may hide the dot
        assert seen == 2
        for frame in frames:
            found = np.argwhere(frame[..., 1] == frame[..., 1].max()).mean(0)
            np.testing.assert_allclose(found[::-1], (x, y), atol=1.5)
    assert 0 < mirrored < 12


def test_the_threshold_with_the_best_f1() -> None:
    """Two pictures with a person each: one found with 0.9 and again with 0.5, the other with 0.4, after a stranger; and
    somebody in a crowd. Then a third, where two are found that nobody shows."""
    joints = np.zeros((19, 2))

    def person(score: float, x: float) -> Instance:
        return Instance(joints, np.full(19, 2), np.ones(19), score, np.array([x, 0.0, x + 20, 40]))

    class Pictured:
        complete = True

        def __init__(self, *left: float) -> None:
            # The last is a seventh of the picture's longer side: too small to count.
            boxes = [*([x, 0.0, x + 20, 40] for x in left), [120, 40, 149, 60]] if left else []
            self.boxes_xyxy = np.array(boxes, float).reshape(-1, 4)
            self.unknown = np.array([[150.0, 0, 200, 40]] if left else [], float).reshape(-1, 4)

        def read(self) -> np.ndarray:
            return np.zeros((80, 200, 3), np.uint8)

    class Model:
        def __init__(self, *people: list[Instance]) -> None:
            self.people = iter(people)

        def predict(self, images: list[np.ndarray]) -> list[list[Instance]]:
            return [next(self.people)]

    ship = module("temporal_ship")
    seen = [[person(0.9, 1), person(0.5, 0)], [person(0.45, 100), person(0.4, 10), person(0.7, 160)]]
    # Between 0.9 and 0.5; showing everybody has the same F1.
    assert ship.threshold_of(Model(*seen), [Pictured(0), Pictured(10)]) == (0.7, pytest.approx(2 / 3, abs=1e-4))
    more = [*seen, [person(0.42, 0), person(0.41, 50)]]
    wanted = [Pictured(0), Pictured(10), Pictured(0, 50)]
    assert ship.threshold_of(Model(*more), wanted) == (0.4, pytest.approx(8 / 10, abs=1e-4))
    # People shown where nobody is cost as much as elsewhere.
    nobody = [*more, [person(0.6, 20), person(0.55, 80)]]
    assert ship.threshold_of(Model(*nobody), [*wanted, Pictured()]) == (0.4, pytest.approx(8 / 12, abs=1e-4))


@pytest.mark.parametrize(
    ("asked", "said"),
    [("--only=dekr-grew", "no system is called 'dekr-grew'"), ("--conditions=fog", "no condition is called 'fog'")],
)
def test_unknown_names_are_refused_before_anything_is_made(asked, said, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["temporal.py", "--data", str(tmp_path), "--out", str(tmp_path / "out"), asked])
    with pytest.raises(SystemExit, match=said):
        module("temporal").main()
    assert not any((tmp_path / "out").iterdir())
