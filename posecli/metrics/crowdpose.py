"""CrowdPose's AP: over all pictures, and over easy, medium and hard ones.

Source: Li et al., CrowdPose: Efficient Crowded Scenes Pose Estimation and A New Benchmark, CVPR 2019, Sec. 3; official
code Jeff-sjtu/CrowdPose@86fe5e1 (`crowdposetools/cocoeval.py`). As COCO's AP, but the area of OKS is 0.53 of the
annotated box, there are no area ranges, and people without labelled joints besides head and neck are neither to be
found nor wrong to find (the benchmark's ``num_keypoints`` leaves these two out). Pictures are sorted into levels by
their crowd index (the share of other people's joints in the people's boxes): easy below 0.2, medium below 0.8, hard
above. (The paper draws the first line at 0.1; the code, and every published figure, at 0.2.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posecli.metrics import oks

LEVELS = (("easy", 0.0, 0.2), ("medium", 0.2, 0.8), ("hard", 0.8, np.inf))
AREA_SHARE = 0.53
_NOT_COUNTED = {"head", "top_head", "head_top", "neck"}
KEYS = tuple(
    f"CrowdPose_{key}" for key in ("AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_easy", "AP_medium", "AP_hard")
)


def crowdpose_areas(box_xywh: np.ndarray) -> np.ndarray:
    """(N,) areas in pixels^2 from annotated boxes (N, 4); NaN where there is no box."""
    area = AREA_SHARE * box_xywh[:, 2] * box_xywh[:, 3]
    return np.where(area > 0, area, np.nan)


def counts_for_crowdpose(visibility: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(N,) bool whether people with joints of these names are to be found, by (N, K) visibility."""
    counted = np.array([name not in _NOT_COUNTED for name in names], bool)
    there: np.ndarray = visibility[:, counted] > 0
    return np.asarray(there.any(axis=1))


def level_frames(crowd_index: np.ndarray) -> dict[str, np.ndarray]:
    """Level -> (F,) bool frames, by crowd index (F,); frames without one are of no level."""
    with np.errstate(invalid="ignore"):
        return {name: (crowd_index >= low) & (crowd_index < high) for name, low, high in LEVELS}


def crowdpose_scores(
    matches: oks.Matches, crowd_index: np.ndarray, frames: np.ndarray | None = None, *, rounded: bool = False
) -> dict[str, float]:
    """`KEYS` to values, of the frames chosen; -1 where no labelled person counts.

    Args:
        matches: with the area range ``all``.
        crowd_index: (F,).
        frames: (F,) bool, None for all.
        rounded: levels to four digits, as the official code.
    """
    precision, recall = oks.precision_recall(matches, "all", frames)
    at50, at75 = (np.isclose(matches.thresholds, value) for value in (0.5, 0.75))
    scores = {}
    for name, values in (("AP", precision), ("AR", recall)):
        scores[name] = float(values.mean())
        scores[f"{name}50"], scores[f"{name}75"] = float(values[at50].mean()), float(values[at75].mean())
    for level, mask in level_frames(crowd_index).items():
        value = float(oks.precision_recall(matches, "all", mask if frames is None else mask & frames)[0].mean())
        scores[f"AP_{level}"] = round(value, 4) if rounded else value
    return {key: scores[key.removeprefix("CrowdPose_")] for key in KEYS}
