"""UniPose with and without DARK: the heat maps' encoding, their decoding, both, from scratch and fine-tuned.

    python benchmarks/unipose_dark.py --data DATA --out runs/unipose_dark [--seeds 3] [--minutes 4] [--tune-minutes 2]

The ablation of the UniPose + DARK report on LSPET, with a small UniPose (`unipose-tiny`, heat maps at an eighth of the
input, as UniPose's). "None" is UniPose's own way: targets centred on the nearest pixel, joints read at the highest one.
DARK's encoding centres the targets on the joint, its decoding takes a Newton step from the highest pixel. For each seed
there are two trainings, one for each encoding, which meet pictures in the same order for the same time; decoding is
chosen afterwards. The quarter shift, which most networks of that time have and UniPose hasn't, stands beside as a third
decoding. Fine-tuned: two short trainings a seed from one common network, itself trained by "none". The report has a
sigma of 3 on maps of 46 pixels; here sigma is 1 on maps of 12, and DARK smooths by 3 pixels, as its authors do for
sigma 1 (ilovepose/DarkPose@101e98d).

Shares are of all 14 joints, in the true boxes. Differences are paired: pictures are drawn anew, each with the poses of
all seeds. They speak of the chance of pictures; seeds are few, and each seed's own difference is printed. Minutes are
of processor time. Nothing that is in the folder is done again; a stopped training goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lspet

from posecli.codecs.dark import decode_dark
from posecli.codecs.gaussian import decode_gaussian
from posecli.codecs.peers import decode_argmax
from posecli.types import Dataset, Video

ENCODERS = {"plain": "gaussian", "dark": "dark"}
DECODERS: dict[str, lspet.Decoder] = {
    "plain": decode_argmax, "dark": partial(decode_dark, kernel=3), "quarter": decode_gaussian,
}  # fmt: skip
#: Columns of the report's tables: encoder, decoder.
CASES = {
    "none": ("plain", "plain"), "encode": ("dark", "plain"), "decode": ("plain", "dark"), "both": ("dark", "dark"),
}  # fmt: skip
QUARTERS = {"quarter": ("plain", "quarter"), "encode+quarter": ("dark", "quarter")}
#: What is compared in words: second minus first.
PAIRS = (
    ("none", "encode"), ("none", "decode"), ("none", "both"), ("encode", "both"), ("decode", "both"),
    ("encode", "decode"), ("quarter", "decode"), ("encode+quarter", "both"),
)  # fmt: skip
METRICS = (lspet.PCK, lspet.PCKH, lspet.AP)
START_SEED = 1000  # of the network that fine-tuning starts from


def settings(encoder: str, seed: int, minutes: float, rate: float, data: Path, arguments: Any) -> dict[str, Any]:
    """Of one training."""
    return lspet.SHORT_RUN | {
        "model": "unipose-tiny", "data": [str(data)], "input_size": [arguments.side] * 2, "batch": 8, "lr": rate,
        "sigma": 1.0, "codec": ENCODERS[encoder], "seed": seed, "max_minutes": minutes, "clock": "processor",
        "threads": arguments.threads,
    }  # fmt: skip


def poses_of(folder: Path, wanted: dict[str, Any], dataset: Dataset) -> dict[str, lspet.Poses]:
    """Of one training, by decoder."""
    return lspet.read_all(lspet.ready(lspet.learn(wanted, folder)), dataset, DECODERS)


def scratch(arguments: Any, data: Path, dataset: Dataset) -> dict[str, Any]:
    """All seeds from random weights."""
    found = {}
    for seed in range(1, arguments.seeds + 1):
        for encoder in ENCODERS:
            wanted = settings(encoder, seed, arguments.minutes, arguments.rate, data, arguments)
            found[seed, encoder] = poses_of(arguments.out / f"scratch-{encoder}-{seed}", wanted, dataset)
    return compared(found, dataset, arguments.draws)


def tuned(arguments: Any, data: Path, dataset: Dataset) -> dict[str, Any]:
    """All seeds from one network."""
    wanted = settings("plain", START_SEED, arguments.start_minutes, arguments.rate, data, arguments)
    start = lspet.learn(wanted, arguments.out / "start")
    found = {}
    for seed in range(1, arguments.seeds + 1):
        for encoder in ENCODERS:
            wanted = settings(encoder, seed, arguments.tune_minutes, arguments.rate / 3, data, arguments)
            wanted["init"] = str(start)
            found[seed, encoder] = poses_of(arguments.out / f"tuned-{encoder}-{seed}", wanted, dataset)
    return compared(found, dataset, arguments.draws)


def compared(found: dict[tuple[int, str], dict[str, lspet.Poses]], dataset: Dataset, draws: int) -> dict[str, Any]:
    """Scores of every case and differences of all pairs, over all seeds, and of each seed by itself."""
    seeds = sorted({seed for seed, _ in found})
    case = {name: {s: found[s, e][d] for s in seeds} for name, (e, d) in (CASES | QUARTERS).items()}
    whole = several(dataset, len(seeds))
    pooled = {name: together([by_seed[s] for s in seeds]) for name, by_seed in case.items()}
    alone = {
        name: [lspet.measure(dataset, by_seed[s], draws=0)["all"] for s in seeds] for name, by_seed in case.items()
    }
    result: dict[str, Any] = {"seeds": len(seeds), "pictures": len(dataset.records), "cases": {}, "pairs": {}}
    for name, poses in pooled.items():
        row = lspet.measure(whole, poses, draws=draws)["all"]
        result["cases"][name] = {
            "all": {key: row[key] for key in METRICS}, "intervals": {key: row["intervals"][key] for key in METRICS},
            "seeds": [{key: one[key] for key in METRICS} for one in alone[name]],
        }  # fmt: skip
    for first, second in PAIRS:
        difference = lspet.measure(whole, pooled[first], pooled[second], draws=draws)["difference"]["all"]
        result["pairs"][f"{second} - {first}"] = {
            key: {
                **difference[key],
                "seeds": [b[key] - a[key] for a, b in zip(alone[first], alone[second], strict=True)],
            }
            for key in METRICS
        }
    return result


def several(dataset: Dataset, count: int) -> Dataset:
    """The pictures as videos of `count` frames, one for each seed: draws take a picture with all its frames."""
    records, videos = [], []
    for number, record in enumerate(dataset.records, 1):
        videos.append(Video(number, str(number), f"{number}.mp4", record.width, record.height, 1.0, count))
        records += [
            replace(record, image_id=number * count + seed, file_name=f"{number}.mp4", video_id=number, frame_id=seed)
            for seed in range(count)
        ]
    return Dataset(dataset.skeleton, tuple(records), tuple(videos), dataset.root, dataset.info)


def together(poses: Sequence[lspet.Poses]) -> lspet.Poses:
    """The poses of several seeds, numbered as `several` numbers its frames."""
    merged: lspet.Poses = []
    for number, frames in enumerate(zip(*poses, strict=True), 1):
        for seed, (header, frame) in enumerate(frames):
            source = replace(header, source=f"{number}.mp4")
            merged.append((source, replace(frame, frame=seed, file=None, image_id=number * len(poses) + seed)))
    return merged


def table(name: str, result: dict[str, Any]) -> str:
    """The report's table, and which differences hold."""
    lines = [f"{name}: {result['seeds']} seeds, {result['pictures']} pictures"]
    lines.append(f"{'metric':10}" + "".join(f"{case:>24}" for case in CASES))
    for key in METRICS:
        cells = [result["cases"][case] for case in CASES]
        texts = [lspet.with_interval({key: c["all"][key], "intervals": c["intervals"]}, key) for c in cells]
        lines.append(f"{'m' + key if key == lspet.AP else key:10}" + "".join(f"{text:>24}" for text in texts))
    for pair, entries in result["pairs"].items():
        first, second = reversed(pair.split(" - "))
        for key in METRICS:
            entry = entries[key]
            by_seed = ", ".join(f"{100 * value:+.1f}" for value in entry["seeds"])
            same = len({value > 0 for value in entry["seeds"]}) == 1
            if not entry["holds"]:
                verdict = "no difference is shown"
            elif same:
                verdict = "holds, and has one sign in all seeds"
            else:
                verdict = "holds over pictures, but not in every seed"
            lines.append(f"  {second} against {first}, {key}: {lspet.signed(entry)} (seeds {by_seed}): {verdict}")
    return "\n".join(lines)


def main() -> None:
    parser = lspet.options(__doc__, seeds=3, minutes=4.0, tune_minutes=2.0, start_minutes=8.0, side=96, rate=3e-3)
    parser.add_argument("--parts", default="scratch,tuned")
    arguments = parser.parse_args()
    lspet.set_threads(arguments.threads)
    train_file, val_file = lspet.prepare(arguments.data, arguments.out)
    dataset = lspet.validation_set(val_file, arguments.limit)
    for name, run in (("scratch", scratch), ("tuned", tuned)):
        file = arguments.out / f"{name}.json"
        if lspet.stored(file) is None and name in arguments.parts.split(","):
            about = {
                key: getattr(arguments, key) for key in ("minutes", "tune_minutes", "start_minutes", "side", "rate")
            }
            lspet.store(file, {**run(arguments, train_file, dataset), **about})
        if (result := lspet.stored(file)) is not None:
            print(table("from scratch" if name == "scratch" else "fine-tuned from one network", result), flush=True)


if __name__ == "__main__":
    main()
