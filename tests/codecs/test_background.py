"""The background's map: one at every pixel minus the highest joint, and gone again before decoding."""

import numpy as np
import pytest
import torch

from posecli.codecs.background import add_background, drop_background


@pytest.mark.parametrize(("place", "index"), [("first", 0), ("last", -1)])
def test_round_trip(place, index):
    maps = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    weight = np.array([1, 0, 1], np.float32)
    more, weights = add_background(maps, weight, place)
    assert more.shape == (4, 4, 5) and more.dtype == weights.dtype == np.float32
    np.testing.assert_allclose(more[index] + maps.max(0), 1, rtol=1e-6)
    assert weights[index] == 1 and np.delete(weights, index).tolist() == [1, 0, 1]
    joints = drop_background(torch.from_numpy(more)[None], place)
    assert torch.equal(joints[0], torch.from_numpy(maps))


def test_other_places_are_refused():
    with pytest.raises(ValueError, match="first or last"):
        drop_background(torch.zeros(1, 2, 3, 3), "middle")
