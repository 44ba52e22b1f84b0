"""Tompson et al.'s table: localisation error by pooling, 4x, 8x and 16x, with and without the fine network.

    python benchmarks/tompson_pooling.py --data DATA --out runs/tompson [--epochs 2] [--side 64] [--only 4,8]

One small cascade for each pooling (`tompson-tiny`), on the same pictures in the same order, in its three phases: the
first half of the run teaches the coarse network alone, the next quarter the fine one, the last both. Each is read three
times over the validation pictures in the true boxes: the highest coarse pixel; DARK's reading of the coarse maps; the
cascade. The paper's claim (Sec. 5) is that the cascade recovers what pooling lost: its gain grows with the pooling.
Differences are paired over pictures. The result of each pooling is a file of its own in the folder, nothing that is
there is done again, and a stopped training goes on.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import lspet

from posecli.codecs.top_down import CASCADE
from posecli.formats import coco
from posecli.inference import PredictOptions, load_model

POOLINGS = (4, 8, 16)
READINGS = {"pixel": "argmax", "coarse": "dark", "cascade": CASCADE}
SHARES = ("PCK@0.05", "PCK@0.1", lspet.PCK)
ERROR = "EPE"


def settings(pooling: int, data: str, epochs: int, side: int) -> dict[str, Any]:
    """Of the cascade of this pooling."""
    return lspet.SHORT_RUN | {
        "model": "tompson-tiny", "data": [data], "input_size": [side, side], "epochs": epochs, "lr": 2e-3, "batch": 8,
        "seed": 1, "model_arguments": json.dumps({"pooling": pooling}),
    }  # fmt: skip


def examine(pooling: int, arguments: Any) -> dict[str, Any]:
    """Trains and measures one pooling."""
    train_file, val_file = lspet.prepare(arguments.data, arguments.out)
    wanted = settings(pooling, str(train_file), arguments.epochs, arguments.side)
    weights = lspet.learn(wanted, arguments.out / f"pooling{pooling}")
    dataset = lspet.validation_set(val_file, arguments.limit)
    poses = {
        name: lspet.predict(load_model(weights, "cpu", options=PredictOptions(codec=codec)), dataset)
        for name, codec in READINGS.items()
    }
    measured = partial(
        lspet.measure, dataset, draws=arguments.draws, pck=(0.05, 0.1, 0.2), metrics=("pck", ERROR.lower())
    )
    first, second = measured(poses["pixel"], poses["cascade"]), measured(poses["coarse"], poses["cascade"])
    return {
        "pooling": pooling,
        "epochs": arguments.epochs,
        "side": arguments.side,
        "seen": arguments.epochs * len(coco.read(train_file).records),
        "pictures": len(dataset.records),
        "pixel": first["all"],
        "coarse": second["all"],
        "cascade": second["second"]["all"],
        "gain": second["difference"]["all"],
    }


def table(results: dict[int, dict[str, Any]]) -> str:
    """A row for each pooling and metric, and what the gain does with the pooling."""
    lines = [f"{'pooling':9}{'metric':11}{'pixel':>8}{'coarse':>8}{'cascade':>9}   cascade - coarse"]
    for pooling, result in sorted(results.items()):
        for key in SHARES:
            values = [100 * result[name][key] for name in READINGS]
            row = "".join(f"{value:{width}.1f}" for value, width in zip(values, (8, 8, 9), strict=True))
            lines.append(f"{f'{pooling}x':9}{key:11}{row}   {lspet.signed(result['gain'][key])}")
        values = [result[name][ERROR] for name in READINGS]
        row = "".join(f"{value:{width}.2f}" for value, width in zip(values, (8, 8, 9), strict=True))
        gain = result["gain"][ERROR]
        low, high = gain["interval"]
        star = "*" if gain["holds"] else ""
        lines.append(
            f"{f'{pooling}x':9}{'error, px':11}{row}   {gain['value']:+5.2f} ({low:+.2f} to {high:+.2f}){star}"
        )
    lines.append(
        "pixel: highest coarse pixel; coarse: DARK's reading of the coarse maps; cascade: coarse and fine maps"
    )
    lines.append("percent, points, picture pixels; intervals of 95 % paired over pictures; * the difference holds")
    if len(results) == len(POOLINGS):
        for key in SHARES[:2]:
            gains = [100 * results[pooling]["gain"][key]["value"] for pooling in POOLINGS]
            grows = "grows with" if gains == sorted(gains) else "does not simply grow with"
            lines.append(f"the cascade's gain in {key} {grows} the pooling: {', '.join(f'{g:+.1f}' for g in gains)}")
    return "\n".join(lines)


def main() -> None:
    """Trains, measures and prints."""
    parser = lspet.options(__doc__, epochs=2, side=64)
    parser.add_argument("--only", type=lambda text: [int(part) for part in text.split(",")], default=list(POOLINGS))
    arguments = parser.parse_args()
    lspet.set_threads(arguments.threads)
    results = {}
    for pooling in POOLINGS:
        file = arguments.out / f"pooling{pooling}.json"
        if lspet.stored(file) is None and pooling in arguments.only:
            lspet.store(file, examine(pooling, arguments))
        if (result := lspet.stored(file)) is not None:
            results[pooling] = result
    print(table(results))


if __name__ == "__main__":
    main()
