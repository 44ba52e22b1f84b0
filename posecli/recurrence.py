"""What a recurrent network remembers of a video: carried from frame to frame, forgotten where the past says nothing.

A network with ``recurrent`` set has ``step(image, state, gap) -> (output, state)`` besides its ``forward``; its state
is a named tuple of tensors, the first ``age`` (B,), 0 for rows without a past. `PoseModel` runs a frame in several
passes (scales, the mirrored picture, people in batches); each continues the same pass of the frame before. A memory
begins anew

- with each source, and at frames from which on somebody begins to look (`infer --start`),
- at cuts (`is_cut`), and where more than `LONGEST_GAP` seconds are missing or time runs backwards.

The state of a top-down network belongs to a person: it goes on in the box that overlaps the person's last one most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from posecli.assignment import assign
from posecli.following import thumbnail
from posecli.geometry import box_iou
from posecli.inference import PoseModel
from posecli.types import Instance

#: Seconds over which nothing is remembered.
LONGEST_GAP = 1.0
#: Grey levels of mean change that no camera movement makes, and such that one may, if the colours stay.
_CUT, _CHANGED = 45.0, 18.0
#: Share of the colours that stays in a moving picture.
_SAME_COLOURS = 0.45
#: IoU of two boxes of one person in neighbouring frames.
_SAME_PERSON = 0.3


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether another scene begins between two `thumbnail`s (h, w, 3) of neighbouring frames.

    True where the pictures differ much at every place, or differ and have other colours.
    """
    if before.shape != after.shape:
        return True
    small = [cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in (before, after)]
    change = float(cv2.absdiff(*small).mean())
    if change <= _CHANGED:
        return False
    if change > _CUT:
        return True
    colours = [np.bincount(_colour_bins(image), minlength=512) / (image.shape[0] * image.shape[1]) for image in small]
    return float(np.minimum(*colours).sum()) < _SAME_COLOURS


def _colour_bins(image: np.ndarray) -> np.ndarray:
    """The colour (0..511) of each pixel."""
    levels = (image >> 5).astype(np.int64).reshape(-1, 3)
    return levels @ np.array([64, 8, 1])


class Memory:
    """The memory of one video: call `people` once for each frame, in order.

    Args:
        model: its network is recurrent.

    Attributes:
        model: the same.
    """

    def __init__(self, model: PoseModel) -> None:
        if not model.recurrent:
            raise ValueError(f"{model.name} remembers nothing")
        self.model = model
        self._time: float | None = None
        self._seen: np.ndarray | None = None
        self._gap = 0.0
        # By pass of a frame: the state after it.
        self._before: dict[Any, Any] = {}
        self._after: dict[Any, list[Any]] = {}
        # Top-down: boxes of the frame's people, and which of those of the frame before each of them is (-1: none).
        self._boxes = np.zeros((0, 4))
        self._rows = np.zeros(0, np.int64)

    def forget(self) -> None:
        """What comes next has no past."""
        self._time, self._seen, self._before, self._boxes = None, None, {}, np.zeros((0, 4))

    def people(self, image: np.ndarray, time: float, boxes: np.ndarray | None = None) -> tuple[list[Instance], bool]:
        """The people of the next frame, best first, and whether it begins anew.

        Args:
            image: (H, W, 3) uint8. time: seconds.
            boxes: top-down: (N, 4) or (N, 5), see `PoseModel.predict`; by default the finder's.
        """
        small = thumbnail(image)
        new = self._time is None or self._seen is None or not 0 < time - self._time <= LONGEST_GAP
        if new or is_cut(self._seen, small):  # type: ignore[arg-type]
            self.forget()
            new = True
        self._gap = 0.0 if self._time is None else time - self._time
        self._after = {}
        with self.model.remembering(self):
            found = self._top_down(image, boxes) if self.model.top_down else self.model.predict([image], still=False)
        self._before = {key: _joined(states) for key, states in self._after.items()}
        self._time, self._seen = time, small
        return found[0], new

    def _top_down(self, image: np.ndarray, boxes: np.ndarray | None) -> list[list[Instance]]:
        model = self.model
        if boxes is not None:
            self._meet(np.asarray(boxes, np.float64)[:, :4].reshape(-1, 4))
            return model.predict([image], [boxes], still=False)
        known = [p for p in model.find([image])[0] if p.person_score >= model.threshold and p.box_xyxy is not None]
        self._meet(np.array([p.box_xyxy for p in known], np.float64).reshape(-1, 4))
        return [model.finished(model.look([image], [known])[0])]

    def _meet(self, boxes: np.ndarray) -> None:
        """Finds each box's person among those of the frame before."""
        overlap = box_iou(boxes, self._boxes)
        self._rows = np.full(len(boxes), -1)
        for row, column in zip(*assign(-overlap), strict=True):
            if overlap[row, column] >= _SAME_PERSON:
                self._rows[row] = column
        self._boxes = boxes

    def step(self, network: nn.Module, values: Tensor, mirrored: bool) -> Any:
        """The network's output for the next pass of the frame, (B, 3, h, w) normalised; called by the model."""
        if self.model.top_down:
            states = self._after.setdefault(mirrored, [])
            first = sum(len(state[0]) for state in states)
            state = _rows_of(self._before.get(mirrored), self._rows[first : first + len(values)])
        else:
            number = sum(1 for key in self._after if key[0] == mirrored)
            states = self._after.setdefault((mirrored, number), [])
            state = self._before.get((mirrored, number))
        gap = torch.full((len(values),), self._gap, device=values.device)
        stepping: Callable[..., tuple[Any, Any]] = network.step  # type: ignore[assignment]
        output, after = stepping(values, state, gap)
        states.append(after)
        return output


def _rows_of(state: Any, rows: np.ndarray) -> Any:
    """The chosen rows of a state; those of -1 are without a past. None where none has one."""
    if state is None or not (rows >= 0).any():
        return None
    chosen = torch.from_numpy(np.maximum(rows, 0)).to(state[0].device)
    age, *rest = (part[chosen] for part in state)
    return type(state)(torch.where(torch.from_numpy(rows >= 0).to(age.device), age, torch.zeros_like(age)), *rest)


def _joined(states: list[Any]) -> Any:
    """The states of several batches as one."""
    if len(states) == 1:
        return states[0]
    return type(states[0])(*(torch.cat(parts) for parts in zip(*states, strict=True)))
