"""DARK: official blur, Newton step and targets; sub-pixel round trip."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import load_post

from posecli.checkpoint import ModelMeta
from posecli.codecs.affine import dark_matrix
from posecli.codecs.dark import blur, decode_dark, encode_dark, smoothing
from posecli.codecs.udp import decode_udp
from posecli.geometry import apply_affine
from posecli.models import HeatmapOutput
from posecli.readout import TOP_DOWN
from posecli.skeletons import get_skeleton


def test_targets(shared):
    stored = load_post(shared, "target_gaussian")
    target, weight = encode_dark(
        stored["joints_heatmap"][:, :2], stored["visible"][:, 0], tuple(stored["heatmap_size"])
    )
    np.testing.assert_allclose(target, stored["dark_target"], atol=1e-6)
    np.testing.assert_array_equal(weight, stored["dark_weight"][:, 0])


def test_decode(shared):
    stored = load_post(shared, "dark_decode")
    heatmap = torch.from_numpy(stored["heatmaps"])
    kernel = int(stored["kernel"])
    np.testing.assert_allclose(blur(heatmap, kernel).numpy(), stored["blurred"], rtol=1e-5, atol=1e-6)
    xy, score = decode_dark(heatmap, kernel)
    np.testing.assert_allclose(xy.numpy(), stored["refined"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(score.numpy(), stored["maxvals"][..., 0])
    for one, centre, scale, expected in zip(xy, stored["center"], stored["scale"], stored["preds"], strict=True):
        back = dark_matrix(centre, scale, (heatmap.shape[3], heatmap.shape[2]), inverse=True)
        np.testing.assert_allclose(apply_affine(back, one.numpy()), expected, rtol=1e-5, atol=1e-4)


def test_maps_are_smoothed_as_far_as_their_targets_are_wide():
    # The official configurations' sigma and BLUR_KERNEL at 128x96, 256x192 and 384x288.
    assert [smoothing(sigma) for sigma in (1.0, 2.0, 3.0)] == [3, 11, 17]
    assert smoothing(0.5) == 3 and all(smoothing(s) % 2 == 1 for s in np.arange(0.5, 5, 0.1))
    maps = torch.rand(2, 14, 16, 12, generator=torch.Generator().manual_seed(0))
    for sigma, kernel in ((1.0, 3), (3.0, 17)):
        meta = ModelMeta("hourglass", {}, get_skeleton("lsp14"), (48, 64), codec="dark", extra={"sigma": sigma})
        for name, decode in (("dark", decode_dark), ("udp", decode_udp)):
            xy, _ = TOP_DOWN[name].decode(HeatmapOutput(maps), None, meta)
            torch.testing.assert_close(xy, 4 * decode(maps, kernel)[0])


@settings(max_examples=40, deadline=None)
@given(st.floats(8, 39), st.floats(8, 55))
def test_round_trip(x, y):
    """Away from the border a clean Gaussian comes back within a hundredth of a map pixel."""
    target, _ = encode_dark(np.array([[x, y]]), np.ones(1), (48, 64))
    xy, _ = decode_dark(torch.from_numpy(target)[None])
    assert np.abs(xy[0, 0].numpy() - [x, y]).max() < 0.01


def test_one_of_a_batch_is_a_batch_of_one():
    torch.manual_seed(0)
    maps = torch.rand(4, 3, 20, 16)
    together, _ = decode_dark(maps)
    alone, _ = decode_dark(maps[2:3])
    torch.testing.assert_close(together[2:3], alone)
