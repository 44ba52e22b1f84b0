"""SimpleBaseline: microsoft/human-pose-estimation.pytorch@49f3f44, and the same as saved by mmpose and AlphaPose.

The official code reads pictures with OpenCV and never turns blue-green-red around, but normalises by the means of
red-green-blue: its networks take blue first, normalised by the mean and deviation meant for red
(`lib/dataset/JointsDataset.py`, `pose_estimation/valid.py`). The stride style is in neither names nor shapes: a file
with "caffe" in its name is taken for that style, any other for "pytorch", and ``release=`` says it outright.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from posecli.checkpoint import IMAGENET_MEAN, IMAGENET_STD
from posecli.models.resnet import DEPTHS, depth_of
from posecli.official.deeppose import CONSTANTS
from posecli.official.family import Family, Sources
from posecli.official.fastpose import ALPHAPOSE_EXTRA, ALPHAPOSE_PIXELS
from posecli.official.releases import Release

_ARCHITECTURES = {blocks: f"simple-baseline-{depth}" for depth, blocks in DEPTHS.items()}


def _family(name: str, trunk: str, head: str) -> Family:
    """A repository that prefixes the names of the trunk and of the layers after it."""

    def describe(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
        architecture = _ARCHITECTURES.get(depth_of(state, trunk))
        if architecture is None:
            return None
        start = f"{head}deconv_layers."
        kernels = [t for n, t in state.items() if n.startswith(start) and n.endswith(".weight") and t.ndim == 4]
        arguments: dict[str, Any] = {"keypoints": state[f"{head}final_layer.weight"].shape[0]}
        # Only what differs from the usual, so that the plain networks have plain descriptions.
        if len(kernels) != 3:
            arguments["deconv"] = len(kernels)
        if kernels[0].shape[3] in (2, 3):
            arguments["kernel"] = kernels[0].shape[3]
        return architecture, arguments

    def sources(network: nn.Module) -> Sources:
        return {
            n: ((head if n.startswith(("deconv_layers.", "final_layer.")) else trunk) + n,)
            for n in network.state_dict()
        }

    markers = (f"{trunk}layer4.0.conv3.weight", f"{head}deconv_layers.0.weight", f"{head}final_layer.weight")
    # Files of mmpose 1 may have their normalisation on board.
    constants = CONSTANTS if head == "head." else {}
    return Family(name, markers, describe, sources, ("simple-baseline-50", {"keypoints": 17}), constants)


FAMILIES = (
    _family("SimpleBaseline", "", ""),
    _family("SimpleBaseline of mmpose 1", "backbone.", "head."),
    _family("SimpleBaseline of mmpose 0", "backbone.", "keypoint_head."),
    _family("SimpleBaseline of AlphaPose", "preact.", ""),
)

_EXTRA = {
    "convention": "hrnet",
    "channels": "bgr",
    "licence": "MIT",
    "source": "microsoft/human-pose-estimation.pytorch@49f3f44",
}
# The means in the order red, green, blue: those of red are for blue here.
_BGR: dict[str, Any] = {"mean": IMAGENET_MEAN[::-1], "std": IMAGENET_STD[::-1]}

_OFFICIAL = tuple(
    Release(
        f"pose_resnet_{depth}_{name}",
        f"simple-baseline-{depth}",
        skeleton,
        input_size,
        "gaussian",
        _EXTRA,
        {"style": style},
        ("caffe",) if style == "caffe" else (),
        FAMILIES[0].name,
        **_BGR,
    )
    for style, sizes in (
        (
            "pytorch",
            {
                "256x192": ("coco17", (192, 256)),
                "384x288": ("coco17", (288, 384)),
                "256x256": ("mpii16", (256, 256)),
                "384x384": ("mpii16", (384, 384)),
            },
        ),
        ("caffe", {"caffe_256x192": ("coco17", (192, 256))}),
    )
    for depth in DEPTHS
    for name, (skeleton, input_size) in sizes.items()
)

# mmpose's `configs/body_2d_keypoint/topdown_heatmap` at 759b39c: boxes enlarged by 1.25, red first, quarter shift or
# (`_dark`) DARK, flip test with the maps moved one pixel.
_MMPOSE_EXTRA = {"convention": "hrnet", "licence": "Apache-2.0", "source": "open-mmlab/mmpose@759b39c"}
_MMPOSE_SETS: tuple[tuple[str, str, tuple[int, int]], ...] = (
    ("coco", "coco17", (192, 256)),
    ("coco", "coco17", (288, 384)),
    ("posetrack18", "posetrack18", (192, 256)),
    ("mpii", "mpii16", (256, 256)),
    ("aic", "aic14", (192, 256)),
    ("crowdpose", "crowdpose14", (192, 256)),
    ("crowdpose", "crowdpose14", (256, 320)),
    ("jhmdb", "jhmdb15", (256, 256)),
)
_MMPOSE = tuple(
    Release(
        f"td-hm_res{depth}_{'dark_' if dark else ''}{data}-{height}x{width}",
        f"simple-baseline-{depth}",
        skeleton,
        (width, height),
        "dark" if dark else "gaussian",
        _MMPOSE_EXTRA,
        {},
        (data, f"{height}x{width}", *(("dark",) if dark else ())),
        family.name,
    )
    for family in FAMILIES[1:3]
    for dark in (False, True)
    for depth in DEPTHS
    for data, skeleton, (width, height) in _MMPOSE_SETS
    if not dark or data == "coco"
)

_ALPHAPOSE = Release(
    "simple_res50_256x192",
    "simple-baseline-50",
    "coco17",
    (192, 256),
    "gaussian",
    ALPHAPOSE_EXTRA,
    family=FAMILIES[3].name,
    **ALPHAPOSE_PIXELS,
)

RELEASES = (*_OFFICIAL, *_MMPOSE, _ALPHAPOSE)
