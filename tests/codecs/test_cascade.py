"""Coarse places and fine windows to joints: exact where the maps are, kept where the fine maps are silent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posecli.checkpoint import ModelMeta
from posecli.codecs.cascade import decode_cascade, encode_fine, merge_mirrored
from posecli.codecs.top_down import teacher, to_map
from posecli.models import MODELS
from posecli.models.tompson import TompsonOutput
from posecli.readout import TOP_DOWN
from posecli.skeletons import get_skeleton

SIZE = (128, 192)


def ideal(xy: np.ndarray, pooling: int) -> TompsonOutput:
    """What a perfect network would give for joints (K, 2) in input pixels."""
    codec = teacher("cascade")
    maps = (SIZE[0] // pooling, SIZE[1] // pooling)
    target, _ = codec.encode(to_map(xy, codec.grid, SIZE, maps), np.ones(len(xy)), maps, 1.5)
    network = MODELS["tompson-tiny"](keypoints=len(xy), pooling=pooling)
    heatmap = torch.from_numpy(target)[None]
    corner = network.corners(heatmap)
    return TompsonOutput(heatmap, encode_fine(torch.from_numpy(xy)[None].float(), corner, network.window, 1.5), corner)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 8, 16]), st.booleans())
def test_joints_come_back(seed: int, pooling: int, flip: bool) -> None:
    skeleton = get_skeleton("lsp14")
    xy = np.random.default_rng(seed).uniform((5, 5), (122, 186), (14, 2))
    meta = ModelMeta("tompson-tiny", {"keypoints": 14}, skeleton, SIZE, codec="cascade")
    mirrored = None
    if flip:
        turned = np.stack([SIZE[0] - 1 - xy[:, 0], xy[:, 1]], axis=1)[list(skeleton.flip_index)]
        mirrored = ideal(turned, pooling)
    found, score = TOP_DOWN["cascade"].decode(ideal(xy, pooling), mirrored, meta)
    assert np.abs(found[0].numpy() - xy).max() < 0.05
    assert (score > 0.5).all() and (score < 1.01).all()
    # Read without the fine maps the error grows with the pooling.
    coarse, _ = TOP_DOWN["argmax"].decode(ideal(xy, pooling), mirrored and ideal(turned, pooling), meta)
    away = np.abs(coarse[0].numpy() - xy).max()
    assert 0.05 < away <= (pooling - 1) / 2 + 0.51


def test_silent_fine_maps_leave_the_coarse_place() -> None:
    """Untrained fine networks give zeros; negative maps say nothing either."""
    heatmap = torch.zeros(1, 2, 4, 4)
    heatmap[0, :, 1, 2] = 0.5
    corner = torch.tensor([[[-2.0, -6.0], [-2.0, -6.0]]])
    fine = torch.stack([torch.zeros(24, 24), -torch.rand(24, 24)])[None]
    xy, score = decode_cascade(heatmap, fine, corner)
    assert xy[0].tolist() == [[9.5, 5.5], [9.5, 5.5]] and score.tolist() == [[0.5, 0.5]]


def test_steps_within_a_pixel_stay_short() -> None:
    """Maps that are no Gaussians may send DARK's step anywhere."""
    fine = torch.rand(4, 14, 24, 24, generator=torch.Generator().manual_seed(0))
    best = fine.flatten(2).argmax(-1)
    pixel = torch.stack([best % 24, best // 24], -1)
    xy, _ = decode_cascade(torch.ones(4, 14, 2, 2), fine, torch.zeros(4, 14, 2))
    assert (xy - pixel).abs().max() <= 1


def test_targets_by_hand() -> None:
    target = encode_fine(torch.tensor([[[12.0, 7.5]]]), torch.tensor([[[10.0, 5.0]]]), 8, 2.0)
    assert target.shape == (1, 1, 8, 8)
    assert float(target[0, 0, 2, 2]) == pytest.approx(np.exp(-0.25 / 8))  # input pixel (12, 7)
    assert float(target[0, 0, 6, 5]) == pytest.approx(np.exp(-(9 + 3.5**2) / 8))  # (15, 11)
    missed = encode_fine(torch.tensor([[[100.0, 7.0]]]), torch.tensor([[[10.0, 5.0]]]), 8, 2.0)
    assert missed.max() < 1e-6


def test_mirrored_runs_that_disagree() -> None:
    """Near places are averaged; of two far ones the surer counts."""
    here = (torch.tensor([[[10.0, 20.0], [10.0, 20.0], [50.0, 20.0]]]), torch.tensor([[0.5, 0.5, 0.9]]))
    there = (torch.tensor([[[115.0, 22.0], [77.0, 20.0], [27.0, 20.0]]]), torch.tensor([[0.7, 0.9, 0.5]]))
    xy, score = merge_mirrored(here, there, [0, 1, 2], 128, 24)
    assert xy[0].tolist() == [[11.0, 21.0], [50.0, 20.0], [50.0, 20.0]]
    torch.testing.assert_close(score, torch.tensor([[0.6, 0.7, 0.7]]))
    xy, _ = merge_mirrored(here, there, [1, 0, 2], 128, 24)
    assert xy[0, 0].tolist() == [50.0, 20.0]
