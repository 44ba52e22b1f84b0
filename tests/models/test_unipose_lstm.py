"""UniPose-LSTM against the official output, frame by frame and as a clip."""

import numpy as np
import pytest
import torch
from reference import load_case, tensors

from posecli.models import MODELS
from posecli.official import load_official


def test_official_output(shared, tmp_path):
    case = load_case(shared, "unipose_lstm")
    state = {k: v for k, v in tensors(case["params"]).items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": state}, tmp_path / "model.pth.tar")
    network, meta = load_official(tmp_path / "model.pth.tar")
    assert (meta.architecture, meta.skeleton.name, meta.input_size) == ("unipose-lstm", "pennaction13", (368, 368))
    assert (meta.extra["background"], meta.extra["channels"], meta.mean[0]) == ("first", "bgr", 128 / 255)
    with torch.no_grad():
        output = network(torch.from_numpy(case["input"]))
    assert list(output._fields) == list(case["case"]["outputs"])
    for name, about in case["case"]["outputs"].items():
        difference = np.abs(getattr(output, name).numpy() - case["golden"][name]).max()
        assert difference < 1e-5 * about["absmax"], (name, difference)
    assert output.heatmap is output.heatmap1


@pytest.mark.parametrize(("keypoints", "skeleton"), [(14, "lsp14"), (16, "mpii16")])
def test_other_joint_counts_are_recognised(tmp_path, keypoints, skeleton):
    with torch.device("meta"):
        network = MODELS["unipose-lstm"](keypoints=keypoints)
    state = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in network.state_dict().items()}
    assert state["lstm.conv_fh_lstm.weight"].shape == (keypoints + 2, keypoints + 2, 3, 3)
    torch.save(state, tmp_path / "a.pth")
    found, meta = load_official(tmp_path / "a.pth")
    assert meta.skeleton.name == skeleton and found.conv5.out_channels == keypoints + 1


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    network = MODELS["unipose-lstm-tiny"](keypoints=3).double()
    for name, parameter in network.named_parameters():
        if name.startswith(("conv", "decoder.last_conv.8")):
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def test_frame_by_frame_equals_the_clip_and_rows_start_by_themselves(tiny):
    clip = torch.randn(2, 3, 3, 64, 96).double()
    with torch.no_grad():
        whole = tiny(clip)
        state, maps = None, []
        for t in range(3):
            out, state = tiny.step(clip[:, t], state)
            maps.append(out.heatmap)
        torch.testing.assert_close(torch.stack(maps, 1), whole.heatmaps, rtol=1e-9, atol=1e-12)
        assert whole.heatmaps.shape == (2, 3, 4, 8, 12) and state.age.tolist() == [3, 3]
        assert (whole.heatmap1 - tiny(clip[:, 1]).heatmap).abs().max() > 1e-6  # it remembers
        # One row goes on, the other begins anew.
        _, state = tiny.step(clip[:, 0])
        mixed = type(state)(torch.tensor([1.0, 0.0]), state.hide, state.cell)
        out, after = tiny.step(clip[:, 1], mixed)
        torch.testing.assert_close(out.heatmap[0], whole.heatmap1[0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(out.heatmap[1], tiny(clip[1:, 1]).heatmap[0], rtol=1e-9, atol=1e-12)
        assert after.age.tolist() == [2, 1]
