"""DeepPose: the equations, sub-images, a cascade built by hand, what each stage learns from, and whole runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learning import STILL, Pupil, make_people
from torch import Tensor, nn

from posecli.checkpoint import ModelMeta, load_checkpoint
from posecli.codecs.coords import (
    decode_places,
    fitted_errors,
    mean_and_deviation,
    simulated_predictions,
)
from posecli.errors import UsageError
from posecli.inference import PoseModel, PredictOptions
from posecli.models import MODELS
from posecli.models.deeppose import DeepPose, DeepPoseOutput, ResponseNorm, denormalise, frame, normalise, sub_images
from posecli.readout import TOP_DOWN
from posecli.settings import resolve
from posecli.skeletons import get_skeleton
from posecli.training import train

TINY = {"side": 64, "width": 24, "features": 32, "dropout": 0.0, "stride": 2, "grid": 3}


def tiny(keypoints: int = 5, **arguments: object) -> DeepPose:
    torch.manual_seed(0)
    return DeepPose(keypoints, **{**TINY, **arguments})


def awake(network: DeepPose, size: float = 0.02) -> DeepPose:
    """Later stages start from zero; here they say something."""
    for stage in network.stages:
        nn.init.normal_(stage.fc.weight, std=size)
    return network


# --- equations -----------------------------------------------------------------------------------------------------


def test_normalisation_by_hand() -> None:
    """Eq. 1: a box of 40 x 80 around (100, 200)."""
    centre, size = torch.tensor([100.0, 200.0]), torch.tensor([40.0, 80.0])
    points = torch.tensor([[100.0, 200.0], [80.0, 160.0], [120.0, 240.0], [110.0, 180.0]])
    expected = torch.tensor([[0.0, 0.0], [-0.5, -0.5], [0.5, 0.5], [0.25, -0.25]])
    torch.testing.assert_close(normalise(points, centre, size), expected)
    torch.testing.assert_close(denormalise(expected, centre, size), points)


@given(st.lists(st.floats(-500, 500), min_size=4, max_size=4), st.floats(1, 400), st.floats(1, 400), st.floats(0.1, 5))
def test_normalisation_there_and_back(values: list[float], width: float, height: float, zoom: float) -> None:
    points, centre = torch.tensor([values[:2]], dtype=torch.float64), torch.tensor(values[2:], dtype=torch.float64)
    size = torch.tensor([width, height], dtype=torch.float64)
    there = normalise(points, centre, size)
    torch.testing.assert_close(denormalise(there, centre, size), points)
    # The same picture in another size has the same normalised points.
    torch.testing.assert_close(normalise(points * zoom, centre * zoom, size * zoom), there)


def test_places_are_outer_sides() -> None:
    """-0.5 and 0.5 are the outer sides of the first and last pixels."""
    places = torch.tensor([[[-0.5, -0.5], [0.5, 0.5], [0.0, 0.0]]])
    expected = torch.tensor([[[-0.5, -0.5], [191.5, 255.5], [95.5, 127.5]]])
    torch.testing.assert_close(decode_places(places, (192, 256)), expected)


def test_diameter_and_boxes() -> None:
    """Eq. 7: joints 1 and 4 are 30 apart, sigma is 2."""
    network, image = tiny(sigma=2.0, diameter=[1, 4]), torch.zeros(1, 3, 128, 256)
    xy = torch.tensor([[[10.0, 10], [50, 60], [0, 0], [100, 120], [68, 84]]])
    diameter = network.diameter(xy, image)
    torch.testing.assert_close(diameter, torch.tensor([30.0]))
    boxes = network.boxes(xy, diameter)
    torch.testing.assert_close(boxes[..., :2], xy)
    assert (boxes[..., 2] == 60).all()
    torch.testing.assert_close(tiny().diameter(xy, image), torch.tensor([120.0]))  # the longer side of the pose's box
    torch.testing.assert_close(network.diameter(torch.zeros(1, 5, 2), image), torch.tensor([12.8]))  # a tenth of 128


@pytest.mark.parametrize("bad", [[1], [1, 1], [0, 5], [-1, 2], [0, 1, 2]])
def test_diameters_that_cannot_be(bad: list[int]) -> None:
    with pytest.raises(ValueError, match="diameter"):
        tiny(diameter=bad)


# --- parts ---------------------------------------------------------------------------------------------------------


def test_sub_images_show_their_box() -> None:
    image = torch.randn(2, 3, 40, 50)
    # 8 pixels of 8, so each is itself: from 20 - 3.5 on.
    boxes = torch.tensor([[[19.5, 14.5, 8.0]], [[19.5, 14.5, 8.0]]])
    torch.testing.assert_close(sub_images(image, boxes, 8)[:, 0], image[:, :, 11:19, 16:24], atol=1e-5, rtol=0)
    # Twice as large, every second pixel lies between two.
    doubled = sub_images(image, boxes, 4)[:, 0]
    torch.testing.assert_close(doubled, nn.functional.avg_pool2d(image[:, :, 11:19, 16:24], 2), atol=1e-5, rtol=0)
    outside = sub_images(image, torch.tensor([[[-30.0, 0.0, 8.0]], [[30.0, 80.0, 8.0]]]), 8)
    assert (outside == 0).all()


def test_response_norm() -> None:
    values = torch.randn(2, 7, 5, 6) * 30
    theirs = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)  # it takes the mean of 5, AlexNet the sum
    torch.testing.assert_close(ResponseNorm()(values), theirs(values))


def test_the_papers_network() -> None:
    """Sec. 3.1: 220 x 220 pixels become maps of 55, 27, 13 and 6 pixels a side."""
    with torch.device("meta"):
        network = DeepPose(14)
    trunk = network.stages[0].trunk
    sides, x = [], torch.zeros(1, 3, 220, 220, device="meta")
    for layer in trunk.maps:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            sides.append(tuple(x.shape[1:3]))
    assert sides == [(96, 55), (96, 27), (256, 27), (256, 13), (384, 13), (384, 13), (256, 13), (256, 6)]
    assert network.stages[0].fc.weight.shape == (28, 4096) and len(network.stages) == 3
    assert trunk(torch.zeros(2, 3, 220, 220, device="meta")).shape == (2, 4096)


@pytest.mark.parametrize("name", ["deeppose-tiny", "deeppose-resnet-tiny"])
def test_untrained_stages_change_nothing(name: str) -> None:
    network = MODELS[name](keypoints=5).eval()
    with torch.no_grad():
        output = network(torch.randn(2, 3, 128, 192))
    assert isinstance(output, DeepPoseOutput) and output.places.shape == (2, 3, 5, 2)
    torch.testing.assert_close(output.places[:, 0], output.places[:, 2], atol=1e-6, rtol=0)
    assert output.places.abs().max() > 0


def test_together_or_one_joint_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = awake(tiny()).eval(), torch.randn(3, 3, 96, 128)
    with torch.no_grad():
        together = network(image).places
        monkeypatch.setattr("posecli.models.deeppose._TOGETHER", 4)
        torch.testing.assert_close(network(image).places, together, atol=1e-5, rtol=0)
    assert (together[:, 2] - together[:, 1]).abs().max() > 1e-4


def test_while_it_learns_the_others_stand_still() -> None:
    network = MODELS["deeppose-resnet-tiny"](keypoints=5)
    for phase in range(3):
        network.phase = phase
        network.train()
        learning = [any(m.training for m in stage.modules()) for stage in network.stages]
        assert learning == [n == phase for n in range(3)]
        assert network(torch.randn(2, 3, 64, 64)).places.shape[1] == phase + 1


# --- a cascade built by hand ---------------------------------------------------------------------------------------


class Seeing(nn.Module):
    """A stage that sees: each joint is what is bright in a channel of its own. ``wrong`` is added to its answer."""

    def __init__(self, wrong: tuple[float, float] = (0.0, 0.0)) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        x = (torch.arange(width) + 0.5) / width - 0.5
        y = (torch.arange(height) + 0.5) / height - 0.5
        total = image.sum((2, 3)).clamp(min=1e-6)
        middle = torch.stack([(image.sum(2) * x).sum(2) / total, (image.sum(3) * y).sum(2) / total], dim=2)
        return middle + torch.tensor(self.wrong)


def seen(stages: list[tuple[float, float]]) -> Tensor:
    """Errors (S,) in pixels after stages that are wrong by such shares of what they see; diam(y) is 50 of 200."""
    network = DeepPose(3, **{**TINY, "zoom": 1, "sigma": 1.6}, diameter=[0, 2]).eval()
    network.stages = nn.ModuleList(Seeing(wrong) for wrong in stages)
    truth = torch.tensor([[70.0, 60.0], [90.0, 110.0], [100.0, 100.0]])
    image = torch.zeros(1, 3, 200, 200)
    for channel, (x, y) in enumerate(truth.int().tolist()):
        image[0, channel, y - 2 : y + 3, x - 2 : x + 3] = 1
    return (decode_places(network(image).places[0], (200, 200)) - truth).norm(dim=-1).mean(1)


def test_a_cascade_comes_closer() -> None:
    """Stages as bad as each other in shares of what they see: the sub-images are 1.6 x 50 = 80 pixels of 200."""
    errors = seen([(0.03, -0.04)] * 3)
    torch.testing.assert_close(errors, torch.tensor([10.0, 4.0, 4.0]), atol=0.3, rtol=0)


def test_each_joint_is_mended_in_its_own_sub_image() -> None:
    """Eq. 6 with exact stages: whatever the first said, the second mends it."""
    errors = seen([(0.06, 0.03), (0.0, 0.0)])
    assert errors[0] > 13 and errors[1] < 0.3


# --- simulated predictions -----------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_fitted_errors_are_numpys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    errors = rng.normal(rng.uniform(-1, 1, (1, 3, 2)), rng.uniform(0.1, 2, (1, 3, 2)), (40, 3, 2))
    weight = (rng.random((40, 3)) < 0.7).astype(float)
    parts = [
        fitted_errors(torch.from_numpy(errors[p]), torch.from_numpy(weight[p])) for p in np.split(np.arange(40), 4)
    ]
    mean, deviation = mean_and_deviation(torch.stack(parts).sum(0))
    for joint in range(3):
        labelled = errors[weight[:, joint] > 0, joint]
        np.testing.assert_allclose(mean[joint].numpy(), labelled.mean(0), atol=1e-12)
        np.testing.assert_allclose(deviation[joint].numpy(), labelled.std(0), atol=1e-9)


def test_joints_without_labels_get_the_others_numbers() -> None:
    errors = torch.tensor([[[1.0, 0.0], [3.0, 2.0], [99.0, 99.0]], [[3.0, 0.0], [5.0, 2.0], [99.0, 99.0]]])
    mean, deviation = mean_and_deviation(fitted_errors(errors, torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])))
    torch.testing.assert_close(mean.float(), torch.tensor([[2.0, 0.0], [4.0, 2.0], [3.0, 1.0]]))
    torch.testing.assert_close(deviation[2].float(), torch.tensor([2.0**0.5, 1.0]))
    nothing = mean_and_deviation(torch.zeros(3, 3, 2, dtype=torch.float64))
    assert all((part == 0).all() for part in nothing)


def test_simulated_predictions_have_the_fitted_errors() -> None:
    truth = torch.rand(20000, 2, 2)
    mean, deviation = torch.tensor([[0.1, -0.2], [0.0, 0.3]]), torch.tensor([[0.05, 0.1], [0.2, 0.0]])
    noise = torch.randn(20000, 2, 2, generator=torch.Generator().manual_seed(0))
    errors = simulated_predictions(truth, mean, deviation, noise) - truth
    torch.testing.assert_close(errors.mean(0), mean, atol=5e-3, rtol=0)
    torch.testing.assert_close(errors.std(0), deviation, atol=5e-3, rtol=0)


# --- learning ------------------------------------------------------------------------------------------------------


def test_first_stage_learns_all_joints_in_the_whole_picture(tmp_path: Path) -> None:
    pupil = Pupil(make_people(tmp_path / "data", 4), "deeppose-tiny")
    assert pupil.meta.codec == "coordinates" and pupil.meta.arguments["diameter"] == [1, 4]
    pupil.begin(0.0)
    network, batch = pupil.learner.network.train(), pupil.batch
    output = network(pupil.learner._normalised(batch["image"]), *pupil.task.inputs(network, torch.empty(0), batch))
    loss = pupil.task.sums(output, batch) / pupil.task.sizes(batch)
    expected = (output.places[:, 0] - ((batch["xy"] + 0.5) / 128 - 0.5)).square().sum(-1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    losses = [pupil.step(1e-3) for _ in range(6)]
    assert losses[-1] < losses[0]


def test_later_stages_learn_the_way_back(tmp_path: Path) -> None:
    pupil = Pupil(make_people(tmp_path / "data", 4), "deeppose-tiny")
    network = pupil.learner.network
    pupil.begin(0.0)
    first = [p.clone() for p in network.stages[0].parameters()]
    pupil.begin(0.4)  # the second third
    assert network.phase == 1 and network.surveyed.tolist() == [1, 0]
    assert (network.error_deviation[0] > 0).all() and (network.error_deviation[1] == 0).all()
    image = pupil.learner._normalised(pupil.batch["image"])
    with torch.no_grad():
        network.eval()
        errors = network(image).places[:, 0] - ((pupil.batch["xy"] + 0.5) / 128 - 0.5)
        network.train()
    torch.testing.assert_close(network.error_mean[0], errors.mean(0), atol=1e-5, rtol=0)
    boxes, joints = pupil.task.inputs(network, image, pupil.batch)
    assert boxes.shape == (4, 4, 3) and joints.shape == (4, 4)
    # Sides are sigma times the labelled shoulder-to-hip distance.
    diameter = (pupil.batch["xy"][:, 1] - pupil.batch["xy"][:, 4]).norm(dim=-1)
    torch.testing.assert_close(boxes[..., 2], (2 * diameter)[:, None].expand(-1, 4))
    truth = pupil.batch["xy"].gather(1, joints[..., None].expand(-1, -1, 2))
    moved = (boxes[..., :2] - truth) / 128
    expected = network.error_mean[0][joints] + network.error_deviation[0][joints] * pupil.batch["noise"]
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)
    # A stage that knew the way back would have no loss.
    perfect = network(image, boxes, joints)._replace(displacement=(truth - boxes[..., :2]) / boxes[..., 2:])
    assert pupil.task.sums(perfect, pupil.batch).item() == pytest.approx(0, abs=1e-9)
    losses = [pupil.step(1e-3) for _ in range(8)]
    assert losses[-1] < losses[0]
    assert all(torch.equal(a, b) for a, b in zip(first, network.stages[0].parameters(), strict=True))


def test_unlabelled_diameters_are_those_of_the_first_stage(tmp_path: Path) -> None:
    pupil = Pupil(make_people(tmp_path / "data", 2), "deeppose-tiny")
    network = pupil.learner.network
    pupil.begin(0.5)
    batch = {**pupil.batch, "weight": pupil.batch["weight"].clone()}
    batch["weight"][0, 1] = 0  # the left shoulder
    image = pupil.learner._normalised(batch["image"])
    boxes, _ = pupil.task.inputs(network, image, batch)
    with torch.no_grad():
        seen = network.places(image, 1)[0, 0] * 128
    expected = 2 * max(float((seen[1] - seen[4]).norm()), 12.8)
    assert boxes[0, 0, 2].item() == pytest.approx(expected, rel=1e-5)
    assert boxes[1, 0, 2].item() == pytest.approx(2 * float((batch["xy"][1, 1] - batch["xy"][1, 4]).norm()), rel=1e-5)


def test_samples_choose_labelled_joints(tmp_path: Path) -> None:
    pupil = Pupil(make_people(tmp_path / "data", 1), "deeppose-tiny")
    task, joints = pupil.task, []
    source = task.sources[0]
    (person,) = source.dataset.records[0].instances
    person.visibility[[0, 3]] = 0
    for seed in range(60):
        joints += task.sample(0, 0, np.random.default_rng(seed), (128, 128))["joints"].tolist()
    assert set(joints) == {1, 2, 4}
    assert min(np.bincount(joints)[[1, 2, 4]]) > 50


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    data = make_people(tmp_path / "data", 1)
    with pytest.raises(UsageError, match="codec 'dark'"):
        Pupil(data, "deeppose-tiny", codec="dark")
    with pytest.raises(UsageError, match=r"side = 50"):
        Pupil(data, "deeppose-resnet-tiny", model_arguments='{"side": 50}')
    with pytest.raises(UsageError, match="one for each of 3 stages"):
        Pupil(data, "deeppose-tiny", stage_shares=[1, 1])
    for told in ({"place_loss": "distance"}, {"stage_shares": [1, 2]}):
        with pytest.raises(UsageError, match="deeppose"):
            resolve({"model": "hrnet-tiny", **told})
    with pytest.raises(UsageError, match="multiples of 96"):
        Pupil(data, "deeppose-resnet-tiny", model_arguments='{"zoom": 3}')
    with pytest.raises(UsageError, match=r"narrow_sizes = .*multiples of"):
        Pupil(data, "deeppose-resnet-tiny", narrow_sizes=[34, 64])
    places, maps = tiny(), MODELS["hrnet-tiny"](keypoints=17)
    coco = get_skeleton("coco17")
    with pytest.raises(UsageError, match="no heat maps"):
        PoseModel(places, ModelMeta("deeppose-tiny", {}, coco, (128, 128), codec="coordinates"), device="cpu",
                  options=PredictOptions(codec="dark"))  # fmt: skip
    with pytest.raises(UsageError, match="no heat maps"):
        PoseModel(maps, ModelMeta("hrnet-tiny", {}, coco, (128, 128)), device="cpu",
                  options=PredictOptions(codec="coordinates"))  # fmt: skip


def test_stages_have_the_shares_they_are_given(tmp_path: Path) -> None:
    pupil = Pupil(make_people(tmp_path / "data", 1), "deeppose-tiny", stage_shares=[3, 1, 4])
    task, network = pupil.task, pupil.learner.network
    seen = []
    for progress in (0.0, 0.3, 0.375, 0.4375, 0.5, 0.75, 1.0):
        task.begin_step(network, progress)
        seen.append((network.phase, round(task.within(progress), 3)))
    assert seen == [(0, 0.0), (0, 0.8), (1, 0.0), (1, 0.5), (2, 0.0), (2, 0.5), (2, 1.0)]


def test_the_distance_itself_as_loss(tmp_path: Path) -> None:
    """Joints all as far off: the mean distance is the root of the mean square, and a far one pulls no harder."""
    data = make_people(tmp_path / "data", 1)
    pupils = [Pupil(data, "deeppose-tiny", place_loss=name) for name in ("squared", "distance")]
    batch = pupils[0].batch
    image = batch["image"].permute(0, 3, 1, 2).float()
    truth = normalise(batch["xy"], *frame(image))
    for off in (0.1, 0.3):
        places = (truth + torch.tensor([0.0, off])).requires_grad_()
        output = DeepPoseOutput(places[:, None])
        losses = [pupil.task.sums(output, batch)[0] / batch["weight"].sum() for pupil in pupils]
        assert [float(v.detach()) for v in losses] == pytest.approx([off**2, off], rel=1e-3)
        pull = torch.autograd.grad(losses[1], places)[0].norm(dim=-1) * batch["weight"].sum()
        torch.testing.assert_close(pull, batch["weight"], atol=1e-3, rtol=0)


def test_a_residual_trunk_keeps_its_last_map_where_told() -> None:
    torch.manual_seed(0)
    network = MODELS["deeppose-resnet-tiny"](keypoints=5, grid=2).eval()
    mean = MODELS["deeppose-resnet-tiny"](keypoints=5).eval()
    assert network.stages[0].fc.in_features == 4 * mean.stages[0].fc.in_features
    torch.nn.init.normal_(network.stages[0].fc.weight)
    image = torch.randn(1, 3, 64, 64)
    there, back = network(image).places[:, 0], network(image.flip(3)).places[:, 0]
    assert (there - back).abs().max() > 0.05  # where things are makes a difference
    assert network(torch.randn(1, 3, 96, 128)).places.shape == (1, 3, 5, 2)


def test_settings_are_the_papers() -> None:
    found = resolve({"model": "deeppose"})
    assert (found.input_size, found.batch, found.lr, found.flip) == ((440, 440), 128, 5e-4, 0.5)
    assert resolve({"model": "deeppose-resnet-50"}).input_size == (448, 448)
    assert resolve({"model": "deeppose-tiny"}).lr == 5e-4


# --- reading and runs ----------------------------------------------------------------------------------------------


def test_flip_test_is_the_mean_of_both() -> None:
    skeleton = get_skeleton("coco17")
    meta = ModelMeta("deeppose-tiny", {"keypoints": 17}, skeleton, (192, 256), codec="coordinates")
    places = torch.rand(2, 3, 17, 2) - 0.5
    plain, score = TOP_DOWN["coordinates"].decode(DeepPoseOutput(places), None, meta)
    torch.testing.assert_close(plain, decode_places(places[:, -1], (192, 256)))
    assert (score == 1).all()
    mirrored = (places * torch.tensor([-1.0, 1.0]))[:, :, list(skeleton.flip_index)]
    both, _ = TOP_DOWN["coordinates"].decode(DeepPoseOutput(places), DeepPoseOutput(mirrored), meta)
    torch.testing.assert_close(both, plain, atol=1e-4, rtol=0)
    shifted, _ = TOP_DOWN["coordinates"].decode(DeepPoseOutput(places), DeepPoseOutput(mirrored + 0.1), meta)
    torch.testing.assert_close(shifted - plain, torch.tensor([-9.6, 12.8]).expand(2, 17, 2), atol=1e-4, rtol=0)


def run_settings(data: Path, **changes: object):
    return resolve({"model": "deeppose-tiny", "data": [str(data)]}, STILL,
                   {"batch": 2, "epochs": 6, "threads": 1, "lr": 1e-3, "flip": 0.5, "shift": 0.1}, changes)  # fmt: skip


def test_a_run_goes_through_its_stages_and_resumes_exactly(tmp_path: Path) -> None:
    data = make_people(tmp_path / "data", 4)
    seen: list[tuple[str, int]] = []

    def note(record: dict[str, object]) -> None:
        if record["event"] in ("survey", "step"):
            seen.append((str(record["event"]), int(str(record["step"]))))

    train(run_settings(data), tmp_path / "whole", report=note)
    assert [step for event, step in seen if event == "survey"] == [4, 8]  # of 12 steps
    network, meta = load_checkpoint(tmp_path / "whole/last.safetensors")
    assert network.surveyed.tolist() == [1, 1] and meta.extra["steps"] == 12
    assert all((stage.fc.weight.abs().max() > 0) for stage in network.stages)

    def stop(record: dict[str, object]) -> None:
        if record["event"] == "step" and record["step"] == 7:
            raise RuntimeError("power cut")

    # Saved at the ends of epochs of 2 steps: 6 steps are kept, two of them the second stage's.
    with pytest.raises(RuntimeError, match="power cut"):
        train(run_settings(data), tmp_path / "cut", report=stop)
    seen.clear()
    train(None, tmp_path / "cut", resume=True, report=note)
    assert seen[0] == ("step", 7) and [step for event, step in seen if event == "survey"] == [8]
    resumed, _ = load_checkpoint(tmp_path / "cut/last.safetensors")
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, atol=0, rtol=0, msg=name)


def test_a_longer_run_surveys_stages_that_learn_again(tmp_path: Path) -> None:
    """A run of 12 steps made twice as long is back in its second stage: the first stage's errors are still those that
    it learns from, the second's are measured anew before the third learns."""
    data = make_people(tmp_path / "data", 4)
    train(run_settings(data), tmp_path / "run")
    before, _ = load_checkpoint(tmp_path / "run/last.safetensors")
    seen: list[int] = []

    def note(record: dict[str, object]) -> None:
        if record["event"] == "survey":
            seen.append(int(str(record["step"])))

    train(None, tmp_path / "run", resume=True, changes={"epochs": 12}, report=note)
    assert seen == [16]  # of 24
    after, _ = load_checkpoint(tmp_path / "run/last.safetensors")
    assert after.surveyed.tolist() == [1, 1]
    assert torch.equal(after.error_mean[0], before.error_mean[0])
    assert not torch.equal(after.error_mean[1], before.error_mean[1])


def test_a_run_from_other_weights_surveys_its_own_samples(tmp_path: Path) -> None:
    """The errors that later stages learn from are those of this run's first stage, not of the run before."""
    data = make_people(tmp_path / "data", 4)
    train(run_settings(data), tmp_path / "first")
    seen: list[int] = []

    def note(record: dict[str, object]) -> None:
        if record["event"] == "survey":
            seen.append(int(str(record["step"])))

    again = replace(run_settings(data), init=str(tmp_path / "first/last.safetensors"), seed=2)
    train(again, tmp_path / "second", report=note)
    assert seen == [4, 8]


@pytest.mark.slow
def test_refinement_helps_where_the_first_stage_is_crude(tmp_path: Path) -> None:
    """The second stage, learnt from simulated predictions alone, more than halves errors it has never seen."""
    pupil = Pupil(make_people(tmp_path / "data"), "deeppose-tiny", model_arguments='{"stages": 2}')
    network = pupil.learner.network
    pupil.begin(0.6)
    network.error_mean.zero_()
    network.error_deviation.fill_(0.05)
    for step in range(400):
        pupil.begin(0.6)
        pupil.step(2e-3 if step < 300 else 2e-4)
    network.eval()
    image, truth = pupil.learner._normalised(pupil.batch["image"]), (pupil.batch["xy"] + 0.5) / 128 - 0.5
    crude = truth + 0.05 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(5))

    class Crude(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return crude

    network.stages[0] = Crude()
    with torch.no_grad():
        places = network(image).places
    before, after = ((places[:, n] - truth).norm(dim=-1).mean() for n in (0, 1))
    assert after < 0.5 * before
