"""The background's map: one at every pixel minus the highest joint, and gone again before decoding."""

import json

import numpy as np
import pytest
import torch
from learning import make_people

from posecli.codecs.background import add_background, drop_background
from posecli.settings import resolve
from posecli.tasks import make_task
from posecli.training_data import read_data


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


@pytest.mark.parametrize(("place", "index"), [("first", 0), ("last", -1)])
def test_a_data_set_without_some_joints_says_nothing_of_the_background(place, index):
    _, weights = add_background(np.zeros((2, 4, 5), np.float32), np.array([1, 0], np.float32), place, complete=False)
    assert weights[index] == 0 and np.delete(weights, index).tolist() == [1, 0]


@pytest.mark.parametrize("model", ["cpm-tiny", "unipose-lstm-tiny"])
def test_mixed_data_sets(tmp_path, model):
    """Where the one has a joint, the other, that knows no such joint, taught background."""
    whole = make_people(tmp_path / "whole", 2)
    content = json.loads(whole.read_text())
    content["categories"][0]["keypoints"] = content["categories"][0]["keypoints"][:3]
    for person in content["annotations"]:
        person["keypoints"], person["num_keypoints"] = person["keypoints"][:9], 3
    part = whole.with_name("part.json")
    part.write_text(json.dumps(content))

    def weights(*files):
        settings = resolve({"model": model, "data": [str(f) for f in files], "input_size": [64, 64]}, {"flip": 0.0})
        skeleton, sources = read_data(settings)
        task = make_task(settings, sources, skeleton)
        found = [task.sample(n, 0, np.random.default_rng(0), (64, 64))["weight"] for n in range(len(files))]
        place = 0 if task.background == "first" else -1
        return [float(weight[..., place].mean()) for weight in found]

    assert weights(whole, part) == [1, 0]
    assert weights(part) == [1]  # joints that no set has are not learnt, and no place is one of them


def test_other_places_are_refused():
    with pytest.raises(ValueError, match="first or last"):
        drop_background(torch.zeros(1, 2, 3, 3), "middle")
