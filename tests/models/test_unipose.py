"""UniPose against the official output, its background and stride all the way to joints, and learning."""

import numpy as np
import pytest
import torch
from learning import Pupil, make_people
from reference import load_case, tensors
from torch import nn

from posecli.errors import PoseError
from posecli.models import MODELS
from posecli.models.fuse import fold_norms
from posecli.official import load_official


def test_official_output(shared, tmp_path):
    case = load_case(shared, "unipose_lsp")
    state = {k: v for k, v in tensors(case["params"]).items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": state}, tmp_path / "UniPose_LSP.tar")
    network, meta = load_official(tmp_path / "UniPose_LSP.tar")
    assert (meta.architecture, meta.skeleton.name, meta.input_size) == ("unipose", "lsp14", (368, 368))
    assert (meta.extra["background"], meta.extra["channels"], meta.mean[0]) == ("first", "bgr", 128 / 255)
    with torch.no_grad():
        output = network(torch.from_numpy(case["input"]))
    limit = 1e-5 * case["case"]["outputs"]["heatmap"]["absmax"]
    assert np.abs(output.heatmap.numpy() - case["golden"]["heatmap"]).max() < limit


def test_sixteen_joints_are_mpii_and_other_trunks_are_refused(tmp_path):
    with torch.device("meta"):
        network = MODELS["unipose"](keypoints=16)
    state = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in network.state_dict().items()}
    state |= {"decoder.conv2.weight": torch.zeros(1), "decoder.bn2.num_batches_tracked": torch.tensor(1)}
    torch.save(state, tmp_path / "a.pth")
    _, meta = load_official(tmp_path / "a.pth")
    assert meta.skeleton.name == "mpii16" and meta.extra["release"] == "unipose_mpii"
    state.pop("backbone.layer3.22.bn3.bias")
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(PoseError, match=r"missing: backbone\.layer3\.22\.bn3\.bias"):
        load_official(tmp_path / "b.pth")


def test_one_of_a_batch_and_folding():
    torch.manual_seed(0)
    network = MODELS["unipose-tiny"](keypoints=3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    network.eval().double()
    folded = fold_norms(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    images = torch.randn(2, 3, 80, 112).double()
    with torch.no_grad():
        output, alone = network(images).heatmap, network(images[1:]).heatmap
        torch.testing.assert_close(folded(images).heatmap, output, rtol=1e-9, atol=1e-9)
    assert output.shape == (2, 4, 10, 14)
    torch.testing.assert_close(output[1:], alone, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="multiples of 16"):
        network(images[..., :72, :])


def test_a_step_lowers_the_loss_and_the_background_is_dropped(tmp_path):
    pupil = Pupil(make_people(tmp_path / "data", 2), "unipose-tiny", input_size=[112, 112])
    assert pupil.meta.extra["background"] == "first" and pupil.task.stride == 8
    assert pupil.batch["target"].shape == (2, 6, 14, 14) and pupil.batch["weight"][:, 0].tolist() == [1, 1]
    losses = [pupil.step(1e-3) for _ in range(4)]
    assert losses[-1] < losses[0]
    assert 0 <= pupil.pck(0.5) <= 1  # five joints come out, not six
