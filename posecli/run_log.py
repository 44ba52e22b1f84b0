"""The record of a run: means between two lines, `log.jsonl`, TensorBoard events."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from posecli.errors import MissingExtra, PoseError
from posecli.learner import StepOutcome


class Meter:
    """Means between two lines of the log.

    Args:
        terms: the loss terms' names and weights.

    Attributes:
        waited: seconds spent waiting for data; added to by the loop.
    """

    def __init__(self, terms: Mapping[str, float]) -> None:
        self._terms = dict(terms)
        self._reset()

    def _reset(self) -> None:
        self._values = torch.zeros(len(self._terms), dtype=torch.float64)
        self._steps, self._samples, self._norm, self.waited = 0, 0, 0.0, 0.0
        self._since = time.monotonic()

    def add(self, outcome: StepOutcome, samples: int) -> None:
        """Counts a step."""
        self._values += outcome.terms()
        self._steps += 1
        self._samples += samples
        self._norm += outcome.gradient_norm

    def state(self) -> dict[str, Any]:
        """The sums of the steps since the last line, so that a resumed run writes the line it would have written."""
        return {"values": self._values.tolist(), "steps": self._steps, "norm": self._norm}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave; time and samples count from now."""
        self._values = torch.tensor(state["values"], dtype=torch.float64)
        self._steps, self._norm = state["steps"], state["norm"]

    def read(self) -> dict[str, float]:
        """Losses, the gradient's norm, samples a second and the share of time spent waiting; starts again."""
        steps, seconds = max(self._steps, 1), max(time.monotonic() - self._since, 1e-9)
        means = (self._values / steps).tolist()
        loss = sum(weight * mean for weight, mean in zip(self._terms.values(), means, strict=True))
        record = {"loss": round(loss, 6)}
        record |= {f"loss_{term}": round(mean, 6) for term, mean in zip(self._terms, means, strict=True)}
        record |= {
            "gradient_norm": round(self._norm / steps, 4),
            "samples_per_second": round(self._samples / seconds, 2),
            "waiting": round(self.waited / seconds, 4),
        }
        self._reset()
        return record


#: What a run leaves in its folder: a new one replaces all of it.
RUN_FILES = (
    "config.toml", "environment.json", "log.jsonl", "last.safetensors", "best.safetensors", "state.pt", "nonfinite.pt",
)  # fmt: skip


def refuse_used(folder: Path, hint: str, config: str | None = None) -> None:
    """PoseError where the folder holds a run, or files of other kinds that a run would replace.

    The beginnings of a run of the same ``config`` do no harm: it was killed before it had saved anything, and the same
    command begins it anew.
    """
    held = [name for name in RUN_FILES if (folder / name).exists()]
    if "state.pt" in held or "last.safetensors" in held:
        raise PoseError("the folder holds a run already", str(folder), hint)
    own = folder / "config.toml"
    if config is not None and own.is_file() and own.read_text(encoding="utf-8", errors="replace") == config:
        return
    if held:
        what = f"the folder holds {' and '.join(held)}, which a run would replace"
        raise PoseError(what, str(folder), "another folder for --out, or --overwrite")


def clear_run(folder: Path) -> None:
    """Removes what an earlier run left in a folder, of each of its processes."""
    for path in (*(folder / name for name in RUN_FILES), *folder.glob("nonfinite.[0-9]*.pt")):
        path.unlink(missing_ok=True)


class RunLog:
    """`log.jsonl`, one record a line, and TensorBoard events where asked.

    Args:
        folder: the run folder; a log that is there is added to.
        tensorboard: MissingExtra where the package is missing.
        step: made so far; events of later ones are dropped from earlier TensorBoard files.
    """

    def __init__(self, folder: Path, tensorboard: bool, step: int) -> None:
        self._board = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise MissingExtra("tensorboard", "train", "--tensorboard") from None
            self._board = SummaryWriter(str(folder), purge_step=step + 1)
        self._file = open(folder / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115 (open for the whole run)

    def write(self, record: Mapping[str, Any]) -> None:
        """One line; numbers that are not finite become null."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        self._file.write(json.dumps(clean) + "\n")
        self._file.flush()
        if self._board and record["event"] in ("train", "validation"):
            for key, value in clean.items():
                if isinstance(value, (int, float)) and key not in ("step", "epoch"):
                    self._board.add_scalar(f"{record['event']}/{key}", value, record["step"])

    def size(self) -> int:
        """Bytes written so far, by this run and the sessions before."""
        return self._file.tell()

    def close(self) -> None:
        """Flushes and closes."""
        self._file.close()
        if self._board:
            self._board.close()
