"""One more heat map, high where no joint is: added to targets, dropped before decoding.

Wei, Ramakrishna, Kanade, Sheikh, "Convolutional Pose Machines", CVPR 2016, Sec. 3.1 (P + 1 belief maps: "one for each
part plus one for the background"). UniPose does the same (bmartacho/UniPose@bf53632, `utils/lsp_lspet_data.py`), with
the background first where CPM has it last. Networks name the place in their attribute ``background``, weights in
``extra["background"]``.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

#: Where the background's map may stand among the maps.
PLACES = ("first", "last")


def add_background(
    maps: np.ndarray, weight: np.ndarray, place: str, complete: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Targets with a background: 1 minus the highest joint's value, at every pixel.

    As in the official code its weight is 1 also where joints of the person have no label (their maps are empty). It is
    0 for people of a data set that has no such joints at all where others have (not `complete`): what one set teaches
    as a joint the other would teach as background.

    Args:
        maps: (K, h, w) targets of the joints, empty for those without label. weight: (K,).
        place: "first" or "last".
        complete: whether the data set has all joints that are learnt from any.

    Returns:
        (K + 1, h, w) and (K + 1,), of the same types.
    """
    background, counts = 1 - maps.max(0, keepdims=True), np.full(1, complete, weight.dtype)
    if _is_first(place):
        return np.concatenate([background, maps]), np.concatenate([counts, weight])
    return np.concatenate([maps, background]), np.concatenate([weight, counts])


def drop_background(maps: Tensor, place: str) -> Tensor:
    """(B, K + 1, h, w) to the maps of the joints (B, K, h, w)."""
    return maps[:, 1:] if _is_first(place) else maps[:, :-1]


def _is_first(place: str) -> bool:
    if place not in PLACES:
        raise ValueError(f"the background is {' or '.join(PLACES)}, not {place!r}")
    return place == PLACES[0]
