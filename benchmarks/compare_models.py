"""Every single-person system side by side: small variants, the same pictures, the same time, one seed.

    python benchmarks/compare_models.py --data DATA --out runs/compare [--minutes 6] [--clock wall] [--only hrnet,cpm]

Each system learns LSPET's training pictures for the same processor time (a busy machine changes nothing) on small
square pictures, and is then scored on the validation pictures in the true boxes. Heat maps are taught by DARK's targets
and read with the quarter shift, except where the system has a way of its own. Settings are `lspet.SHORT_RUN`'s, not the
papers' recipes, which are for hundreds of epochs. Shares are of the 12 limb joints. Intervals are bootstraps over
pictures; the gain is paired with the mean pose: each joint's mean place in the box. A system has clearly learnt when
its gain in PCK@0.2, at the lower end of the interval, is above --margin points. The result of each system is a file of
its own in the folder, nothing that is there is done again, and a stopped training goes on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lspet
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from posecli.formats import coco
from posecli.inference import PoseModel
from posecli.types import Dataset

BASELINE = "mean-pose"
LIMBS = [
    f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")
]
_BATCH = 8
_QUARTER = {"codec": "dark", "sigma": 1.5, "lr": 3e-3}  # maps at a quarter of the input
_EIGHTH = {"codec": "dark", "sigma": 1.0, "lr": 3e-3}
#: Of each system: what `posecli train` is told beyond `lspet.SHORT_RUN`.
SYSTEMS: dict[str, dict[str, Any]] = {
    "simple-baseline": {"model": "simple-baseline-tiny", **_QUARTER},
    "hrnet": {"model": "hrnet-tiny", **_QUARTER},
    "hourglass": {"model": "hourglass-tiny", "model_arguments": {"depth": 3}, **_QUARTER},
    # H1 against I1 of the reports: one stack, its maps taught and read as maps, or read as means and taught by both.
    "hourglass-1": {"model": "hourglass-tiny", "model_arguments": {"depth": 3, "stacks": 1}, **_QUARTER},
    "integral-hourglass-1": {
        "model": "integral-hourglass-tiny", "model_arguments": {"depth": 3, "stacks": 1}, "lr": 3e-3,
        "integral_heat": "softmax", "sigma": 1.5,
    },
    "cpm": {"model": "cpm-tiny", **_EIGHTH},
    "cpn": {"model": "cpn-tiny", **_QUARTER},
    "unipose": {"model": "unipose-tiny", **_EIGHTH},
    "fastpose": {"model": "fastpose-tiny", **_QUARTER},
    "tompson": {"model": "tompson-tiny", "model_arguments": {"pooling": 8, "wide": 64}, "lr": 2e-3, "sigma": 1.0},
    "deeppose": {
        "model": "deeppose-pooled", "lr": 2e-3, "batch": 32, "place_loss": "distance", "stage_shares": [5, 1],
        "model_arguments": {"stages": 2, "zoom": 2, "side": 48, "sigma": 1.5},
    },
    "integral": {"model": "integral-resnet-tiny", "lr": 2e-3, "integral_heat": "softmax", "sigma": 1.5},
    "pose-fpn": {
        "model": "pose-fpn", "lr": 3e-3, "sigma": 1.3,
        "model_arguments": {"widths": [32, 64, 128, 192], "blocks": [1, 2, 2, 1], "stem_channels": 16, "channels": 48},
    },
}  # fmt: skip


def settings(system: str, data: Path, arguments: Any) -> dict[str, Any]:
    """The settings of a run."""
    own = dict(SYSTEMS[system])
    own["model_arguments"] = json.dumps(own.get("model_arguments", {}))
    return lspet.SHORT_RUN | {
        "data": [str(data)], "input_size": [arguments.side] * 2, "batch": _BATCH, "seed": arguments.seed,
        "max_minutes": arguments.minutes, "clock": arguments.clock, "threads": arguments.threads, **own,
    }  # fmt: skip


def cost(model: PoseModel) -> tuple[int, int]:
    """Parameters, and multiplications of one picture (of convolutions and matrix products)."""
    side = model.meta.input_size[0]
    picture = np.zeros((side, side, 3), np.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.network.eval()(torch.from_numpy(picture).permute(2, 0, 1)[None].float())
    return sum(p.numel() for p in model.network.parameters()), counter.get_total_flops() // 2


def examine(
    system: str, arguments: Any, files: tuple[Path, Path], dataset: Dataset, plain: lspet.Poses
) -> dict[str, Any]:
    """Trains and scores one system."""
    weights = lspet.learn(settings(system, files[0], arguments), arguments.out / system)
    model = lspet.ready(weights, "gaussian" if SYSTEMS[system].get("codec") == "dark" else None)
    parameters, macs = cost(model)
    both = lspet.measure(
        dataset, plain, lspet.predict(model, dataset), draws=arguments.draws, joints=LIMBS, metrics=("pck", "pckh")
    )
    steps = model.meta.extra["steps"]
    seen = SYSTEMS[system].get("batch", _BATCH) * steps
    return {
        "system": system, "settings": SYSTEMS[system], "side": arguments.side, "minutes": arguments.minutes,
        "clock": arguments.clock, "seed": arguments.seed, "steps": steps, "seen": seen,
        "parameters": parameters, "macs": macs, "per_second": round(lspet.rate_of(model, dataset), 1),
        "pictures": len(dataset.records), "scores": both["second"]["all"], "gain": both["difference"]["all"],
    }  # fmt: skip


def table(results: list[dict[str, Any]], baseline: dict[str, Any], margin: float) -> str:
    """All that is there, the best first."""
    lines = [
        f"{'system':21}{'params':>8}{'MACs':>8}{'seen':>8}{'pict/s':>8}  {'PCK@0.2':22}{'PCKh@0.5':22}gain in PCK@0.2"
    ]
    for result in sorted(results, key=lambda r: -r["scores"][lspet.PCK]):
        scores = result["scores"]
        lines.append(
            f"{result['system']:21}{result['parameters'] / 1e6:7.2f}M{result['macs'] / 1e6:7.0f}M{result['seen']:8d}"
            f"{result['per_second']:8.0f}  {lspet.with_interval(scores, lspet.PCK):22}"
            f"{lspet.with_interval(scores, lspet.PCKH):22}{lspet.signed(result['gain'][lspet.PCK])}"
        )
    plain = [lspet.with_interval(baseline, key) for key in (lspet.PCK, lspet.PCKH)]
    lines.append(f"{BASELINE:21}{'':34}{plain[0]:22}{plain[1]}")
    weak = [r["system"] for r in results if 100 * r["gain"][lspet.PCK]["interval"][0] <= margin]
    lines.append(
        f"seen: training pictures. pict/s: a second of one core, picture to joints. {len(results) - len(weak)} of "
        f"{len(results)} beat the mean pose by more than {margin:g} points of PCK@0.2 at the lower end of the interval"
        + (f"; not: {', '.join(weak)}" if weak else "")
    )
    return "\n".join(lines)


def main() -> int:
    parser = lspet.options(__doc__, minutes=6.0, seed=1, side=96, margin=5.0)
    parser.add_argument("--clock", choices=("processor", "wall"), default="processor", help="what minutes are of")
    parser.add_argument("--only", default=",".join(SYSTEMS), help="systems, commas between")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := [name for name in chosen if name not in SYSTEMS]:
        parser.error(f"no system {unknown[0]!r}; there are {', '.join(SYSTEMS)}")
    lspet.set_threads(arguments.threads)
    files = lspet.prepare(arguments.data, arguments.out)
    dataset = lspet.validation_set(files[1], arguments.limit)
    plain = lspet.mean_pose(coco.read(files[0]), dataset)
    baseline = arguments.out / f"{BASELINE}.json"
    if lspet.stored(baseline) is None:
        measured = lspet.measure(dataset, plain, draws=arguments.draws, joints=LIMBS, metrics=("pck", "pckh"))
        lspet.store(baseline, measured["all"])
    for system in chosen:
        file = arguments.out / f"{system}.json"
        if lspet.stored(file) is None:
            lspet.store(file, examine(system, arguments, files, dataset, plain))
    results = [found for name in SYSTEMS if (found := lspet.stored(arguments.out / f"{name}.json")) is not None]
    print(table(results, lspet.stored(baseline) or {}, arguments.margin))
    return 0


if __name__ == "__main__":
    sys.exit(main())
