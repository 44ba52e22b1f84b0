"""Tracking metrics against TrackEval, the code of MOTChallenge, on random sequences.

    pip install --no-deps --target runs/trackeval trackeval==1.3.0
    python benchmarks/trackeval_agrees.py runs/trackeval [--sequences 200]

People come and go, ids trade places, similarities are noisy. Said is how often each figure differs by more than 1e-9;
the exit code is 1 when one does. LocA is left out on purpose: where nothing is matched at a threshold TrackEval counts
a place as perfect, ours is the mean over thresholds at which something is.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from posecli.metrics import tracking
from posecli.metrics.tracking import TrackedFrame

PAIRS = {
    "MOTA": "MOTA", "MOTP": "MOTP", "MOT_switches": "IDSW", "MOT_misses": "CLR_FN", "MOT_false_positives": "CLR_FP",
    "MOT_fragmentations": "Frag", "MOT_mostly_tracked": "MT", "MOT_mostly_lost": "ML", "IDF1": "IDF1", "IDP": "IDP",
    "IDR": "IDR", "HOTA": "HOTA", "DetA": "DetA", "AssA": "AssA", "DetRe": "DetRe", "DetPr": "DetPr", "AssRe": "AssRe",
    "AssPr": "AssPr",
}  # fmt: skip


def sequence(seed: int) -> list[TrackedFrame]:
    """A random sequence; identities count from 0 on both sides."""
    rng = np.random.default_rng(seed)
    people, found = rng.integers(1, 6), rng.integers(1, 7)
    alike = rng.random((people, found))
    rows = []
    for _ in range(rng.integers(3, 30)):
        there, seen = np.flatnonzero(rng.random(people) < 0.8), np.flatnonzero(rng.random(found) < 0.8)
        if rng.random() < 0.1:  # everybody has another id
            alike = rng.random((people, found))
        noise = rng.normal(0, 0.1, (len(there), len(seen)))
        rows.append((there, seen, np.clip(alike[np.ix_(there, seen)] + noise, 0, 1)))
    known = [np.unique(np.concatenate([row[side] for row in rows])) for side in (0, 1)]
    return [
        TrackedFrame(np.searchsorted(known[0], there), np.searchsorted(known[1], seen), similarity)
        for there, seen, similarity in rows
    ]


def by_trackeval(frames: list[TrackedFrame]) -> dict[str, Any]:
    """The same figures by TrackEval."""
    from trackeval.metrics import CLEAR, HOTA, Identity  # type: ignore[import-not-found,import-untyped,unused-ignore]

    labels, predicted = [f.labels for f in frames], [f.predicted for f in frames]
    data = {
        "gt_ids": labels, "tracker_ids": predicted, "similarity_scores": [f.similarity for f in frames],
        "num_timesteps": len(frames), "num_gt_ids": int(np.concatenate(labels).max(initial=-1)) + 1,
        "num_tracker_ids": int(np.concatenate(predicted).max(initial=-1)) + 1,
        "num_gt_dets": sum(map(len, labels)), "num_tracker_dets": sum(map(len, predicted)),
    }  # fmt: skip
    quiet = {"PRINT_CONFIG": False}
    scores: dict[str, Any] = {}
    for metric in (CLEAR(quiet), Identity(quiet), HOTA()):
        scores |= metric.eval_sequence(data)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where trackeval is installed")
    parser.add_argument("--sequences", type=int, default=200)
    args = parser.parse_args()
    if not (args.folder / "trackeval").is_dir():
        parser.error(f"{args.folder} has no trackeval; see the first lines of this file")
    sys.path.append(str(args.folder))
    np.float, np.int = float, int  # type: ignore[attr-defined]  # names that NumPy dropped and TrackEval uses
    differ: Counter[str] = Counter()
    for seed in range(args.sequences):
        frames = sequence(seed)
        ours = tracking.clear_scores(tracking.clear_mot(frames))
        ours |= tracking.identity_scores(tracking.identity(frames))
        ours |= tracking.hota_scores(tracking.hota(frames).ravel())
        theirs = by_trackeval(frames)
        for own, name in PAIRS.items():
            differ[own] += abs(float(ours[own]) - float(np.mean(theirs[name]))) > 1e-9
    for own in PAIRS:
        print(f"{own:20} differs in {differ[own]} of {args.sequences} sequences")
    raise SystemExit(int(any(differ.values())))


if __name__ == "__main__":
    main()
