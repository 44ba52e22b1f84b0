"""DEKR's rescoring net against the official features and outputs."""

import pytest
import torch
from reference import fill_module, load_post, tensors

from posecli.errors import PoseError
from posecli.models.rescore import RescoreNet, rescore, rescore_features


@pytest.mark.parametrize(("name", "skeleton"), [("coco", "coco17"), ("crowdpose", "crowdpose14")])
def test_features_and_output(shared, name, skeleton):
    stored = load_post(shared, "dekr_rescore")
    features = rescore_features(torch.from_numpy(stored[f"{name}_poses"]), skeleton)
    torch.testing.assert_close(features, torch.from_numpy(stored[f"{name}_features"]), rtol=1e-6, atol=1e-6)
    network = RescoreNet(features.shape[1])
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(tensors(fill_module(shared).fill(shapes, int(stored["fill_seed"]))))
    torch.testing.assert_close(network(features), torch.from_numpy(stored[f"{name}_output"]), rtol=1e-4, atol=1e-5)


def test_rescoring_multiplies_and_survives_nan():
    network = RescoreNet(74)
    poses = torch.rand(2, 17, 3) * 100
    poses[1] = float("nan")
    scores = rescore(network, poses, torch.tensor([0.5, 0.5]), "coco17")
    expected = network(rescore_features(poses[:1], "coco17"))[0, 0] * 0.5
    torch.testing.assert_close(scores, torch.stack([expected.detach(), torch.tensor(0.0)]))
    assert rescore(network, torch.zeros(0, 17, 3), torch.zeros(0), "coco17").shape == (0,)


def test_other_skeletons_are_refused():
    with pytest.raises(PoseError, match="mpii16"):
        rescore_features(torch.zeros(1, 16, 3), "mpii16")
