"""What published scorers do differently, by name; nothing of it happens without ``--compat NAME``.

The rules of a peer change only what is listed here, the result says so in its notes, and ``compat.figures`` of the
result are the numbers that the peer's own script prints. Each was compared with values its code gave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """A published scorer.

    Attributes:
        source: repository @ commit.
        metrics: what its rules change.
        rules: what it does, in sentences.
        strict: compares with ``<`` in these metrics.
    """

    source: str
    metrics: tuple[str, ...]
    rules: tuple[str, ...]
    strict: tuple[str, ...] = ()


COMPAT: Mapping[str, Peer] = {
    "mmpose": Peer(
        "open-mmlab/mmpose@759b39c",
        ("pck", "epe", "nme"),
        (
            "PCK counts a distance below the threshold (<), not one equal to it",
            "the torso is the distance of joints 4 and 5 whatever they are; below 1 pixel it is the prediction's",
            "AUC is the mean of PCK at 0, 0.05 ... 0.95 of the reference (of 30 pixels with --pck-reference pixels)",
            "the figure is the mean over the joints that somebody has",
        ),
        strict=("pck",),
    ),
    "hrnet": Peer(
        "leoxiaobin/deep-high-resolution-net.pytorch@6f69e46",
        ("pckh",),
        (
            "what is called PCKh@0.1 is measured at 0.11",
            "joints 6 and 7 (pelvis, thorax) are left out of the mean",
            "left and right are averaged without weights",
        ),
    ),
    "crowdpose": Peer(
        "Jeff-sjtu/CrowdPose@86fe5e1",
        ("crowdpose",),
        ("AP easy, medium and hard are rounded to four digits", "a level without people has an AP of -1"),
    ),
    "deeppose": Peer(
        "asanakoy/deeppose_tf@ed11cc6",
        ("pdj", "pcp", "pcp-relaxed"),
        (
            "PDJ counts a distance below the threshold (<), not one equal to it",
            "PCP is over ten sticks: head, torso (LSP: mid-shoulder to mid-hip, MPII: thorax to pelvis), arms and legs",
            "the mean weighs head, torso and the means of right and left equally",
        ),
        strict=("pdj",),
    ),
    "poseval": Peer(
        "leonid-pishchulin/poseval@1ebce28",
        ("posetrack",),
        (
            "the last frame with people of every video is left out",
            "frames without labelled people are left out",
            "a frame without predictions counts one miss and one false positive per joint, however many people it has",
            "MOTP is 0 for joints that were never matched",
        ),
    ),
}
