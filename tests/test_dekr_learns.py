"""Targets, losses, network and decoding of DEKR fit together: a tiny network learns one picture by heart."""

import numpy as np
import pytest
import torch

from posecli.codecs.offsets import encode_heatmap, encode_offset, person_centres
from posecli.grouping.dekr import DekrSettings, decode_dekr
from posecli.losses import DEKR_OFFSET_FACTOR, dekr_heatmap_loss, dekr_offset_loss
from posecli.models import MODELS


@pytest.mark.slow
def test_learns_two_people():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    keypoints = np.full((2, 5, 3), 2.0)
    keypoints[0, :, :2], keypoints[1, :, :2] = rng.uniform(20, 60, (5, 2)), rng.uniform(70, 115, (5, 2))
    joints, area = person_centres(keypoints)
    joints[..., :2] /= 4
    heatmap, weight = encode_heatmap(joints, (32, 32), sigma=1, centre_sigma=2)
    offset, offset_weight = encode_offset(joints, area, (32, 32))
    heatmap, weight, offset, offset_weight = (
        torch.from_numpy(a)[None] for a in (heatmap, weight, offset, offset_weight)
    )
    network = MODELS["dekr-tiny"](keypoints=5)
    image = torch.randn(1, 3, 128, 128)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(120):
        output = network(image)
        loss = dekr_heatmap_loss(output.heatmap, heatmap, weight).mean
        loss = loss + DEKR_OFFSET_FACTOR * dekr_offset_loss(output.offset, offset, offset_weight).mean
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        (people,) = decode_dekr(network(image), DekrSettings(nms_joints=2, threshold=0.3))
    assert len(people.xy) == 2 and people.heat.min() > 0.5
    found = people.xy[people.xy[:, 0, 0].argsort()].numpy()
    expected = keypoints[keypoints[:, 0, 0].argsort()][..., :2]
    assert np.abs(found - expected).max() < 2  # input pixels: half a map pixel
