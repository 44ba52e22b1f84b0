"""The networks: `MODELS` maps a name to its builder.

A builder takes ``keypoints`` (K) and keyword arguments with plain values, and returns a module whose output is a named
tuple of maps. Models know nothing of files, skeletons or the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from posecli.models.cpm import CPM
from posecli.models.cpn import CPN
from posecli.models.deeppose import DeepPose
from posecli.models.dekr import DEKR, DekrBoxOutput, DekrOutput
from posecli.models.dekr_gru import DekrGru, DekrSeedGru
from posecli.models.fastpose import FastPose
from posecli.models.fpn import PoseFPN, Trunk
from posecli.models.hourglass import PytorchPoseHourglass, StackedHourglass
from posecli.models.hrnet import HRNet, HRNetConcat
from posecli.models.integral import IntegralPose
from posecli.models.layers import HeatmapOutput
from posecli.models.resnet import DEPTHS
from posecli.models.simple_baseline import SimpleBaseline
from posecli.models.tompson import Tompson
from posecli.models.unipose import UniPose
from posecli.models.unipose_lstm import UniPoseLSTM

__all__ = ["DEKR", "MODELS", "DekrBoxOutput", "DekrOutput", "HRNet", "HeatmapOutput", "PoseFPN"]

#: Sizes of HRNet: the paper's two, and two of ours (`small` for a CPU in real time, `tiny` for tests).
_SIZES: dict[str, dict[str, Any]] = {
    "w32": {"width": 32},
    "w48": {"width": 48},
    "small": {"width": 16, "modules": (1, 2, 2), "blocks": 2, "stem": 32, "bottlenecks": 2},
    "tiny": {"width": 8, "modules": (1, 1, 1), "blocks": 1, "stem": 16, "bottlenecks": 1},
}


def _dekr(keypoints: int, size: str, kind: type[DEKR] = DEKR, **arguments: Any) -> DEKR:
    """DEKR on an HRNet; the heat map head is as wide as the highest resolution. ``arguments``: see ``kind``."""
    arguments.setdefault("heatmap_channels", _SIZES[size]["width"])
    return kind(HRNetConcat(**_SIZES[size]), keypoints, **arguments)


#: What a finder with a memory remembers, see `DekrGru`.
MEMORY_OF_FINDER = {"memory": 16, "offset_sees_heat": True, "heat_unit": False, "carry": True}


def _finder(
    keypoints: int,
    heatmap_channels: int = 64,
    joint_channels: int = 4,
    offset_blocks: int = 1,
    kind: type[DEKR] = DEKR,
    memory: Mapping[str, int] | None = None,
    **trunk: Any,
) -> DEKR:
    """DEKR with a box head on the pose network's trunk at stride 8, its heat maps logits. ``trunk``: see `Trunk`;
    ``memory``: further arguments of ``kind``."""
    trunk = {"stride": 8, **trunk}
    network = kind(
        Trunk(**trunk),
        keypoints,
        heatmap_channels=heatmap_channels,
        heatmap_blocks=1,
        joint_channels=joint_channels,
        offset_blocks=offset_blocks,
        box=True,
        **(memory or {}),
    )
    # Nearly every cell is background: start from a probability of 0.01 (Lin et al., "Focal Loss", ICCV 2017, Sec. 4.1).
    final = cast("nn.Conv2d", network.head_heatmap[1])
    nn.init.constant_(cast("Tensor", final.bias), -4.6)
    return network


def _integral(keypoints: int, network: str, beta: float = 1.0, **arguments: Any) -> IntegralPose:
    """Integral regression on another network of this table; ``arguments`` are that one's."""
    return IntegralPose(MODELS[network](keypoints=keypoints, **arguments), beta)


MODELS: dict[str, Callable[..., nn.Module]] = {
    "dekr-w32": partial(_dekr, size="w32"),
    "dekr-w48": partial(_dekr, size="w48"),
    "dekr-small": partial(_dekr, size="small"),
    "dekr-tiny": partial(_dekr, size="tiny"),
    "dekr-gru-w32": partial(_dekr, size="w32", kind=DekrGru, memory=64),
    "dekr-gru-w48": partial(_dekr, size="w48", kind=DekrGru, memory=64),
    "dekr-gru-small": partial(_dekr, size="small", kind=DekrGru),
    "dekr-gru-tiny": partial(_dekr, size="tiny", kind=DekrGru, memory=16),
    **{f"dekr-gru-seed-{size}": partial(_dekr, size=size, kind=DekrSeedGru) for size in _SIZES},
    "hrnet-w32": partial(HRNet, **_SIZES["w32"]),
    "hrnet-w48": partial(HRNet, **_SIZES["w48"]),
    "hrnet-small": partial(HRNet, **_SIZES["small"]),
    "hrnet-tiny": partial(HRNet, **_SIZES["tiny"]),
    **{f"simple-baseline-{depth}": partial(SimpleBaseline, blocks=blocks) for depth, blocks in DEPTHS.items()},
    "simple-baseline-tiny": partial(SimpleBaseline, blocks=(1, 1, 1, 1), width=16, channels=32),
    "hourglass": StackedHourglass,
    "hourglass-2": partial(StackedHourglass, stacks=2),
    "hourglass-tiny": partial(StackedHourglass, stacks=2, depth=3, channels=32, stem=(16, 32, 32)),
    "hg": PytorchPoseHourglass,
    "hg-tiny": partial(PytorchPoseHourglass, depth=3, channels=32, stem=(16, 32, 32)),
    **{
        f"fastpose-{depth}{ending}": partial(FastPose, blocks=blocks, **arguments)
        for ending, arguments in (("", {}), ("-dcn", {"dcn": True}), ("-duc", {"duc": (4, 2, 1)}))
        for depth, blocks in DEPTHS.items()
    },
    "fastpose-tiny": partial(FastPose, blocks=(1, 1, 1, 1), width=16),
    "cpm": CPM,
    "cpm-3": partial(CPM, stages=3),
    **{f"cpn-{depth}": partial(CPN, blocks=blocks) for depth, blocks in DEPTHS.items()},
    "cpn-tiny": partial(CPN, blocks=(1, 1, 1, 1), width=16, channels=32),
    "unipose": UniPose,
    "unipose-tiny": partial(UniPose, blocks=(1, 1, 1, 3), width=16, channels=32, reduced=16, dropout=False),
    "unipose-lstm": UniPoseLSTM,
    "unipose-lstm-tiny": partial(
        UniPoseLSTM, blocks=(1, 1, 1, 3), width=16, channels=32, reduced=16, dropout=False, refine=24, kernel=5
    ),
    "cpm-tiny": partial(CPM, stages=3, channels=8, wide=32, middle=8, features=16),
    **{f"integral-resnet-{depth}": partial(_integral, network=f"simple-baseline-{depth}") for depth in DEPTHS},
    "integral-hrnet-w32": partial(_integral, network="hrnet-w32"),
    "integral-hrnet-w48": partial(_integral, network="hrnet-w48"),
    "integral-hourglass-1": partial(_integral, network="hourglass", stacks=1),
    "integral-hourglass-2": partial(_integral, network="hourglass", stacks=2),
    "integral-hourglass-tiny": partial(_integral, network="hourglass-tiny"),
    "integral-hrnet-tiny": partial(_integral, network="hrnet-tiny"),
    "integral-resnet-tiny": partial(_integral, network="simple-baseline-tiny"),
    "tompson": Tompson,
    "tompson-tiny": partial(Tompson, channels=16, wide=48, hidden=32, dropout=0.1, window=24, fine=16),
    "deeppose": DeepPose,
    **{
        f"deeppose-resnet-{depth}": partial(DeepPose, trunk="resnet", side=224, blocks=blocks)
        for depth, blocks in DEPTHS.items()
    },
    "deeppose-tiny": partial(DeepPose, side=64, width=24, features=128, dropout=0.0, stride=2, grid=3),
    "deeppose-pooled": partial(DeepPose, trunk="pooled", side=48),
    "deeppose-resnet-tiny": partial(DeepPose, trunk="resnet", zoom=1, side=64, blocks=(1, 1, 1, 1), width=8),
    "pose-fpn": PoseFPN,
    "dekr-finder": _finder,
    "dekr-gru-finder": partial(_finder, kind=DekrGru, memory=MEMORY_OF_FINDER),
    "dekr-gru-seed-finder": partial(_finder, kind=DekrSeedGru),
}
