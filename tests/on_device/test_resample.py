"""Crops made the device's way are those of `geometry.warp`, to a few grey levels."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from posecli.geometry import crop_from_box, fit_picture, warp
from posecli.on_device import resample
from posecli.on_device.resample import can_resample, plain, resampled, taps_of
from posecli.types import Crop

MEAN, STD = torch.tensor([123.7, 116.3, 103.5]), torch.tensor([58.4, 57.1, 57.4])


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth shapes and some noise, as in photographs."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 255, (height // 12 + 2, width // 12 + 2, 3), dtype=np.uint8)
    image = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int64)
    return np.clip(image + rng.integers(-8, 9, image.shape), 0, 255).astype(np.uint8)


CROPS = {
    "enlarged": crop_from_box(np.array([30.0, 20, 70, 90]), (96, 128)),
    "reduced": crop_from_box(np.array([-20.0, 10, 200, 180]), (192, 256)),
    "beyond": crop_from_box(np.array([200.0, 120, 420, 400]), (128, 128)),
    "whole": fit_picture(300, 217, 256),
    "to a third": fit_picture(300, 217, 96),
    "to a twelfth": fit_picture(300, 217, 32),
    "area beyond": crop_from_box(np.array([-150.0, -90, 380, 300]), (64, 96)),
}


@pytest.mark.parametrize("name", CROPS)
def test_same_crop_as_on_the_cpu(name: str) -> None:
    image, crop = picture(217, 300), CROPS[name]
    expected = warp(image, crop).astype(np.float32)
    found = plain(torch.from_numpy(image), *taps_of(crop, 217, 300), torch.zeros(3), torch.ones(3)).numpy()
    assert found.shape == expected.shape
    gap = np.abs(found - expected)
    # OpenCV places samples on a grid of 1/32 pixel, and rounds after each halving.
    assert gap.mean() < 0.6
    assert np.quantile(gap, 0.99) <= 3


def test_nothing_of_the_picture() -> None:
    image = picture(40, 60)
    for crop in (
        crop_from_box(np.array([500.0, 500, 600, 600]), (32, 32)),
        crop_from_box(np.array([5000.0, 5000, 5600, 5600]), (32, 32)),
    ):
        assert not warp(image, crop).any()
        assert not plain(torch.from_numpy(image), *taps_of(crop, 40, 60), torch.zeros(3), torch.ones(3)).any()


def test_a_batch_of_crops_as_the_network_takes_them() -> None:
    images = [picture(120, 90), picture(80, 200, 1)]
    crops = [
        crop_from_box(np.array([10.0, 5, 80, 100]), (48, 64)),
        crop_from_box(np.array([60.0, 5, 90, 70]), (48, 64)),
    ]
    wanted = [(1, crops[1]), (0, crops[0]), (1, crops[0])]
    found = resampled(images, wanted, MEAN, STD, device=torch.device("cpu"))
    assert found.shape == (3, 3, 64, 48)
    assert found.is_contiguous(memory_format=torch.channels_last)
    pixels = np.stack([warp(images[i], crop) for i, crop in wanted])
    expected = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    assert (found - expected).abs().mean() < 0.6 / 57
    blue_first = resampled(images, wanted, MEAN, STD, device=torch.device("cpu"), bgr=True, dtype=torch.bfloat16)
    torch.testing.assert_close(blue_first.float(), found.flip(1), rtol=0.01, atol=0.01)


def test_a_crowd_goes_up_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """One transfer of what its crops are made of, one launch for those of a picture that are reduced alike."""
    rng = np.random.default_rng(2)
    images = [picture(120, 90), picture(80, 200, 1)]
    corners = rng.uniform(0, 40, (12, 2))
    wanted = [
        (k % 2, crop_from_box(np.array([x, y, x + side, y + 1.2 * side]), (24, 32)))
        for k, ((x, y), side) in enumerate(zip(corners, [20, 21, 22, 23, 24, 25, 26, 27, 90, 91, 20, 92], strict=True))
    ]
    mine = resampled(images, wanted, MEAN, STD, device=torch.device("cpu"))
    sent, launched = [], []

    class Counting(resample.Tables):
        def __init__(self, *given: Any) -> None:
            sent.append(self)
            super().__init__(*given)

    def launch(image: Any, places: Any, starts: Any, weights: Any, taps: Any, mean: Any, std: Any, out: Any, bgr: bool):
        launched.append(len(places))
        for rows, columns, row_weights, column_weights, number in places[:, :5].tolist():
            axes = []
            for begin, weight, count, each in zip(
                (rows, columns), (row_weights, column_weights), out.shape[1:3], taps, strict=True
            ):
                own = weights[weight : weight + count * each].view(count, each)
                axes.append(resample.Taps(starts[begin : begin + count], own))
            out[number] = plain(image, *axes, mean, std, bgr)

    monkeypatch.setattr(resample, "Tables", Counting)
    monkeypatch.setattr(resample, "has_kernel", lambda device: True)
    monkeypatch.setitem(sys.modules, "posecli.on_device.resample_triton", SimpleNamespace(resample=launch))
    found = resampled(images, wanted, MEAN, STD, device=torch.device("cpu"))
    assert torch.equal(found, mine)
    assert len(sent) == 1 and sum(launched) == 12 and 4 <= len(launched) <= 6
    # What comes again is sent once: a video's whole pictures are cropped alike.
    again = resample.Tables([resample.taps_of(fit_picture(300, 217, 96), 217, 300)] * 8, range(8), torch.device("cpu"))
    assert len(again.starts) == 96 + 96


def test_turned_crops_are_not_for_it() -> None:
    assert all(can_resample(crop) for crop in CROPS.values())
    assert not can_resample(crop_from_box(np.array([0.0, 0, 9, 9]), (8, 8), rotation=10))
    assert not can_resample(crop_from_box(np.array([0.0, 0, 9, 9]), (8, 8), flip=True))
    assert not can_resample(Crop(np.array([[1.0, 0.1, 0], [0, 1, 0]]), (8, 8)))
