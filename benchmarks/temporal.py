"""Does a memory help? Per-frame DEKR, dekr-gru, the reports' GRU, UniPose-LSTM and smoothing on the same puppet clips.

    python benchmarks/temporal.py --data DATA --out runs/temporal [--seeds 3] [--only dekr-gru] [--tables] [--rehearse]

In pieces, each of which leaves a file and is not done again: a stopped run goes on where it was. The seeds are done one
after another and the tables are of those that are finished; `--tables` works nothing out that is not there yet.

1. Puppet clips (`posecli scenes --puppets`): training clips in several conditions; validation clips, which alone
   settings were chosen by (`--conditions val_clean,val_blur,val_occlusion`); test clips in front and side views, the
   same people, tracks and cameras under each of `CONDITIONS`, and more, larger sets of them (`--conditions
   second_blur,second_occlusion` or `third_...`). People, backgrounds and tracks of the splits differ.
2. A per-frame network all start from: a finder (`--finder`), learnt further on single frames of a third of the training
   clips and on real pictures (`temporal_base`). What its heads give for each frame of the other clips, as they are and
   changed at random, is kept in files (`temporal_features`). From these the last layers of the per-frame network learn
   (with `--base-steps 0 --head-steps 0` the finder stays as it is); networks with a memory stand on that network of the
   same seed, as it is, and learn their memory alone from the same batches: all have seen the same pictures. `--ablate`
   takes parts of dekr-gru away, or its past. UniPose-LSTM (`--only unipose-lstm`) learns by itself, by `posecli train`,
   and looks into the boxes of the per-frame DEKR.
3. Each network looks at each test clip in order. The per-frame poses are also tracked and smoothed.
4. OKS-AP, AP50, mean OKS, jitter and local NMS score with 95 % intervals (bootstrap over clips and seeds, paired with
   the per-frame network), by condition and by view; the time of a frame; steadiness and identities on real clips.

Jitter is the mean second difference over time of (prediction - truth), in heights of the person's box: neither the
person's own movement nor a pose that lies a little off costs anything, a frozen or trembling one does.

The finder that the base starts from has seen a few of the people of the test clips in its own training, as pictures;
that is the same for all.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lspet
from result_files import write_both, write_json
from temporal_clips import CONDITIONS, MORE, VALIDATION
from temporal_comparison import compare, cost, real_clips
from temporal_figures import lines_of
from temporal_looking import streams
from temporal_ship import ship
from temporal_systems import ABLATIONS, BASE, LSTM, SMOOTHED, SYSTEMS


def main() -> None:
    """Does what is not done yet, and prints the tables."""
    parser = lspet.options(
        __doc__ or "", seeds=3, side=192, batch=4, clip_frames=8, frames=30, train_frames=16, val_frames=24,
        train_clips=200, val_clips=12, test_clips=64, more_clips=128, ways=2, base_steps=330, head_steps=1000,
        steps=1000, real_frames=150, lstm_side=112, lstm_clips=8000, only="", conditions="",
    )  # fmt: skip
    parser.add_argument("--finder", type=Path, help="weights whose finder all start from; by default the shipped ones")
    parser.add_argument(
        "--peak-reach", type=float, default=0.0, help="all move joints to peaks: `posecli.codecs.boxes.moved_to_peaks`"
    )
    parser.add_argument("--ablate", action="store_true", help="also networks with parts taken away")
    parser.add_argument(
        "--ship", type=Path, help="only write dekr-gru's weights, of the first seed, as they are shipped"
    )
    parser.add_argument("--tables", action="store_true", help="only print what is finished")
    parser.add_argument(
        "--rehearse", action="store_true", help="everything once, tiny: minutes; the figures mean nothing"
    )
    arguments = parser.parse_args()
    if arguments.rehearse:
        small = {"seeds": 1, "side": 64, "lstm_side": 48, "batch": 2, "clip_frames": 2, "frames": 5, "train_frames": 5,
                 "train_clips": 2, "test_clips": 1, "more_clips": 1, "ways": 2, "base_steps": 2, "head_steps": 2,
                 "steps": 2, "lstm_clips": 8, "draws": 20, "real_frames": 8}  # fmt: skip
        vars(arguments).update(small)
    arguments.out, arguments.data = arguments.out.resolve(), arguments.data.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    lspet.set_threads(arguments.threads)
    if arguments.ship:
        return ship(arguments.ship, arguments)
    chosen = [name for name in arguments.only.split(",") if name]
    known = [*SYSTEMS, *(ABLATIONS if arguments.ablate else {}), *SMOOTHED]
    if unknown := [name for name in chosen if name not in (*known, LSTM)]:
        raise SystemExit(f"no system is called {unknown[0]!r}; there are {', '.join([*known, LSTM])}")
    systems = [name for name in [*known, LSTM] if (name in chosen if chosen else name != LSTM) or name == BASE]
    conditions = [name for name in arguments.conditions.split(",") if name] or list(CONDITIONS)
    known = [*CONDITIONS, *VALIDATION, *MORE]
    if unknown := [name for name in conditions if name not in known]:
        raise SystemExit(f"no condition is called {unknown[0]!r}; there are {', '.join(known)}")
    for seed in range(arguments.seeds if not arguments.tables else 0):
        for condition in conditions:
            for system in systems:
                streams(system, seed, condition, arguments)
    if not arguments.tables:
        more = {"cost": cost(arguments, systems), "real": real_clips(arguments, systems)}
        write_json(arguments.out / "more.json", more)
    print("\n".join(lines_of(tell(arguments, systems))))


def tell(arguments: Any, systems: Sequence[str]) -> dict[str, Any]:
    """Writes down the figures of what is finished, and gives them."""
    frames = arguments.clip_frames * arguments.batch * arguments.steps
    more = arguments.out / "more.json"
    result = {
        "date": str(datetime.date.today()),
        "machine": f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "pictures": f"{frames} pictures seen in {arguments.batch * arguments.steps} clips",
        "seeds": arguments.seeds,
        "arguments": {k: str(v) for k, v in vars(arguments).items() if k not in ("data", "out")},
        "figures": compare(arguments, systems),
        **(json.loads(more.read_text()) if more.is_file() else {"cost": {}, "real": {}}),
    }
    write_both(arguments.out, "temporal", result, "\n".join(lines_of(result)) + "\n")
    return result


if __name__ == "__main__":
    main()
