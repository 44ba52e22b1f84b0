"""Teaches the pose network of the default model to judge its own poses: is what it sees in a box a person, seen right?

    python examples/train_quality.py --data DATA --pose runs/pose/best.safetensors \
        --finder runs/finder/finder.safetensors --out runs/quality

The finder looks at random canvases of the training pictures, the pose network at what it finds there, at boxes beside
the likeliest people, as `infer` looks at pictures, and at boxes around the labels, somewhat off. The target is the OKS
of each pose to the labels, 0 where nobody is; what is learnt are the parts ``quality`` and ``judge`` of
`posecli.models.fpn.PoseFPN`. All else stays as it is, so the poses do, too.

Boxes much longer than wide are looked at in an input of their shape from here on, by the finished file, too (`NARROW`,
`posecli.readout.size_for`).

What was seen is kept in OUT/maps, a hundred canvases a file (some 40 MB), each seeded by its number: a run that was
stopped goes on with the same command, and with more --canvases where it ended. OUT/pose.safetensors is the pose network
with the new parts, for `assemble_default.py`.
"""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from assemble_default import LOOKS, looking
from numpy.random import Generator
from torch.nn import functional
from train_finder import SKELETON, StopSignal, training_pools

from posecli import looks
from posecli.augment import remembered
from posecli.augment_pictures import Canvas, PictureMixer
from posecli.checkpoint import ModelMeta, build, of_bytes, read_parts, save_model
from posecli.codecs.last_pose import LEAST_SCORE, drawn
from posecli.files import replace_when_done
from posecli.geometry import apply_affine, box_iou, warp
from posecli.inference import PoseModel
from posecli.metrics.oks import oks_matrix
from posecli.models.fpn import PoseFPN
from posecli.models.layers import HeatmapOutput, highest
from posecli.readout import TOP_DOWN, size_for
from posecli.running import pick_device, with_channel
from posecli.types import Crop, Instance

#: Of the network, which are learnt here.
PARTS = ("quality", "judge")
#: Of a file of what was seen. Of the canvases' longer sides: least and most pixels.
CHUNK, SIDES = 100, (200, 420)
#: Boxes of a canvas: of the finder the best, of the labels the first; how far the latter are off, share of their sides.
MOST, MOST_LABELS, OFF = 12, 4, 0.12
#: And beside how many of the finder's best, in how many places.
NEIGHBOURS, PLACES = 2, 2
#: For a network that is shown last poses: how often it looks once more where it has looked, and by which shares of the
#: box that has moved meanwhile.
AGAIN, MOVES = 0.7, (0.03, 0.03, 0.1)
#: A person's area over that of the box, where no mask tells.
AREA = 0.53
#: In what shares of the input's sides boxes are looked at whose shorter side is at most that share of the longer one,
#: from how many pixels on (`benchmarks/input_shapes.py`).
NARROW: tuple[dict[str, Any], ...] = (
    {"size": (0.6, 1.0), "ratio": 0.62, "side": 0},
    {"size": (0.8, 1.2), "ratio": 0.62, "side": 70},
)
#: Below it a pose is nobody's who is known, so it is left out where somebody unknown may be.
NOBODY = 0.3
#: Least share of a box in which all people are known; least labelled joints to judge a pose by.
KNOWN, JOINTS = 0.7, 3
#: Channels of the part that looks at the trunk's map; how often everything seen is learnt from, so many at once; the
#: highest rate, the decay of weights, and the share of what is judged by that is left out: there are few people.
JUDGE, EPOCHS, BATCH = 32, 6, 128
RATE, DECAY, DROPOUT = 2e-3, 0.05, 0.3


@dataclass(frozen=True)
class Seen:
    """What a pose network saw in N boxes.

    Attributes:
        features: (N, C) float32, the maxima of its last features.
        coarse: (N, c, most) float16, its trunk's map at stride 16, row by row, and zeros where that has fewer pixels.
        sizes: (N, 2) int64, height and width of that map.
        oks: (N,) float32, of each pose.
    """

    features: np.ndarray
    coarse: np.ndarray
    sizes: np.ndarray
    oks: np.ndarray

    def __len__(self) -> int:
        return len(self.oks)

    def of(self, chosen: np.ndarray) -> Seen:
        """Some of it, by indices or by a mask."""
        return Seen(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def by_size(self) -> dict[tuple[int, int], np.ndarray]:
        """The indices of the boxes whose maps have one size (h, w), for each size there is."""
        kinds, of = np.unique(self.sizes, axis=0, return_inverse=True)
        return {(int(h), int(w)): np.flatnonzero(of.ravel() == n) for n, (h, w) in enumerate(kinds)}

    @classmethod
    def joined(cls, parts: Sequence[Seen]) -> Seen:
        """All in one; at least one part."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def narrow_for(width: int, height: int) -> list[dict[str, Any]]:
    """`NARROW` for a network's input, in whole steps of 32 pixels."""
    return [
        one
        | {"size": [round(share * side / 32) * 32 for share, side in zip(one["size"], (width, height), strict=True)]}
        for one in NARROW
    ]


def target(pose: np.ndarray, box: np.ndarray, canvas: Canvas) -> float | None:
    """OKS of the pose (K, 2) seen in a box to the best of a canvas's labels; None where nobody can say."""
    told = (canvas.visibility > 0).sum(1) >= JOINTS
    area = AREA * np.maximum((canvas.boxes[:, 2:] - canvas.boxes[:, :2]).prod(1), 1.0)
    values = oks_matrix(canvas.xy[told], canvas.visibility[told], area[told], pose[None], SKELETON.sigmas)
    best = float(values.max(initial=0))
    untold = bool((box_iou(box, canvas.boxes[~told]) > 0.2).any())
    height, width = canvas.known.shape
    x0, y0, x1, y1 = np.clip(box, 0, [width, height, width, height]).astype(int)
    there = canvas.known[y0:y1, x0:x1]
    sure = there.size == 0 or float(there.mean()) >= KNOWN
    return best if best >= NOBODY or (sure and not untold) else None


class Looker:
    """A pose network and a finder, looking at canvases."""

    def __init__(self, pose: Path, finder: Path, device: str, precision: str) -> None:
        state, self.meta = read_parts(pose)["main"]
        arguments = {name: value for name, value in self.meta.arguments.items() if name not in PARTS}
        self.meta = replace(self.meta, arguments=arguments).with_extra(narrow=narrow_for(*self.meta.input_size))
        self.state = {name: value for name, value in state.items() if name.split(".")[0] not in PARTS}
        network = build(self.meta)
        assert isinstance(network, PoseFPN)
        network.load_state_dict(self.state)
        self.device = pick_device(device)
        self.network = network.eval().to(self.device, memory_format=torch.channels_last)
        self.half = precision == "bfloat16"
        finder_state, finder_meta = read_parts(finder)["main"]
        network = build(finder_meta)
        network.load_state_dict(finder_state)
        self.finder = PoseModel(network, looking(finder_meta, LOOKS), device=self.device)
        self._mean, self._std = of_bytes(self.network, self.meta, self.device)
        sizes = np.array([self.meta.input_size, *(one["size"] for one in self.meta.extra["narrow"])])
        self._most = int((sizes // 16).prod(1).max())

    @torch.inference_mode()
    def look(self, image: np.ndarray, boxes: np.ndarray, last: np.ndarray | None = None) -> tuple[Seen, np.ndarray]:
        """What is seen in boxes (N, 4), the OKS left open, and poses (N, K, 3): places in the picture, scores.
        A network with ``last_pose`` is shown the poses ``last`` (N, K, 3), or nothing."""
        inputs = np.array([size_for(box, self.meta) for box in boxes])
        channels = self.network.trunk.backbone.widths[2]
        seen = Seen(
            np.zeros((len(boxes), self.network.head.in_channels), np.float32),
            np.zeros((len(boxes), channels, self._most), np.float16),
            inputs[:, ::-1] // 16,
            np.full(len(boxes), np.nan, np.float32),
        )
        poses = np.zeros((len(boxes), len(SKELETON.keypoints), 3))
        for size in np.unique(inputs, axis=0).tolist():
            rows = np.flatnonzero((inputs == size).all(1))
            meta = replace(self.meta, input_size=tuple(size))
            crops: list[Crop] = [TOP_DOWN[meta.codec].crop(box, meta) for box in boxes[rows]]
            shown: Any = np.stack([warp(image, crop) for crop in crops])
            if self.network.last_pose:
                known = np.zeros((len(rows), *poses.shape[1:])) if last is None else last[rows]
                more = [
                    drawn(apply_affine(crop.matrix, pose[:, :2]), pose[:, 2] >= LEAST_SCORE, crop.size_wh, SKELETON)
                    for crop, pose in zip(crops, known, strict=True)
                ]
                shown = with_channel(shown, np.stack(more))
            pixels = torch.from_numpy(shown).to(self.device)
            values = ((pixels.permute(0, 3, 1, 2).float() - self._mean) / self._std).contiguous(
                memory_format=torch.channels_last
            )
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
                features, coarse = self.network.trunk.levels(values)
                output = HeatmapOutput(self.network.head(features).float())
            xy, scores = (values.cpu().numpy() for values in TOP_DOWN[meta.codec].decode(output, None, meta))
            back = np.stack([crop.inverse for crop in crops])
            poses[rows, :, :2] = xy @ back[:, :, :2].transpose(0, 2, 1) + back[:, None, :, 2]
            poses[rows, :, 2] = scores
            seen.features[rows] = highest(features.float()).cpu().numpy()
            seen.coarse[rows, :, : coarse[0, 0].numel()] = coarse.half().flatten(2).cpu().numpy()
        return seen, poses

    def boxes(self, canvas: Canvas, rng: Generator) -> np.ndarray:
        """(N, 4): the finder's, the best first, some beside its best, and those of the labels, somewhat off."""
        found = self.finder.predict([canvas.image])[0][:MOST]
        boxes = [np.asarray(person.box_xyxy, float) for person in found]
        height, width = canvas.image.shape[:2]
        for person in found[:NEIGHBOURS]:
            places = looks.beside(person, width, height)
            chosen = rng.permutation(len(places))[:PLACES]
            boxes += [np.asarray(places[n].box_xyxy, float) for n in chosen]
        for box in canvas.boxes[:MOST_LABELS]:
            off = rng.normal(0, OFF, (2, 2)) * (box[2:] - box[:2])
            moved = box + off.reshape(4)
            if (moved[2:] - moved[:2]).min() > 8:
                boxes.append(moved)
        return np.array(boxes).reshape(-1, 4)

    def seen(self, canvas: Canvas, rng: Generator) -> Seen:
        """What there is to learn from one canvas."""
        boxes = self.boxes(canvas, rng)
        if not len(boxes):
            boxes = np.array([[0.0, 0.0, 1.0, 1.0]])  # what is seen there is left out again
            return self.look(canvas.image, boxes)[0].of(np.zeros(0, int))
        seen, poses = self.look(canvas.image, boxes)
        if self.network.last_pose:
            there, last = followed(boxes, poses, canvas, rng)
            if len(there):
                more, now = self.look(canvas.image, there, last)
                seen, boxes, poses = (
                    Seen.joined([seen, more]),
                    np.concatenate([boxes, there]),
                    np.concatenate([poses, now]),
                )
        targets = [target(pose[:, :2], box, canvas) for pose, box in zip(poses, boxes, strict=True)]
        told = np.array([value is not None for value in targets])
        oks = np.array([np.nan if value is None else value for value in targets], np.float32)
        return replace(seen, oks=oks).of(told)


def followed(boxes: np.ndarray, poses: np.ndarray, canvas: Canvas, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) and last poses (N, K, 3) as a video has them a frame later: around most of what was seen in the
    first boxes, right or wrong, moved on a little; and around labels."""
    there, last = [], []
    for box, pose in zip(boxes, poses, strict=True):
        if rng.random() >= AGAIN:
            continue
        side = float((box[2:] - box[:2]).max())
        xy, score = pose[:, :2].astype(np.float32), pose[:, 2].astype(np.float32)
        person = Instance(xy, np.full(len(pose), 2), score, 1.0, box)
        by = rng.normal(0, rng.choice(MOVES), 2) * side
        there.append(np.asarray(looks.moved_box(person, person).box_xyxy, float) + np.tile(by, 2))
        last.append(np.column_stack([xy + by, score]))
    for box, xy, visibility in zip(canvas.boxes[:MOST_LABELS], canvas.xy, canvas.visibility, strict=False):
        was, known = remembered(xy, visibility > 0, (xy, visibility > 0), np.array(SKELETON.flip_index), rng)
        if known.any():
            there.append(box + (rng.normal(0, OFF / 2, (2, 2)) * (box[2:] - box[:2])).reshape(4))
            last.append(np.column_stack([was, known]))
    large = [n for n, box in enumerate(there) if (box[2:] - box[:2]).min() > 8]
    if not large:
        return np.zeros((0, 4)), np.zeros((0, *poses.shape[1:]))
    return np.stack([there[n] for n in large]), np.stack([last[n] for n in large])


def canvas_of(mixer: PictureMixer, number: int) -> tuple[Canvas, Generator]:
    """Canvas number so and so of any run, and where its random numbers go on."""
    rng = np.random.default_rng([3, number])
    longer = int(rng.integers(*SIDES))
    shorter = int(longer * rng.uniform(0.6, 1))
    return mixer.sample(rng, *((longer, shorter) if rng.random() < 0.5 else (shorter, longer))), rng


def taught(seen: Seen, meta: ModelMeta, device: torch.device) -> PoseFPN:
    """A pose network of random weights but for the parts that judge, which have learnt: a logistic regression of OKS.

    Half of what is seen is mirrored. What goes in is normalised, which the weights then make up for.
    """
    torch.manual_seed(0)
    network = build(meta).to(device)
    assert isinstance(network, PoseFPN) and network.judge is not None and network.quality is not None
    judge, line = network.judge.train(), network.quality
    features, coarse, oks = (torch.from_numpy(v).to(device) for v in (seen.features, seen.coarse, seen.oks))
    of_size = list(seen.by_size().items())
    shares = np.array([len(rows) for _, rows in of_size]) / len(seen)
    some = np.arange(0, len(seen), max(len(seen) // 1000, 1))
    pixels = torch.cat(
        [
            coarse[i, :, :count].float()
            for i, count in zip(some.tolist(), seen.sizes[some].prod(1).tolist(), strict=True)
        ],
        1,
    )
    middle, spread = features.mean(0), features.std(0, correction=0) + 1e-3
    coarse_middle, coarse_spread = pixels.mean(1), pixels.std(1, correction=0) + 1e-3
    optimizer = torch.optim.AdamW([*judge.parameters(), *line.parameters()], RATE, weight_decay=DECAY)
    steps = EPOCHS * max(len(seen) // BATCH, 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        # Maps of one size are learnt from together.
        size, rows = of_size[int(rng.choice(len(of_size), p=shares))]
        batch = torch.from_numpy(rows[rng.integers(len(rows), size=BATCH)]).to(device)
        maps = (maps_of(coarse[batch], size) - coarse_middle.view(-1, 1, 1)) / coarse_spread.view(-1, 1, 1)
        if rng.random() < 0.5:
            maps = maps.flip(3)
        by = torch.cat([(features[batch] - middle) / spread, highest(judge(maps))], 1)
        value = line(functional.dropout(by, DROPOUT))[:, 0]
        loss = functional.binary_cross_entropy_with_logits(value, oks[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        kernel, norm = judge[0][0].weight, judge[0][1]
        kernel /= coarse_spread.view(-1, 1, 1)
        norm.running_mean += kernel[:, :, 0, 0] @ coarse_middle
        own = line.weight[:, : len(middle)]
        own /= spread
        line.bias -= own @ middle
    return network.eval()


def maps_of(coarse: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Maps (B, c, h, w) of one size, float32, as kept in `Seen` (B, c, most)."""
    height, width = size
    return coarse[:, :, : height * width].float().unflatten(2, size)


@torch.inference_mode()
def judged(network: PoseFPN, seen: Seen, device: torch.device) -> np.ndarray:
    """Probabilities (N,) that the poses seen are right."""
    values = np.zeros(len(seen), np.float32)
    for size, rows in seen.by_size().items():
        for start in range(0, len(rows), BATCH):
            part = seen.of(rows[start : start + BATCH])
            features, coarse = torch.from_numpy(part.features).to(device), torch.from_numpy(part.coarse).to(device)
            chance = torch.sigmoid(network.judged(features, maps_of(coarse, size)))
            values[rows[start : start + BATCH]] = chance.cpu().numpy()
    return values


def measured(chance: np.ndarray, oks: np.ndarray) -> dict[str, float]:
    """How well the right poses (OKS of 0.5) are told from those that are nobody's (0.1): the area under the ROC curve,
    and how much the probabilities (N,) are off on average."""
    right, wrong = np.sort(chance[oks >= 0.5]), chance[oks < 0.1]
    below = np.searchsorted(right, wrong) / max(len(right), 1)
    return {
        "right": len(right), "wrong": len(wrong), "auc": round(1 - float(below.mean()), 4) if len(wrong) else 0.0,
        "bias": round(float((chance - oks).mean()), 4),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pose", type=Path, required=True)
    parser.add_argument("--finder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--canvases", type=int, default=4000)
    parser.add_argument("--masks", type=Path, help="of athlete_masks.py, as for train_finder.py")
    parser.add_argument("--scenes", type=Path, nargs="*", default=[], help="labels of generated people, too")
    parser.add_argument("--closeups", type=Path, nargs="*", default=[], help="labels of make_closeups.py, too")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the network's maps")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    args = parser.parse_args()

    cv2.setNumThreads(0)
    folder = args.out / "maps"
    folder.mkdir(parents=True, exist_ok=True)
    stop = StopSignal()
    pools, backgrounds, _, _ = training_pools(args.data, args.masks, args.scenes, args.closeups)
    # Unlike the finder's: every third canvas shows a place, with somebody pasted in or without.
    mixer = PictureMixer(SKELETON, pools, backgrounds, mosaic=0.12, background=0.33)
    looker = Looker(args.pose, args.finder, args.device, args.precision)
    chunks: list[Seen] = []
    for first in range(0, args.canvases, CHUNK):
        end = min(first + CHUNK, args.canvases)
        file = folder / f"{first:06d}_{end:06d}.npz"
        if not file.is_file():
            parts = []
            for number in range(first, end):
                if stop.came:
                    print(f"stopped at canvas {number}; the same command goes on", flush=True)
                    raise SystemExit(128 + signal.SIGINT)
                parts.append(looker.seen(*canvas_of(mixer, number)))
            with replace_when_done(file) as part, part.open("wb") as out:
                np.savez(out, **vars(Seen.joined(parts)))
            with (args.out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps({"canvases": end, "progress": round(end / args.canvases, 4)}) + "\n")
            print(f"{end} canvases", flush=True)
        with np.load(file, allow_pickle=False) as kept:
            if set(kept) != {f.name for f in fields(Seen)}:
                raise SystemExit(
                    f"{file} is of an earlier version of this script; remove {folder}, or give another --out"
                )
            chunks.append(Seen(**kept))
    seen = Seen.joined(chunks)
    # A tenth of the canvases says how good it is, before all are learnt from.
    kept_out = np.repeat(np.arange(len(chunks)), [len(chunk) for chunk in chunks]) % 10 == 0
    if len(chunks) == 1:
        kept_out[:] = False
    del chunks
    if not len(seen):
        raise SystemExit(f"nothing was seen on {args.canvases} canvases; train the finder longer")
    meta = replace(looker.meta, arguments={**looker.meta.arguments, "quality": True, "judge": JUDGE})
    scores: dict[str, float] = {}
    if kept_out.any() and not kept_out.all():
        unseen = seen.of(kept_out)
        scores = measured(judged(taught(seen.of(~kept_out), meta, looker.device), unseen, looker.device), unseen.oks)
    network = taught(seen, meta, looker.device)
    own = {name: value.cpu() for name, value in network.state_dict().items() if name.split(".")[0] in PARTS}
    save_model(args.out / "pose.safetensors", {**looker.state, **own}, meta)
    print(json.dumps({"boxes": len(seen), "mean_oks": round(float(seen.oks.mean()), 4), **scores}))


if __name__ == "__main__":
    main()
