"""Training of the rescoring net: it learns which poses are good, from the command line to `infer --rescore`."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from posecli.checkpoint import ModelMeta, save_model
from posecli.data import make_source
from posecli.errors import PoseError, UsageError
from posecli.files import sha256_of
from posecli.formats import coco
from posecli.infer_options import InferOptions
from posecli.inference import PoseModel, load_model
from posecli.models import MODELS
from posecli.models.rescore import RescoreNet, rescore, rescore_features
from posecli.official import load_rescore
from posecli.predictions import read_headers
from posecli.rescoring import _source, fit_rescoring, judge_poses, rank_correlation, train_rescoring
from posecli.segments import made_with
from posecli.settings import resolve
from posecli.skeletons import COCO17, CROWDPOSE14
from posecli.types import Instance

# A standing person, coordinates in hundredths of the height.
STANDING = np.array(
    [[0, 8], [2, 6], [-2, 6], [4, 7], [-4, 7], [10, 20], [-10, 20], [14, 35], [-14, 35], [15, 50], [-15, 50], [7, 52],
     [-7, 52], [8, 75], [-8, 75], [8, 96], [-8, 96]], float,
)  # fmt: skip


def constructed(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses of standing people, spoilt by more or less noise, and the OKS this leaves; joint scores tell nothing."""
    rng = np.random.default_rng(seed)
    height = rng.uniform(60, 300, (count, 1, 1))
    error = rng.normal(0, 0.06, (count, 17, 2)) * rng.uniform(size=(count, 1, 1)) ** 2
    xy = (STANDING / 100 + error) * height + rng.uniform(0, 300, (count, 1, 2))
    scores = rng.uniform(0.3, 0.9, (count, 17, 1))
    # Errors in heights, the area 0.25 height^2: exp(-e^2 / (2 * 0.25 * (2 sigma)^2)), mean over joints.
    oks = np.exp(-np.square(error).sum(-1) / (0.5 * (2 * np.array(COCO17.sigmas)) ** 2)).mean(1)
    return torch.from_numpy(np.concatenate([xy, scores], 2)).float(), torch.from_numpy(oks).float()


def test_it_learns_to_rank_poses() -> None:
    poses, oks = constructed(2000, 1)
    losses: list[float] = []
    network = fit_rescoring(
        rescore_features(poses, "coco17"), oks, batch=128, report=lambda epoch, loss, net: losses.append(loss)
    )
    assert len(losses) == 20 and losses[-1] < 0.5 * losses[0]
    fresh, truth = constructed(500, 2)
    random = 0.5 + 0.3 * torch.rand(500, generator=torch.Generator().manual_seed(0))
    before, after = rank_correlation(random, truth), rank_correlation(rescore(network, fresh, random, "coco17"), truth)
    assert abs(before) < 0.15 and after > before + 0.3
    same_scores = rescore(network, fresh, torch.ones(500), "coco17")
    assert rank_correlation(same_scores, truth) > 0.8
    again = fit_rescoring(rescore_features(poses, "coco17"), oks, batch=128)
    assert torch.equal(again.l1.weight, network.l1.weight)  # a function of its seed


def test_a_loss_that_is_not_finite_stops_it() -> None:
    with pytest.raises(PoseError, match="not finite in epoch 1"):
        fit_rescoring(torch.full((4, 74), float("inf")), torch.zeros(4))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures with a drawn person each, and an untrained DEKR that finds things there; the data's file."""
    folder = tmp_path_factory.mktemp("rescoring")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(8):
        picture = rng.integers(0, 60, (128, 128, 3)).astype(np.uint8)
        xy = STANDING * rng.uniform(0.7, 1.0) + [64 + rng.uniform(-20, 20), 8]
        for a, b in COCO17.edges:
            cv2.line(picture, tuple(map(int, xy[a])), tuple(map(int, xy[b])), (200, 150, 90), 4)
        cv2.imwrite(str(folder / f"{i}.png"), picture)
        images.append({"id": i + 1, "file_name": f"{i}.png", "width": 128, "height": 128})
        keypoints = np.column_stack([xy, np.full(17, 2)]).ravel().tolist()
        low, size = xy.min(0), np.ptp(xy, axis=0)
        annotations.append(
            {"id": i + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0, "keypoints": keypoints,
             "num_keypoints": 17, "bbox": [*low, *size], "area": float(0.5 * size.prod())}
        )  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}
    path = folder / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    for name, keypoints in (("dekr-tiny", 17), ("hrnet-tiny", 17)):
        torch.manual_seed(3)
        codec = "dekr" if name == "dekr-tiny" else "gaussian"
        meta = ModelMeta(name, {"keypoints": keypoints}, COCO17, (128, 128), codec=codec)
        network = MODELS[name](keypoints=keypoints)
        if name == "dekr-tiny":
            torch.nn.init.constant_(network.head_heatmap[1].bias, 0.3)  # sees people everywhere
        save_model(folder / f"{name}.safetensors", network, meta)
    return path


def settings(scene: Path, **changes: object):
    values = {"model": "dekr-rescore", "data": [str(scene)], "init": str(scene.parent / "dekr-tiny.safetensors")}
    return resolve(values, changes)


def test_from_data_to_infer(scene: Path, tmp_path: Path, cli) -> None:
    data, dekr = str(scene), str(scene.parent / "dekr-tiny.safetensors")
    out = tmp_path / "run"
    arguments = ["train", "--model", "dekr-rescore", "--init", dekr, "--data", data, "--val", data, "--batch", "16"]
    run = cli(*arguments, "--device", "cpu", "--out", out, "--json")
    assert run.code == 0, run.err
    values = json.loads(run.out)
    assert values["weights"] == str(out / "last.safetensors")
    assert values["validation"]["rank_after"] > values["validation"]["rank_before"]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "rescore-epoch"]
    assert len(losses) == 20 and losses[-1] < losses[0]
    network, skeleton = load_rescore(out / "last.safetensors")
    assert skeleton == "coco17" and not network.training

    plain = load_model(dekr, "cpu").predict([cv2.imread(str(scene.parent / "0.png"))])[0]
    judged = load_model(dekr, "cpu", rescore=out / "last.safetensors").predict(
        [cv2.imread(str(scene.parent / "0.png"))]
    )[0]
    assert sorted(p.xy.tobytes() for p in plain) == sorted(p.xy.tobytes() for p in judged)
    assert [p.person_score for p in plain] != [p.person_score for p in judged]
    again = cli(*arguments, "--out", out)
    assert again.code == 1 and "holds a run already" in again.err


def test_a_stream_says_which_net_judged_its_poses(scene: Path, tmp_path: Path, cli) -> None:
    """So that `infer --resume` does not go on with another one, or with none; segments neither."""
    nets = [tmp_path / f"{n}.pth" for n in range(2)]
    for number, net in enumerate(nets):
        torch.manual_seed(number)
        torch.save(RescoreNet(74).state_dict(), net)
    dekr, out = scene.parent / "dekr-tiny.safetensors", tmp_path / "a.jsonl"
    pictures = [scene.parent / f"{n}.png" for n in range(2)]
    infer = ["infer", *pictures, "-w", dekr, "--device", "cpu", "--out", out]
    done = cli(*infer, "--rescore", nets[0])
    assert done.code == 0, done.err
    header, whole = read_headers(out)[0], out.read_text()
    assert header.extra["run"]["rescore"] == sha256_of(nets[0])
    lines = whole.splitlines(keepends=True)
    out.write_text("".join(lines[:-1]))
    for given in (["--rescore", nets[1]], []):
        done = cli(*infer, *given, "--resume")
        assert done.code == 1 and "begun with rescore" in done.err and "--overwrite" in done.err
    done = cli(*infer, "--rescore", nets[0], "--resume")
    assert done.code == 0 and out.read_text() == whole, done.err
    models = [load_model(dekr, "cpu", rescore=net) for net in (*nets, None)]
    assert len({made_with(model, InferOptions(), None) for model in models}) == 3


def test_what_is_wanted_is_the_oks_of_the_best_fitting_person(scene: Path) -> None:
    """A model that gives one right pose, one moved by a known amount and one far away."""
    dataset = coco.read(scene)
    source = make_source(dataset, dataset.skeleton, "scene")
    model = load_model(scene.parent / "dekr-tiny.safetensors", "cpu")
    moved = 5.0

    def predict(images):
        first = dataset.records[len(seen) : len(seen) + len(images)]
        seen.extend(first)
        shifts = (0.0, moved, 1000.0)
        ones = np.ones(17, np.float32)
        return [
            [Instance(r.instances[0].xy + np.float32([s, 0]), ones.astype(int) * 2, ones, 0.5) for s in shifts]
            for r in first
        ]

    seen: list = []
    model.predict = predict  # type: ignore[method-assign]
    judged = judge_poses(model, source)
    oks = judged.oks.view(8, 3).numpy()
    for row, record in zip(oks, dataset.records, strict=True):
        # OKS by hand: all joints off by 5 pixels, exp(-d^2 / (2 area (2 sigma)^2)), mean over joints.
        area = record.instances[0].area
        expected = np.mean([np.exp(-(moved**2) / (2 * area * (2 * s) ** 2)) for s in COCO17.sigmas])
        np.testing.assert_allclose(row, [1, expected, 0], atol=1e-5)
    assert judged.poses.shape == (24, 17, 3)


def test_data_sets_in_the_clothes_of_coco_are_read_by_their_own_rules(tmp_path: Path) -> None:
    """CrowdPose's benchmark takes 0.53 of a person's box for the area that its files do not give."""
    labels = np.column_stack([np.arange(14) * 5.0 + 20, np.arange(14) * 5.0 + 20, np.full(14, 2)]).ravel().tolist()
    person = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "keypoints": labels, "num_keypoints": 12}
    names = [*CROWDPOSE14.keypoints[:12], "head", "neck"]
    value = {
        "images": [{"id": 1, "file_name": "a.png", "width": 128, "height": 128, "crowdIndex": 0.1}],
        "annotations": [{**person, "bbox": [0.0, 0.0, 100.0, 120.0]}],
        "categories": [{"id": 1, "name": "person", "keypoints": names, "skeleton": []}],
    }
    (tmp_path / "crowdpose_val.json").write_text(json.dumps(value))
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((128, 128, 3), np.uint8))
    meta = ModelMeta("dekr-tiny", {"keypoints": 14}, CROWDPOSE14, (64, 64), codec="dekr")
    model = PoseModel(MODELS["dekr-tiny"](keypoints=14), meta, device="cpu")
    with pytest.warns(UserWarning, match="read as crowdpose"):
        source = _source(str(tmp_path / "crowdpose_val.json"), "", model)
    assert source.dataset.records[0].instances[0].area == pytest.approx(0.53 * 100 * 120)


def test_an_interrupted_training_is_begun_anew_by_its_command(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("posecli.rescoring.judge_poses", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_rescoring(settings(scene), tmp_path / "a", device="cpu")
    with pytest.raises(PoseError, match=r"holds config\.toml and log\.jsonl"):
        train_rescoring(settings(scene, epochs=2), tmp_path / "a", device="cpu")
    train_rescoring(settings(scene, epochs=20), tmp_path / "a", device="cpu")
    assert (tmp_path / "a/last.safetensors").is_file()


def test_what_is_asked_wrongly(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rotation means nothing"):
        train_rescoring(settings(scene, rotation=10.0), tmp_path / "a")
    with pytest.raises(UsageError, match="--init"):
        train_rescoring(settings(scene, init=""), tmp_path / "a")
    with pytest.raises(UsageError, match="is for a DEKR"):
        train_rescoring(
            settings(scene, init=str(scene.parent / "hrnet-tiny.safetensors")), tmp_path / "a", device="cpu"
        )
    with pytest.raises(PoseError, match="not a rescoring net but dekr-tiny"):
        load_rescore(scene.parent / "dekr-tiny.safetensors")
    empty = json.loads(scene.read_text())
    empty["annotations"] = []
    (scene.parent / "empty.json").write_text(json.dumps(empty))
    with pytest.raises(PoseError, match="no person with labelled joints"):
        train_rescoring(settings(scene, data=[str(scene.parent / "empty.json")]), tmp_path / "a", device="cpu")
    assert not (tmp_path / "a" / "last.safetensors").exists()
    assert isinstance(load_model(scene.parent / "dekr-tiny.safetensors", "cpu"), PoseModel)
