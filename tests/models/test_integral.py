"""Integral regression: the official places, one and two stages, and that it learns from places alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from learning import Pupil, make_people
from reference import load_post

from posecli.errors import UsageError
from posecli.models import MODELS
from posecli.models.integral import soft_argmax


def test_official_places(shared: Path) -> None:
    stored = load_post(shared, "integral")
    found = soft_argmax(torch.from_numpy(stored["heatmaps_2d"]))
    expected = stored["heatmaps_2d_preds_depth1"].reshape(2, 4, 3)[..., :2]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_places_are_as_fine_where_matrices_are_multiplied_in_halves() -> None:
    maps = 3 * torch.randn(2, 5, 64, 48, generator=torch.Generator().manual_seed(0))
    expected = soft_argmax(maps)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(soft_argmax(maps), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "stages"), [("resnet", 1), ("hrnet", 1), ("hourglass", 2)])
def test_outputs(name: str, stages: int) -> None:
    torch.manual_seed(0)
    network = MODELS[f"integral-{name}-tiny"](keypoints=5).eval()
    with torch.no_grad():
        output = network(torch.randn(2, 3, 64, 128))
    assert output.heatmaps.shape == (2, stages, 5, 16, 32) and output.places.shape == (2, stages, 5, 2)
    assert len(output.stages) == stages and output.heatmap is not None
    torch.testing.assert_close(output.heatmap, output.stages[-1])
    torch.testing.assert_close(output.places[:, -1], soft_argmax(output.heatmap))


@pytest.mark.parametrize("model", ["integral-resnet-tiny", "integral-hourglass-tiny"])
def test_a_few_steps_lower_the_loss(tmp_path: Path, model: str) -> None:
    pupil = Pupil(make_people(tmp_path / "data", 4), model)
    assert pupil.meta.codec == "integral" and dict(pupil.task.terms) == {"coordinates": 1.0}
    losses = [pupil.step(1e-3) for _ in range(5)]
    assert losses[-1] < losses[0]


def test_the_loss_is_the_mean_error_of_places(tmp_path: Path) -> None:
    pupil = Pupil(make_people(tmp_path / "data", 4), "integral-resnet-tiny")
    network = pupil.learner.network.eval()
    output = network(pupil.learner._normalised(pupil.batch["image"]))
    total, size = pupil.task.sums(output, pupil.batch), pupil.task.sizes(pupil.batch)
    # Map pixel u lies in the middle of input pixels 4 u .. 4 u + 3; the map is 32 wide and high.
    wanted = (pupil.batch["xy"] - 1.5) / 4 / 32 - 0.5
    expected = (output.places[:, 0] - wanted).abs().sum(-1).mean()
    assert (total / size).item() == pytest.approx(expected.item(), rel=1e-4)


def test_heat_maps_beside_places_want_a_sharp_softmax(tmp_path: Path) -> None:
    data = make_people(tmp_path / "data", 2)
    with pytest.raises(UsageError, match="beta"):
        Pupil(data, "integral-resnet-tiny", integral_heat="gaussian")
    pupil = Pupil(data, "integral-resnet-tiny", integral_heat="gaussian", model_arguments='{"beta": 20}')
    assert set(pupil.task.terms) == {"coordinates", "heatmap"} and pupil.meta.extra["beta"] == 20


@pytest.mark.slow
@pytest.mark.parametrize("model", ["integral-resnet-tiny", "integral-hrnet-tiny", "integral-hourglass-tiny"])
@pytest.mark.parametrize("settings", [{}, {"codec": "gaussian"}], ids=["I", "H1"])
def test_learnt_by_heart(tmp_path: Path, model: str, settings: dict[str, str]) -> None:
    assert Pupil(make_people(tmp_path / "data"), model, **settings).learn_by_heart(2e-3, 400) == 1.0
