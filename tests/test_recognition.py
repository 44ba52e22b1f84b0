"""Files of other depth, stacks, width and joints than the reference cases: known by their names and shapes.

The states are made from the manifests of the reference cases, stretched as the official code builds the larger
networks, and not from our own tables. Tensors are views of a single zero: the files are small, nothing is computed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from posecli.errors import PoseError
from posecli.inference import load_model
from posecli.official import load_official

Shapes = dict[str, list[int]]


def manifest(shared: Path, case: str) -> Shapes:
    return json.loads((shared / "reference" / case / "manifest.json").read_text())


def repeated(shapes: Shapes, pattern: str, last: int, count: int) -> Shapes:
    """What is numbered ``last`` at the group of a pattern also numbered up to ``count`` - 1."""
    result: Shapes = {}
    for name, shape in shapes.items():
        result[name] = shape
        found = re.match(pattern, name)
        if found and int(found[1]) == last:
            for number in range(last + 1, count):
                result[name[: found.start(1)] + str(number) + name[found.end(1) :]] = shape
    return result


def deeper(shapes: Shapes, trunk: str, second: int, third: int) -> Shapes:
    """A ResNet-50 with that many blocks in its second and third stage."""
    shapes = repeated(shapes, rf"{trunk}layer2\.(\d+)\.", 3, second)
    return repeated(shapes, rf"{trunk}layer3\.(\d+)\.", 5, third)


def joints(shapes: Shapes, outputs: str, inputs: str, count: int, before: int) -> Shapes:
    """Another number of joints: of the layers whose outputs, and whose inputs, they are."""
    result = {}
    for name, shape in shapes.items():
        if re.fullmatch(outputs, name):
            shape = [shape[0] - before + count, *shape[1:]]
        if re.fullmatch(inputs, name):
            shape = [shape[0], shape[1] - before + count, *shape[2:]]
        result[name] = shape
    return result


def stacks_of_princeton(shapes: Shapes, count: int) -> Shapes:
    for part in ("hgs", "features", "outs"):
        shapes = repeated(shapes, rf"{part}\.(\d+)\.", 1, count)
    return repeated(shapes, r"merge_(?:features|preds)\.(\d+)\.", 0, count - 1)


def stacks_of_pytorch_pose(shapes: Shapes, count: int) -> Shapes:
    for part in ("hg", "res", "fc", "score"):
        shapes = repeated(shapes, rf"{part}\.(\d+)\.", 1, count)
    return repeated(shapes, r"(?:fc_|score_)\.(\d+)\.", 0, count - 1)


def wide_hrnet(shapes: Shapes) -> Shapes:
    """HRNet-W48: 48, 96, 192, 384 channels for 32, 64, 128, 256; the stem and its 256 channels stay."""
    wider = {32: 48, 64: 96, 128: 192, 256: 384}
    result = {}
    for name, shape in shapes.items():
        if name.startswith(("transition", "stage")):
            first, *rest = shape or [0]
            if rest and not name.startswith("transition1."):
                rest[0] = wider.get(rest[0], rest[0])
            shape = [wider.get(first, first), *rest] if shape else shape
        elif name == "final_layer.weight":
            shape = [shape[0], wider[shape[1]], *shape[2:]]
        result[name] = shape
    return result


def stages_of_cpm(shapes: Shapes, count: int) -> Shapes:
    """The first of six: one stage has no part numbered, the others count from 0."""
    numbered = r"(?:cpm_stages|middle_conv|out_convs)\.(\d+)\."
    return {n: s for n, s in shapes.items() if not (f := re.match(numbered, n)) or int(f[1]) < count - 1}


def duc(shapes: Shapes, counts: tuple[int, int, int] = (4, 2, 1)) -> Shapes:
    """AlphaPose's `FastPose_DUC`: stages of pixel shuffle and convolutions without bias, with norm."""
    result = {n: s for n, s in shapes.items() if n.startswith("preact.")}
    channels = 2048
    for stage, (count, wanted) in enumerate(zip(counts, (1024, 512, 256), strict=True), 1):
        within = channels // 4
        for i in range(count):
            given = wanted if i == count - 1 else within
            result[f"duc{stage}.{3 * i + 1}.weight"] = [given, within, 3, 3]
            for part in ("weight", "bias", "running_mean", "running_var"):
                result[f"duc{stage}.{3 * i + 2}.{part}"] = [given]
            result[f"duc{stage}.{3 * i + 2}.num_batches_tracked"] = []
        channels = wanted
    return result | {"conv_out.weight": [17, 256, 3, 3], "conv_out.bias": [17]}


# name: (case, change of its manifest, architecture, arguments, skeleton, input size)
FILES: dict[str, tuple[str, Callable[[Shapes], Shapes], str, dict[str, Any], str, tuple[int, int]]] = {
    "hourglass 8 stacks, princeton": (
        "hourglass2_pu", lambda s: stacks_of_princeton(s, 8), "hourglass", {"stacks": 8, "channels": 256, "depth": 4},
        "mpii16", (256, 256),
    ),
    "hourglass 1 stack, princeton": (
        "hourglass2_pu",
        lambda s: {n: x for n, x in s.items() if not re.match(r"(hgs|features|outs)\.1\.|merge_", n)},
        "hourglass", {"stacks": 1}, "mpii16", (256, 256),
    ),
    "hourglass 8 stacks, pytorch-pose": (
        "hourglass2_pytorchpose", lambda s: stacks_of_pytorch_pose(s, 8), "hg", {"stacks": 8, "depth": 4, "blocks": 1},
        "mpii16", (256, 256),
    ),
    "SimpleBaseline-101": (
        "pose_resnet50_coco", lambda s: deeper(s, "", 4, 23), "simple-baseline-101", {"style": "pytorch"},
        "coco17", (192, 256),
    ),
    "SimpleBaseline-152 caffe": (
        "pose_resnet50_caffe_coco", lambda s: deeper(s, "", 8, 36), "simple-baseline-152", {"style": "caffe"},
        "coco17", (192, 256),
    ),
    "SimpleBaseline-152 of MPII": (
        "pose_resnet50_coco", lambda s: joints(deeper(s, "", 8, 36), r"final_layer\..*", "-", 16, 17),
        "simple-baseline-152", {"style": "pytorch"}, "mpii16", (256, 256),
    ),
    "HRNet-W48": ("hrnet_w32_coco", wide_hrnet, "hrnet-w48", {}, "coco17", (192, 256)),
    "HRNet-W48 of MPII": (
        "hrnet_w32_coco", lambda s: joints(wide_hrnet(s), r"final_layer\..*", "-", 16, 17), "hrnet-w48", {},
        "mpii16", (256, 256),
    ),
    "HRNet-W32 of MPII": (
        "hrnet_w32_coco", lambda s: joints(s, r"final_layer\..*", "-", 16, 17), "hrnet-w32", {}, "mpii16", (256, 256),
    ),
    "CPN-101": ("cpn50", lambda s: deeper(s, r"resnet\.", 4, 23), "cpn-101", {}, "coco17", (192, 256)),
    "CPM 3 stages": ("cpm6_mmpose", lambda s: stages_of_cpm(s, 3), "cpm", {"stages": 3}, "coco17", (192, 256)),
    "CPM of MPII": (
        "cpm6_mmpose",
        lambda s: joints(
            s, r"(stem\.9|out_convs\.\d+\.1)\.conv\.(weight|bias)", r"cpm_stages\.\d+\.model\.0\.conv\.weight", 16, 17
        ),
        "cpm", {"stages": 6, "background": None}, "mpii16", (368, 368),
    ),
    "UniPose of MPII": (
        "unipose_lsp", lambda s: joints(s, r"decoder\.last_conv\.8\..*", "-", 17, 15), "unipose", {},
        "mpii16", (368, 368),
    ),
    "FastPose-152 DUC": (
        "fastpose50_coco", lambda s: duc(deeper(s, r"preact\.", 8, 36)), "fastpose-152-duc", {}, "coco17", (192, 256),
    ),
    "FastPose-50 DUC": ("fastpose50_coco", duc, "fastpose-50-duc", {}, "coco17", (192, 256)),
    "FastPose-152": (
        "fastpose50_coco", lambda s: deeper(s, r"preact\.", 8, 36), "fastpose-152", {}, "coco17", (192, 256),
    ),
    "FastPose-101 DCN": (
        "fastpose50_dcn_coco", lambda s: deeper(s, r"preact\.", 4, 23), "fastpose-101-dcn", {}, "coco17", (192, 256),
    ),
}  # fmt: skip

# How the authors' own code saves.
FORMS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "bare": lambda s: s,
    "checkpoint": lambda s: {"epoch": 3, "state_dict": {f"module.{n}": t for n, t in s.items()}},
    "model": lambda s: {"model": s},
    "princeton": lambda s: {"state_dict": {f"model.module.{n}": t for n, t in s.items()}},
}


def zeros(shapes: Shapes) -> dict[str, Tensor]:
    counters = torch.zeros((), dtype=torch.int64)
    return {
        name: counters if name.endswith("num_batches_tracked") else torch.zeros(1).expand(shape)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("name", FILES)
def test_recognised(shared: Path, tmp_path: Path, name: str) -> None:
    case, change, architecture, arguments, skeleton, size = FILES[name]
    state = zeros(change(manifest(shared, case)))
    form = list(FORMS)[list(FILES).index(name) % len(FORMS)]
    path = tmp_path / ("caffe.pth" if arguments.get("style") == "caffe" else "weights.pth")
    torch.save(FORMS[form](state), path)
    network, meta = load_official(path, warn=lambda text: None)
    assert meta.architecture == architecture
    assert {k: meta.arguments.get(k) for k in arguments} == arguments
    assert (meta.skeleton.name, meta.input_size) == (skeleton, size)
    own = network.state_dict()
    floats = sum(t.numel() for n, t in own.items() if not n.endswith("num_batches_tracked"))
    given = sum(t.numel() for n, t in state.items() if not n.endswith("num_batches_tracked") and "skip_layer" not in n)
    unused = sum(t.numel() for n, t in state.items() if re.match(r"decoder\.(conv2|bn2)\.(?!num)", n))
    if "skip_layer" not in "".join(state):
        assert floats == given - unused  # nothing of the file was dropped


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_saving(shared: Path, tmp_path: Path, form: str) -> None:
    """Through the front door, without the counters that old versions of torch did not save."""
    state = {n: t for n, t in zeros(manifest(shared, "hourglass2_pytorchpose")).items() if "num_batches" not in n}
    torch.save(FORMS[form](state), tmp_path / "a.pth")
    model = load_model(tmp_path / "a.pth", device="cpu", warn=lambda text: None)
    assert (model.meta.architecture, model.meta.arguments["stacks"]) == ("hg", 2)
    assert model.skeleton.name == "mpii16" and model.top_down
    output = model.network.eval()(torch.zeros(1, 3, 64, 64))
    assert output._fields == ("stage0", "stage1") and output.heatmap.shape == (1, 16, 16, 16)


@pytest.mark.parametrize(
    ("case", "drop", "add", "family", "words"),
    [
        ("cpn50", "refine_net.final_predict.1.weight", "extra.weight", "CPN", ("refine_net.final_predict.1.weight",)),
        ("unipose_lsp", "wasp.conv2.weight", "wasp.conv9.weight", "UniPose", ("wasp.conv2.weight", "wasp.conv9")),
        ("hourglass2_pu", "outs.1.conv.bias", "outs.1.conv.scale", "princeton", ("outs.1.conv.bias", "conv.scale")),
        ("fastpose50_coco", "conv_out.bias", "preact.fc.weight", "FastPose", ("conv_out.bias", "preact.fc.weight")),
        ("pose_resnet50_coco", "final_layer.weight", "fc.weight", "SimpleBaseline", ("final_layer.weight", "fc.w")),
        ("cpm6_mmpose", "stem.9.conv.weight", "head.weight", "CPM", ("stem.9.conv.weight", "head.weight")),
    ],
)  # fmt: skip
def test_a_stranger_is_told_its_nearest_family(
    shared: Path, tmp_path: Path, case: str, drop: str, add: str, family: str, words: tuple[str, ...]
) -> None:
    """Whether what lacks is a marker of the family or any other tensor, the names are listed."""
    state = zeros(manifest(shared, case))
    del state[drop]
    state[add] = torch.zeros(1)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(PoseError) as caught:
        load_model(tmp_path / "a.pth", device="cpu")
    assert family in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_something_else_altogether(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(4, 3, 3, 3), "fc.bias": torch.zeros(4)}, tmp_path / "a.pth")
    with pytest.raises(PoseError, match=r"unknown kind; the nearest is .*it lacks .*it has conv\.weight, fc\.bias"):
        load_model(tmp_path / "a.pth", device="cpu")
