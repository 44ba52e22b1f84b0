"""Softmax maps: encode and decode are a pair, mirrored inputs give mirrored maps, the loss is a cross-entropy."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posecli.codecs.softmax import (
    decode_softmax,
    decode_softmax_here,
    decode_softmax_there,
    encode_softmax,
    softmax_cross_entropy_2d,
)

inner = st.floats(10.0, 117.0)


@given(x=inner, y=inner)
def test_round_trip(x: float, y: float) -> None:
    """A Gaussian target read back gives its point: sub-pixel, within the window's truncation."""
    xy = torch.tensor([[[x, y]]])
    target = encode_softmax(xy, (32, 32), 4, 1.0)
    found, score = decode_softmax(target.log().clamp(min=-80), 4, reach=3)
    assert (found - xy).abs().max() < 0.1
    assert 0.95 < score.item() <= 1 + 1e-6


def test_target_is_a_distribution_centred_between_pixels() -> None:
    # Input pixel 1.5 is the middle of map pixel 0 at stride 4.
    target = encode_softmax(torch.tensor([[[1.5, 5.5]]]), (8, 8), 4, 0.2)[0, 0]
    assert target.sum().item() == pytest.approx(1)
    assert target[1, 0].item() == pytest.approx(1, abs=1e-4)


def test_mirrored_point_gives_mirrored_map() -> None:
    xy = torch.tensor([[[17.3, 40.0]]])
    mirrored = torch.tensor([[[127 - 17.3, 40.0]]])
    maps = [encode_softmax(p, (32, 32), 4, 1.3) for p in (xy, mirrored)]
    torch.testing.assert_close(maps[0].flip(-1), maps[1], atol=1e-6, rtol=1e-4)


def test_point_far_outside_stays_finite() -> None:
    target = encode_softmax(torch.tensor([[[-1e4, 5e5]]]), (8, 8), 4, 1.0)
    assert torch.isfinite(target).all()
    assert target[0, 0, 7, 0].item() == pytest.approx(1)


def test_window_at_the_border() -> None:
    logits = torch.full((1, 1, 8, 8), -50.0)
    logits[0, 0, 0, 7] = 50.0
    xy, score = decode_softmax(logits, 4)
    assert xy.tolist() == [[[29.5, 1.5]]]
    assert score.item() == pytest.approx(1)


def test_loss_of_flat_logits_and_masked_joints() -> None:
    """Flat logits cost log(64) for each labelled joint, whatever the target; unlabelled joints cost nothing."""
    xy = torch.rand(2, 3, 2) * 31
    weight = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    logits = torch.zeros(2, 3, 8, 8, requires_grad=True)
    loss = softmax_cross_entropy_2d(logits, encode_softmax(xy, (8, 8), 4, 1.0), weight)
    assert loss.item() == pytest.approx(4 * math.log(64), rel=1e-5)
    loss.backward()
    assert not logits.grad[0, 1].any()
    assert logits.grad[0, 0].any()


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("count", [1, 19])
def test_both_ways_of_reading_agree(order: torch.memory_format, count: int) -> None:
    maps = 3 * torch.randn(4, count, 24, 32, generator=torch.Generator().manual_seed(5))
    maps[0, 0, 0, 0], maps[1, 0, -1, -1], maps[2, 0], maps[3, 0] = 50.0, 40.0, 0.0, -1e4
    given = maps.to(memory_format=order)
    before = given.clone()
    xy, score = decode_softmax_here(given.numpy())
    expected = decode_softmax_there(given)
    assert torch.equal(given, before)
    torch.testing.assert_close(torch.from_numpy(xy), expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.from_numpy(score)[:3], expected[1][:3], atol=1e-5, rtol=1e-4)
    found = decode_softmax(given, 4)
    torch.testing.assert_close(found[0], expected[0] * 4 + 1.5, atol=1e-4, rtol=1e-5)
    for decoded in (decode_softmax(given.double(), 4), decode_softmax(given.requires_grad_(), 4)):
        torch.testing.assert_close(decoded[0].float(), found[0], atol=1e-4, rtol=1e-5)
