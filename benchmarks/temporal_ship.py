"""The weights of a system of `temporal.py` as they come with posecli."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lspet import say
from temporal_base import TERMS, TRAINED_ON
from temporal_systems import weights_of

from posecli.augment_pictures import Picture
from posecli.checkpoint import load_checkpoint, save_model
from posecli.inference import PoseModel, load_model
from posecli.pose_scores import Judgement
from posecli.readout import PredictOptions

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
from assemble_default import best_threshold, candidates, look_at
from train_finder import training_pools

#: How the shipped weights look at a frame: longer side in pixels, and smaller looks for people near by (SNIP).
_SHIPPED_SIZE = (256, 256)
SHIPPED: dict[str, Any] = {
    "scales": [1.0, 0.625], "trusted": [30.0, 110.0], "inside": 0.95, "heat_counts": True,
}  # fmt: skip
#: Longer side of the people by whom the threshold is chosen, over the picture's: it is for people near by.
_LEAST = 1 / 6


def ship(file: Path, arguments: Any, system: str = "dekr-gru", seed: int = 0) -> None:
    """Writes a system's weights as they come with posecli: kernels in eight bits, all else bfloat16, so that the file
    stays below 5 MB; two looks at a frame (`SHIPPED`); the threshold with the best F1 on the finder's tuning pictures.
    The first seed, not the best."""
    network, meta = load_checkpoint(weights_of(system, seed, arguments))
    told = {k: v for k, v in meta.extra.items() if k in ("floor", "overlap", "inside", "stride", "peak_reach")}
    told |= {
        **SHIPPED, "trained_on": TRAINED_ON, "licence": TERMS,
        "measured": {"benchmark": "benchmarks/results/temporal.md", "seed": seed},
    }  # fmt: skip
    meta = replace(meta, input_size=_SHIPPED_SIZE, extra=told)
    save_model(file, network.state_dict(), meta.with_extra(threshold=0.0), dtype=torch.bfloat16, eight_bits=True)
    model = load_model(file, "cpu", options=PredictOptions(min_score=0.01))
    _, _, tuning, quiet = training_pools(arguments.data)
    threshold, f1 = threshold_of(model, [p for p in tuning if p.complete] + quiet)
    meta = meta.with_extra(threshold=threshold)
    save_model(file, network.state_dict(), meta, dtype=torch.bfloat16, eight_bits=True)
    say(f"{file}: {file.stat().st_size} bytes, threshold {threshold} (F1 {f1:.3f})")


def threshold_of(model: PoseModel, pictures: Sequence[Picture]) -> tuple[float, float]:
    """The score from which on people are to be shown, for the best F1 on pictures with and without people alike; and
    that."""
    found, wanted = candidates(look_at(model, pictures), least=_LEAST)
    alike = [(log_s, there, False, weight) for log_s, there, _, weight in found]
    threshold, told = best_threshold(alike, wanted, 0, 0.0, Judgement(), near=0.0)
    return round(threshold, 2), told["f1"]
