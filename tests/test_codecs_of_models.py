"""Any top-down network takes any codec: what it is taught, how it is read, and that the two need not be the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from learning import Pupil, make_people

from posecli.checkpoint import ModelMeta
from posecli.codecs.softmax import encode_softmax
from posecli.codecs.top_down import CODECS, GRIDS, TEACHING, to_input, to_map
from posecli.errors import UsageError
from posecli.inference import PoseModel, PredictOptions
from posecli.models.layers import HeatmapOutput
from posecli.readout import TOP_DOWN
from posecli.settings import resolve
from posecli.skeletons import get_skeleton

SIZE, MAPS = (192, 256), (48, 64)
#: Input pixels by which a place may be missed, of the readings that give no more than pixels or quarters of them.
COARSE = {"argmax": 2.6, "gaussian": 2.6, "mmpose": 2.6, "pytorch-pose": 2.6, "princeton": 2.6, "cpn": 3.1}
#: A Gaussian's logarithm is exact for DARK; means of cut or rectified maps are a little off.
FINE = {"dark": 0.3, "udp": 0.5, "softmax": 1.6, "integral": 0.3}


def ideal_maps(codec: str, xy: np.ndarray) -> torch.Tensor:
    """What a perfect network would give: (1, K, h, w)."""
    taught = CODECS[codec]
    if taught.learns == "logits":
        return encode_softmax(torch.from_numpy(xy), MAPS, 4, 2.0).log().clamp(min=-80).float()[None]
    target, _ = taught.encode(to_map(xy, taught.grid, SIZE, MAPS), np.ones(len(xy)), MAPS, 2.0)
    return torch.from_numpy(target)[None]


@pytest.mark.parametrize("taught", TEACHING)
@pytest.mark.parametrize("read", CODECS)
@pytest.mark.parametrize("flip", [False, True])
def test_every_codec_reads_every_other(taught: str, read: str, flip: bool) -> None:
    skeleton = get_skeleton("coco17")
    rng = np.random.default_rng(0)
    xy = rng.uniform((40, 40), (150, 210), (17, 2))
    meta = ModelMeta("hrnet-tiny", {"keypoints": 17}, skeleton, SIZE, codec=taught)
    mirrored = None
    if flip:
        turned = np.stack([SIZE[0] - 1 - xy[:, 0], xy[:, 1]], axis=1)[list(skeleton.flip_index)]
        mirrored = HeatmapOutput(ideal_maps(taught, turned))
    found, score = TOP_DOWN[read].decode(HeatmapOutput(ideal_maps(taught, xy)), mirrored, meta)
    error = np.abs(found[0].numpy() - xy).max()
    limit = COARSE.get(read) or FINE[read]
    # Rounded targets are up to half a map pixel off; on the corner grid the two pictures of a flip test are a quarter
    # apart.
    limit += (2.0 if taught == "gaussian" else 0.0) + (1.0 if flip and CODECS[taught].grid == "corner" else 0.0)
    assert error < limit
    assert (score > 0.3).all() and (score < 1.01).all()


@pytest.mark.parametrize("grid", GRIDS)
def test_grids_there_and_back(grid: str) -> None:
    xy = np.array([[0.0, 0.0], [191.0, 255.0], [17.3, 90.1]])
    on_map = to_map(xy, grid, SIZE, MAPS)
    back = to_input(torch.from_numpy(on_map), grid, SIZE, MAPS)
    np.testing.assert_allclose(back.numpy(), xy, atol=1e-9)
    first = {"corner": 0.0, "middle": -0.375, "ends": 0.0}[grid]
    last = {"corner": 47.75, "middle": 47.375, "ends": 47.0}[grid]
    np.testing.assert_allclose(on_map[:2, 0], [first, last])


@pytest.mark.parametrize("grid", ["middle", "ends"])
def test_a_map_of_one_pixel_stands_for_all_of_the_input(grid: str) -> None:
    xy = np.array([[0.0, 0.0], [3.0, 1.5], [1.5, 3.0]])
    on_map = to_map(xy, grid, (4, 4), (1, 1))
    assert on_map.tolist() == [[-0.375, -0.375], [0.375, 0.0], [0.0, 0.375]]
    assert to_input(torch.from_numpy(on_map), grid, (4, 4), (1, 1)).tolist() == xy.tolist()


WAYS = [(codec, {}) for codec in TEACHING] + [("integral", {"integral_heat": h}) for h in ("gaussian", "softmax")]


@pytest.mark.parametrize(("codec", "more"), WAYS)
def test_a_few_steps_lower_the_loss(tmp_path: Path, codec: str, more: dict[str, str]) -> None:
    pupil = Pupil(make_people(tmp_path / "data", 4), "simple-baseline-tiny", codec=codec, **more)
    assert pupil.meta.codec == codec
    losses = [pupil.step(1e-3) for _ in range(4)]
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "more"), WAYS)
def test_learnt_by_heart(tmp_path: Path, codec: str, more: dict[str, str]) -> None:
    pupil = Pupil(make_people(tmp_path / "data"), "simple-baseline-tiny", codec=codec, **more)
    assert pupil.learn_by_heart(2e-3, 400) == 1.0


def test_both_stages_are_taught(tmp_path: Path) -> None:
    """Integral regression on a two-stage hourglass: each stage has its loss."""
    pupil = Pupil(make_people(tmp_path / "data", 2), "hourglass-tiny", codec="integral", integral_heat="gaussian")
    output = pupil.learner.network(torch.zeros(2, 3, 128, 128))
    terms = pupil.task.sums(output, pupil.batch)
    last = pupil.task.sums(HeatmapOutput(output.heatmap), pupil.batch)
    assert len(output.stages) == 2 and terms.shape == (2,)
    assert (terms > 1.2 * last).all()


def test_wrong_codecs_are_named(tmp_path: Path) -> None:
    data = make_people(tmp_path / "data", 2)
    with pytest.raises(UsageError, match=r"codec 'argmax'"):
        Pupil(data, "hrnet-tiny", codec="argmax")
    with pytest.raises(UsageError, match="top-down"):
        Pupil(data, "dekr-tiny", codec="dark")
    with pytest.raises(UsageError, match="integral_heat"):
        resolve({"model": "hrnet-tiny", "integral_heat": "gaussian"})
    network, meta = torch.nn.Identity(), ModelMeta("hrnet-tiny", {}, get_skeleton("coco17"), SIZE)
    with pytest.raises(UsageError, match="unknown codec 'drak'"):
        PoseModel(network, meta, device="cpu", options=PredictOptions(codec="drak"))
