"""The recipe of the shipped weights: labels, scenes, networks, one file. Called by `train_default.sh`.

    python examples/train_default.py --data DATA --runs runs/default --budget full [--piece 10]

Lengths are counted in pictures, not in minutes, and every seed is fixed: on a slow machine and on a fast one, on a CPU
and on a GPU, in one go or in pieces, the networks see the same pictures in the same order. What is done stands in
RUNS/recipe.json. A part that was stopped goes on: `posecli train --resume`, `train_finder.py --resume`,
`train_quality.py`; the last part begins anew. DATA may be the packed copy that `pack_default_data.py` makes, and may
lie elsewhere at every call.

Nothing is learnt from the tenth of LSPET kept for validation, nor from the val part of coco_mini.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from posecli.files import replace_when_done
from posecli.settings import read_toml, resolve, to_toml

HERE = Path(__file__).resolve().parent
STOPPED = 130
#: Of the finder's trunk: as deep as 10 MB for both networks allow; it starts from the pose network's first blocks.
FINDER_BLOCKS = (2, 6, 10, 3)
#: Of the pose network's samples: LSPET, coco_mini, coco_tiny, people_boxes, coco_more; each kind of generated people;
#: close-ups; and people whose joints a teacher found.
DATA_WEIGHTS = (65, 1.6, 2, 7.4, 9)
SCENES_WEIGHT, CLOSEUPS_WEIGHT, STREET_WEIGHT = 3.5, 8, 4.5
#: Generated people (`posecli scenes`): some who walk past one another, some who do anything; few frames a second, so
#: that each shows another pose, at the sharpness of many.
SCENES: dict[str, tuple[str, ...]] = {
    "crossing": ("--seed", "3001", "--size", "640x360", "--cameras", "front", "--crossing", "--frames", "12"),
    "crossing_outside": ("--seed", "3002", "--size", "640x360", "--cameras", "front", "--crossing", "--frames", "12"),
    "anything": ("--seed", "3003", "--size", "480x360", "--cameras", "front,side,back,oblique", "--frames", "8"),
}
SCENES_ALIKE = ("--people", "1-6", "--fps", "2", "--blur", "0.04", "--camera-motion", "0.4")
#: Its share of people before other pictures, and behind somebody else; with masks.
ELSEWHERE = ("backdrop=0.35", "paste=0.1")
#: Minutes at the end of a piece that no part is begun in. A part that cannot go on where it was has them at least.
LEAST = 2.0
SAVING = 0.25


@dataclass(frozen=True)
class Budget:
    """How much is learnt.

    Attributes:
        epochs, samples: of the pose network: so many times so many pictures.
        steps: of the finder, each of about 35 canvases.
        judged: canvases on which the pose network learns to judge its poses.
        scenes: of generated people, of each kind.
        floor: least score of the finder's centres; pictures: tuning pictures of each kind (0: all); most_false: people
            shown a picture without anybody. For `assemble_default.py`.
        small: further settings of the pose network.
    """

    epochs: int
    samples: int
    steps: int
    judged: int
    scenes: int = 60
    floor: float = 0.05
    pictures: int = 0
    most_false: float = 0.04
    small: tuple[str, ...] = ()


BUDGETS = {
    # 1.92 million pictures, 240,000 canvases; the shipped networks saw 3.14 million and 610,000.
    "full": Budget(60, 32_000, 7000, 3000),
    # A first model that finds people: a twelfth and a ninth of that.
    "short": Budget(10, 16_000, 800, 1000),
    # Learns nothing: shows in a minute or two that all parts run.
    "rehearsal": Budget(
        2,
        32,
        6,
        judged=6,
        scenes=1,
        floor=1e-6,
        pictures=4,
        most_false=100.0,
        small=("batch=8", "val_limit=4", "warmup=2", "small_until=0"),
    ),
}


class Stopped(Exception):
    """The piece is over, or the user asked for an end; what ran is saved."""


class Clock:
    """How much of this call is left, and whether the user wants it to end."""

    def __init__(self, piece: float | None) -> None:
        self.end = time.monotonic() + 60 * piece if piece else None
        self.child: subprocess.Popen[bytes] | None = None
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: Any) -> None:
        self.asked = True
        if self.child is not None:
            self.child.send_signal(signal.SIGTERM)

    def left(self) -> float:
        """Minutes of the piece that are left, infinite without pieces."""
        return float("inf") if self.end is None else (self.end - time.monotonic()) / 60

    def run(self, command: Sequence[object]) -> None:
        """Runs a command to its end, or to that of the piece.

        Raises:
            Stopped: it was asked to stop, and did. SystemExit: it failed; the exit code is its own.
        """
        if self.asked:
            raise Stopped
        self.child = subprocess.Popen([sys.executable, *map(str, command)])
        try:
            code = self.child.wait(None if self.end is None else max(0.0, 60 * (self.left() - SAVING)))
        except subprocess.TimeoutExpired:
            self.child.send_signal(signal.SIGTERM)
            code = self.child.wait()
            if code:
                raise Stopped from None
        finally:
            self.child = None
        if code and self.asked:
            raise Stopped
        if code:
            raise SystemExit(code)


class Recipe:
    """The parts in their order, in one folder of runs."""

    def __init__(
        self,
        data: Path,
        runs: Path,
        budget: str,
        device: str,
        workers: int,
        out: Path,
        precision: str = "float32",
        masks: Path | None = None,
        street: Path | None = None,
    ) -> None:
        self.data, self.runs, self.out = data, runs, out
        self.street = [street] if street else []
        self.closeups = runs / "closeups/labels.json"
        self.name, self.budget = budget, BUDGETS[budget]
        self.how = ["--device", device]
        self.workers = ["--workers", workers]
        self.precision = precision
        self.masks = ["--masks", masks] if masks else []
        self.state = runs / "recipe.json"
        self.done: list[str] = []
        if self.state.exists():
            stored = json.loads(self.state.read_text(encoding="utf-8"))
            if stored["budget"] != budget:
                held = stored["budget"]
                raise SystemExit(
                    f"{runs} holds a run with --budget {held}; go on with that or choose another RUNS folder"
                )
            self.done = stored["done"]

    def finish(self, part: str) -> None:
        """Notes that a part is done."""
        self.done.append(part)
        with replace_when_done(self.state) as file:
            file.write_text(json.dumps({"budget": self.name, "done": self.done}) + "\n", encoding="utf-8")

    def labels(self, clock: Clock) -> None:
        """LSPET split, face joints added; close-ups. Every time: seconds, and the pictures may lie elsewhere now."""
        clock.run([HERE / "prepare_default_data.py", "--data", self.data, "--out", self.runs / "data", *self.masks])
        street = ["--street", *self.street] if self.street else []
        clock.run([HERE / "make_closeups.py", "--data", self.data, "--out", self.closeups.parent, *street])

    def label_files(self) -> list[Path]:
        """What the pose network learns from."""
        return [
            self.runs / "data/lspet_train.json",
            self.data / "coco_mini/annotations/person_keypoints_train2017.json",
            self.data / "people_keypoints_extra/coco_tiny/annotations.json",
            self.data / "people_boxes/coco_keypoints.json",
            self.data / "people_keypoints_extra/coco_more/annotations.json",
            *self.scene_files(),
            self.closeups,
            *self.street,
        ]

    def scene_files(self) -> list[Path]:
        """Labels of the generated people."""
        return [self.runs / "scenes" / f"{name}.json" for name in SCENES]

    def scenes(self, clock: Clock) -> None:
        """Generated people, before backgrounds of DATA but for the first kind."""
        for name, file in zip(SCENES, self.scene_files(), strict=True):
            if file.is_file():
                continue
            videos = file.with_suffix("")
            how: list[object] = [*SCENES[name], *SCENES_ALIKE, "--count", self.budget.scenes, "--overwrite", "--quiet"]
            if name != "crossing":
                how += ["--backgrounds", self.data / "backgrounds/images"]
            clock.run(["-m", "posecli", "scenes", videos, *how])
            frames = file.with_name(f"{name}_frames")
            clock.run(["-m", "posecli", "convert", videos, "--out", file, "--frames", frames, "--overwrite", "--quiet"])

    def pose(self, clock: Clock) -> None:
        """The pose network, on crops of single people."""
        run, validation = self.runs / "pose", self.runs / "data/lspet_val.json"
        command: list[object] = ["-m", "posecli", "train", "--out", run, *self.how, *self.workers]
        if (run / "state.pt").exists():
            self._move(run / "config.toml", validation)
            clock.run([*command, "--resume"])
            return
        for path in self.label_files():
            command += ["--data", path]
        made = [*(SCENES_WEIGHT for _ in SCENES), CLOSEUPS_WEIGHT, *(STREET_WEIGHT for _ in self.street)]
        weights = [*DATA_WEIGHTS, *made]
        command += ["--val", validation, "--data-weights", ",".join(map(str, weights))]
        command += ["--config", HERE / "default_pose.toml"]
        length = (f"epochs={self.budget.epochs}", f"epoch_samples={self.budget.samples}")
        elsewhere = (*ELSEWHERE, f"backdrops={self.runs / 'data/backdrops.txt'}") if self.masks else ()
        for setting in (*length, f"precision={self.precision}", *elsewhere, *self.budget.small):
            command += ["--set", setting]
        clock.run([*command, "--overwrite"])

    def _move(self, config: Path, validation: Path) -> None:
        """Tells a run where its pictures are now."""
        settings = resolve(read_toml(config))
        data = tuple(str(path.absolute()) for path in self.label_files())
        grounds = str((self.runs / "data/backdrops.txt").absolute()) if settings.backdrops else ""
        moved = replace(settings, data=data, val=str(validation.absolute()), backdrops=grounds)
        if moved != settings:
            with replace_when_done(config) as file:
                file.write_text(to_toml(moved), encoding="utf-8")

    def finder(self, clock: Clock) -> None:
        """People in whole pictures, on the trunk of the pose network."""
        out = self.runs / "finder"
        command: list[object] = [HERE / "train_finder.py", "--data", self.data, "--out", out, *self.how, *self.workers]
        command += ["--init", self.runs / "pose/last.safetensors", "--blocks", *FINDER_BLOCKS]
        command += ["--steps", self.budget.steps, "--precision", self.precision, *self.masks]
        command += ["--scenes", *self.scene_files(), "--closeups", self.closeups]
        clock.run([*command, *(["--resume"] if (out / "state.pt").exists() else [])])

    def quality(self, clock: Clock) -> None:
        """What the pose network thinks of its own poses, in the finder's boxes."""
        command: list[object] = [HERE / "train_quality.py", "--data", self.data, "--out", self.runs / "quality"]
        command += ["--pose", self.runs / "pose/last.safetensors", "--finder", self.runs / "finder/finder.safetensors"]
        command += ["--canvases", self.budget.judged, "--precision", self.precision, *self.masks, *self.how]
        clock.run([*command, "--scenes", *self.scene_files(), "--closeups", self.closeups])

    def file(self, clock: Clock) -> None:
        """Both in one file, what a person's score is worth and the threshold."""
        budget = self.budget
        clock.run([
            HERE / "assemble_default.py", "--pose", self.runs / "quality/pose.safetensors", "--finder",
            self.runs / "finder/finder.safetensors", "--floor", budget.floor, "--pictures", budget.pictures,
            "--most-false", budget.most_false, "--data", self.data, "--out", self.out, *self.how,
        ])  # fmt: skip

    def progress(self, part: str) -> float:
        """How much of a part is done, 0 to 1, from its log."""
        log = self.runs / part / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        shares = [json.loads(line).get("progress") for line in lines]
        return max((share for share in shares if share is not None), default=0.0)

    def left(self) -> str:
        """What is left to do, in words."""
        parts = [p for p in PARTS if p not in self.done]
        said = [f"{p} {self.progress(p):.0%} done" if self.progress(p) else p for p in parts]
        return ", ".join(said)


PARTS = ("scenes", "pose", "finder", "quality", "file")
SAID = {
    "labels": "labels: LSPET split, face joints added; close-ups",
    "scenes": "scenes: generated people",
    "pose": "pose network: crops of single people",
    "finder": "finder: people in whole pictures, on the trunk of the pose network",
    "quality": "quality: what the pose network thinks of its own poses",
    "file": "one file",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the sets, or a packed copy of them")
    parser.add_argument("--runs", type=Path, required=True, help="where trainings and their states lie")
    parser.add_argument("--budget", choices=sorted(BUDGETS), required=True, help="how much is learnt")
    parser.add_argument("--piece", type=float, metavar="MINUTES", help="stop after so many minutes; exit code 0")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of maps; bfloat16 is quicker on a CPU with AMX",
    )
    parser.add_argument(
        "--masks", type=Path, help="of athlete_masks.py, from the same DATA: athletes are put before other pictures"
    )
    parser.add_argument("--street", type=Path, help="of street_joints.py, from the same DATA: people of a teacher")
    parser.add_argument("--workers", type=int, help="processes that prepare pictures [1; with CUDA: all cores but two]")
    parser.add_argument("--out", type=Path, help="the file [RUNS/default.safetensors]")
    args = parser.parse_args()
    if args.piece is not None and args.piece < LEAST:
        parser.error(f"--piece {args.piece:g}: a piece has {LEAST:g} minutes at least, for starting and saving")
    if args.workers is None:
        cuda = args.device.startswith("cuda") or (args.device == "auto" and torch.cuda.is_available())
        args.workers = max(1, (os.cpu_count() or 1) - 2) if cuda else 1
    args.runs.mkdir(parents=True, exist_ok=True)
    clock = Clock(args.piece)
    out = args.out or args.runs / "default.safetensors"
    how = (args.budget, args.device, args.workers, out, args.precision, args.masks, args.street)
    recipe = Recipe(args.data, args.runs, *how)
    begun = time.monotonic()
    try:
        if "file" not in recipe.done:
            recipe.labels(clock)
        for part in PARTS:
            if part in recipe.done:
                continue
            if clock.left() < LEAST and time.monotonic() - begun > 60 * LEAST:
                raise Stopped
            print(f"== {SAID[part]}", flush=True)
            getattr(recipe, part)(clock)
            recipe.finish(part)
    except Stopped:
        minutes = (time.monotonic() - begun) / 60
        print(f"stopped after {minutes:.1f} minutes; left: {recipe.left()}; go on with the same command", flush=True)
        raise SystemExit(STOPPED if clock.asked else 0) from None
    print(f"finished: {out}", flush=True)


if __name__ == "__main__":
    main()
