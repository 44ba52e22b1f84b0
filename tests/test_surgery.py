"""Starting from other weights: backbones under prefixes, heads joint by joint, and a true account of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from posecli.checkpoint import ModelMeta, save_model
from posecli.errors import PoseError
from posecli.models import MODELS
from posecli.skeletons import get_skeleton
from posecli.surgery import transplant
from posecli.types import Skeleton

COCO, MPII, BODY = (get_skeleton(name) for name in ("coco17", "mpii16", "body19"))
SMALL = {"widths": (8, 8, 8, 8), "blocks": (1, 1, 1, 1), "stem_channels": 8, "channels": 8}


def made(architecture: str, skeleton: Skeleton, seed: int, **arguments: object) -> tuple[nn.Module, ModelMeta]:
    torch.manual_seed(seed)
    arguments = {"keypoints": skeleton.num_keypoints, **arguments}
    network = MODELS[architecture](**arguments)
    with torch.no_grad():  # norms and biases too: all that is taken shall be seen
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor))
    return network, ModelMeta(architecture, arguments, skeleton, (64, 64))


def saved(path: Path, network: nn.Module, meta: ModelMeta) -> Path:
    save_model(path, network, meta)
    return path


def test_same_network_is_taken_whole(tmp_path: Path) -> None:
    old, meta = made("hrnet-tiny", COCO, 1)
    new, _ = made("hrnet-tiny", COCO, 2)
    report = transplant(new, meta, saved(tmp_path / "a.safetensors", old, meta))
    count = len(old.state_dict())
    assert str(report) == f"{count} of {count} tensors from a.safetensors"
    assert all(torch.equal(new.state_dict()[n], t) for n, t in old.state_dict().items())


def test_a_network_that_took_blue_first_takes_red_first(tmp_path: Path) -> None:
    old, meta = made("simple-baseline-tiny", COCO, 1)
    new, _ = made("simple-baseline-tiny", COCO, 2)
    blue_first = replace(meta.with_extra(channels="bgr"), mean=meta.mean[::-1], std=meta.std[::-1])
    transplant(new, meta, saved(tmp_path / "a.safetensors", old, blue_first))
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = new.eval()(picture).heatmap, old.eval()(picture.flip(1)).heatmap
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("architecture", ["simple-baseline-tiny", "cpm-tiny"])  # a norm behind it; a bias
def test_a_network_that_takes_other_colours_sees_the_same(tmp_path: Path, architecture: str) -> None:
    old, meta = made(architecture, COCO, 1)
    new, _ = made(architecture, COCO, 2)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (meta.mean, meta.std))
    taught = replace(meta, std=(1.0, 0.5, 0.25))
    report = transplant(new, meta, saved(tmp_path / "a.safetensors", old, taught))
    assert "brought to ours" in str(report)
    picture = torch.rand(1, 3, 64, 64)

    def maps(network: nn.Module, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return network.eval()((picture - mean) / std).heatmap

    known = torch.tensor(taught.std).view(1, 3, 1, 1)
    torch.testing.assert_close(maps(new, mean, std), maps(old, mean, known), rtol=1e-3, atol=1e-3)
    # Another mean, too: the first maps are the same but at the border.
    taught = replace(taught, mean=(0.5, 0.0, 0.25), extra={"channels": "bgr"})
    transplant(new, meta, saved(tmp_path / "b.safetensors", old, taught))
    shift = torch.tensor(taught.mean).view(1, 3, 1, 1)

    def first(network: nn.Module, picture: torch.Tensor) -> torch.Tensor:
        begin = [m for m in network.eval().modules() if not list(m.children())][:2]  # convolution, norm or ReLU
        with torch.no_grad():
            return begin[1](begin[0](picture))[..., 8:-8, 8:-8]

    theirs = first(old, (picture.flip(1) - shift) / known)
    torch.testing.assert_close(first(new, (picture - mean) / std), theirs, rtol=1e-3, atol=1e-4)


def test_heads_of_another_skeleton_keep_the_joints_they_share(tmp_path: Path) -> None:
    old, old_meta = made("hrnet-tiny", COCO, 1)
    new, meta = made("hrnet-tiny", MPII, 2)
    fresh = new.final_layer.weight.detach().clone()
    report = transplant(new, meta, saved(tmp_path / "a.safetensors", old, old_meta))
    assert report.by_joint == ["final_layer.weight", "final_layer.bias"] and not report.fresh and not report.unused
    shared = set(COCO.keypoints) & set(MPII.keypoints)
    assert set(report.joints) == shared and "left_wrist" in shared
    for j, name in enumerate(MPII.keypoints):
        expected = old.final_layer.weight[COCO.keypoints.index(name)] if name in shared else fresh[j]
        assert torch.equal(new.final_layer.weight[j], expected), name
    assert torch.equal(new.conv1.weight, old.conv1.weight)
    assert "12 joints carried over, new pelvis" in str(report)


def test_same_count_of_other_joints_is_no_fit(tmp_path: Path) -> None:
    """PoseTrack has seventeen joints too: by position its head top would be COCO's left ear."""
    track = get_skeleton("posetrack18")
    assert track.num_keypoints == 17
    old, old_meta = made("hrnet-tiny", COCO, 1)
    new, meta = made("hrnet-tiny", track, 2)
    fresh = new.final_layer.bias.detach().clone()
    report = transplant(new, meta, saved(tmp_path / "a.safetensors", old, old_meta))
    assert "head_top" in report.new_joints
    for j, name in enumerate(track.keypoints):
        kept = COCO.keypoints.index(name) if name in COCO.keypoints else None
        expected = fresh[j] if kept is None else old.final_layer.bias[kept]
        assert torch.equal(new.final_layer.bias[j], expected), name


def test_top_down_hrnet_becomes_the_backbone_of_dekr(tmp_path: Path) -> None:
    old, old_meta = made("hrnet-tiny", COCO, 1)
    new, meta = made("dekr-tiny", COCO, 2)
    report = transplant(new, meta, saved(tmp_path / "a.safetensors", old, old_meta))
    trunk = {n: t for n, t in old.state_dict().items() if not n.startswith("final_layer")}
    assert report.prefix == ("backbone.", "") and set(report.taken) == {f"backbone.{n}" for n in trunk}
    assert all(torch.equal(new.state_dict()[f"backbone.{n}"], t) for n, t in trunk.items())
    # The last exchange unit of the top-down network has one output only; the heads are DEKR's own.
    own = {n for n in new.state_dict() if n.startswith("backbone.")} - set(report.taken)
    assert own and all(n.startswith("backbone.stage4.0.fuse_layers.") for n in own)
    assert set(report.unused) == {"final_layer.weight", "final_layer.bias"}
    assert "(* as backbone.*)" in str(report) and "start afresh" in str(report)


def test_and_the_other_way(tmp_path: Path) -> None:
    old, old_meta = made("dekr-tiny", COCO, 1)
    new, meta = made("hrnet-tiny", MPII, 2)
    report = transplant(new, meta, saved(tmp_path / "a.safetensors", old, old_meta))
    assert report.prefix == ("", "backbone.")
    assert torch.equal(new.stage3[0].branches[1][0].conv1.weight, old.backbone.stage3[0].branches[1][0].conv1.weight)
    assert set(report.fresh) == {"final_layer.weight", "final_layer.bias"}


def test_dekr_branches_and_centre(tmp_path: Path) -> None:
    """Every joint has a branch of its own; the map beyond the joints' is the centre's."""
    old, old_meta = made("dekr-tiny", COCO, 1)
    new, meta = made("dekr-tiny", MPII, 2)
    before = {n: t.clone() for n, t in new.state_dict().items()}
    report = transplant(new, meta, saved(tmp_path / "a.safetensors", old, old_meta))
    assert not report.fresh and not report.unused
    new_state, old_state = new.state_dict(), old.state_dict()
    assert torch.equal(new_state["head_heatmap.1.bias"][16], old_state["head_heatmap.1.bias"][17])
    per_joint = {"offset_final.weight": 2, "offset_blocks.0.geometry_conv.weight": 6, "transition_offset.0.weight": 15}
    for name, each in per_joint.items():
        for j, joint in enumerate(MPII.keypoints):
            mine = new_state[name][each * j : each * (j + 1)]
            if joint in COCO.keypoints:
                k = COCO.keypoints.index(joint)
                assert torch.equal(mine, old_state[name][each * k : each * (k + 1)])
            else:
                assert torch.equal(mine, before[name][each * j : each * (j + 1)])


def test_official_file_and_bare_trunk(tmp_path: Path) -> None:
    """A training checkpoint of a classifier: no joints, another head, the trunk fits."""
    old, _ = made("hrnet-tiny", COCO, 1)
    state = {f"module.{n}": t for n, t in old.state_dict().items() if not n.startswith("final_layer")}
    state["module.classifier.weight"] = torch.zeros(1000, 8)
    torch.save({"state_dict": state}, tmp_path / "imagenet.pth")
    new, meta = made("hrnet-tiny", COCO, 2)
    report = transplant(new, meta, tmp_path / "imagenet.pth")
    assert set(report.fresh) == {"final_layer.weight", "final_layer.bias"}
    assert report.unused == ["classifier.weight"] and torch.equal(
        new.layer1[0].conv2.weight, old.layer1[0].conv2.weight
    )


def test_the_better_of_two_networks_in_a_file(tmp_path: Path) -> None:
    pose, pose_meta = made("pose-fpn", BODY, 1, **SMALL)
    finder, finder_meta = made("dekr-finder", BODY, 3, heatmap_channels=8, joint_channels=2, **SMALL)
    path = tmp_path / "two.safetensors"
    save_model(path, pose, pose_meta, finder=(finder, finder_meta))
    for old, meta in ((pose, pose_meta), (finder, finder_meta)):
        new, _ = made(meta.architecture, BODY, 7, **{k: v for k, v in meta.arguments.items() if k != "keypoints"})
        transplant(new, meta, path)
        assert all(torch.equal(new.state_dict()[n], t) for n, t in old.state_dict().items())


def test_nothing_fits(tmp_path: Path) -> None:
    old, old_meta = made("pose-fpn", COCO, 1, **SMALL)
    new, meta = made("hrnet-tiny", COCO, 2)
    with pytest.raises(PoseError, match=r"a\.safetensors: no tensor fits the model"):
        transplant(new, meta, saved(tmp_path / "a.safetensors", old, old_meta))
