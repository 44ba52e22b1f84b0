"""The quarter shift against DARK's reading of the same heat maps, at maps of 64 x 48, 32 x 24 and 16 x 12.

    python benchmarks/quarter_dark.py --data DATA --out runs/quarter_dark [--epochs 3]

One network for each size (person crops of 256 x 192, 128 x 96 and 64 x 48, height x width): an hourglass of 4, 3 and 2
halvings, so that all of them see as much of a body; the same pictures, order and changes; DARK's targets. Sigma of the
targets and the reading's smoothing are those of ilovepose/DarkPose@101e98d (`experiments/coco/hrnet`): 2 and 11 pixels
at the largest size, 1 and 3 at the others; DARK with 11 pixels throughout stands beside. Each network runs once over
the validation pictures, and its maps are read by: the highest pixel; that and a quarter pixel towards the higher
neighbour; DARK. Differences are paired over pictures. Nothing that is in the folder is done again; a stopped training
goes on.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import lspet

from posecli.codecs.dark import decode_dark
from posecli.codecs.gaussian import decode_gaussian
from posecli.codecs.peers import decode_argmax
from posecli.formats import coco

#: Map height: halvings, sigma of the targets, kernel of DARK's smoothing.
SIZES = {16: (2, 1.0, 3), 32: (3, 1.0, 3), 64: (4, 2.0, 11)}
METRICS = ("PCK@0.05", "PCK@0.1", lspet.PCK, lspet.PCKH, "mean_OKS", lspet.AP)


def settings(height: int, data: str, epochs: int) -> dict[str, Any]:
    """Of the network whose maps have this height."""
    depth, sigma, _ = SIZES[height]
    return lspet.SHORT_RUN | {
        "model": "hourglass", "data": [data], "input_size": [3 * height, 4 * height], "epochs": epochs, "lr": 4e-3,
        "batch": 8, "sigma": sigma, "codec": "dark", "seed": 1,
        "model_arguments": f'{{"stacks": 1, "depth": {depth}, "channels": 48, "stem": [8, 16, 48]}}',
    }  # fmt: skip


def examine(height: int, arguments: Any) -> dict[str, Any]:
    """Trains and measures one size."""
    train_file, val_file = lspet.prepare(arguments.data, arguments.out)
    weights = lspet.learn(settings(height, str(train_file), arguments.epochs), arguments.out / f"maps{height}")
    kernel = SIZES[height][2]
    decoders: dict[str, lspet.Decoder] = {
        "pixel": decode_argmax, "quarter": decode_gaussian, "dark": partial(decode_dark, kernel=kernel),
        "dark11": decode_dark,
    }  # fmt: skip
    dataset = lspet.validation_set(val_file, arguments.limit)
    poses = lspet.read_all(lspet.ready(weights), dataset, decoders)
    measured = partial(lspet.measure, dataset, draws=arguments.draws, pck=(0.05, 0.1, 0.2))
    result: dict[str, Any] = {"height": height, "kernel": kernel, "epochs": arguments.epochs}
    result["seen"] = arguments.epochs * len(coco.read(train_file).records)
    result["pictures"] = len(dataset.records)
    for name in ("quarter", "dark", "dark11"):
        both = measured(poses["pixel" if name == "quarter" else "quarter"], poses[name])
        if name == "quarter":
            result["pixel"] = both["all"]
        result[name] = both["second"]["all"]
        result[f"{name}_gain"] = both["difference"]["all"]
    return result


def main() -> None:
    parser = lspet.options(__doc__, epochs=3)
    parser.add_argument("--only", type=lambda text: [int(part) for part in text.split(",")], default=list(SIZES))
    arguments = parser.parse_args()
    lspet.set_threads(arguments.threads)
    results = {}
    for height in SIZES:
        file = arguments.out / f"maps{height}.json"
        if lspet.stored(file) is None and height in arguments.only:
            lspet.store(file, examine(height, arguments))
        if (result := lspet.stored(file)) is not None:
            results[height] = result
    print(table(results))


def table(results: dict[int, dict[str, Any]]) -> str:
    """What was found: a row for each size and metric, and what holds in words."""
    lines = [
        f"{'maps':8}{'metric':10}{'pixel':>8}{'quarter':>9}{'DARK':>7}   DARK - quarter            kernel 11 - quarter"
    ]
    for height, result in sorted(results.items(), reverse=True):
        for key in METRICS:
            pixel, quarter, dark = (100 * result[name][key] for name in ("pixel", "quarter", "dark"))
            lines.append(
                f"{f'{height}x{3 * height // 4}':8}{key:10}{pixel:8.1f}{quarter:9.1f}{dark:7.1f}   "
                f"{lspet.signed(result['dark_gain'][key]):26}{lspet.signed(result['dark11_gain'][key])}"
            )
    lines.append("percent, points; intervals of 95 % paired over pictures; * the difference holds (p <= 0.05 too)")
    for height, result in sorted(results.items(), reverse=True):
        gain = result["dark_gain"]
        better = [key for key in METRICS if gain[key]["holds"] and gain[key]["value"] > 0]
        worse = [key for key in METRICS if gain[key]["holds"] and gain[key]["value"] < 0]
        rest = [key for key in METRICS if key not in better + worse]
        lines.append(
            f"{height}x{3 * height // 4}: DARK is better in {', '.join(better) or 'nothing'}, worse in "
            f"{', '.join(worse) or 'nothing'}; no difference is shown in {', '.join(rest) or 'nothing'}"
        )
    gains = [results[h]["dark_gain"]["PCK@0.1"]["value"] for h in sorted(results, reverse=True)]
    if len(gains) == len(SIZES):
        grows = "grows with" if gains == sorted(gains) else "does not simply grow with"
        lines.append(
            f"DARK's gain in PCK@0.1 {grows} each halving: {', '.join(f'{100 * g:+.1f}' for g in gains)} points"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
