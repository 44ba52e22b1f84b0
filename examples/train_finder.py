"""Trains the finder of the default model: the small network that finds people and their boxes in whole pictures.

    python examples/train_finder.py --data DATA --init runs/pose/best.safetensors --out runs/finder --steps 3000

DATA is a folder with the sets named in `training_pools`. The trunk starts from the pose network of
`examples/train_default.sh`; its stem, first stage and normalisation statistics stay as they are, since a batch of 16
canvases says little about them. Or it goes on from a finder (`--on`), whose trunk may be deepened (`--blocks`). The
learning rate falls with the steps made, or with the time used (`--minutes`), so that any budget ends at zero. Every
five minutes the averaged weights are measured on pictures kept out of training and saved (`finder.safetensors`)
together with all that `--resume` needs (`state.pt`). SIGINT and SIGTERM end the run after the step in hand, saved
without being measured; the exit code is then 130, as that of `posecli train`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from posecli.augment_pictures import Canvas, Picture, PictureMixer, Pool, pictures_of
from posecli.checkpoint import IMAGENET_MEAN, IMAGENET_STD, ModelMeta, build, check_fit, read_parts, save_model
from posecli.codecs.boxes import decode_people, encode_people, people_losses
from posecli.data import left_to_parent
from posecli.formats import coco
from posecli.geometry import apply_affine, box_iou, fit_picture, warp
from posecli.learner import follow_average, keep_freed_memory
from posecli.running import pick_device
from posecli.skeletons import SKELETONS
from posecli.surgery import with_last_pose

SKELETON = SKELETONS["body19"]
BASKETBALL = {
    "RHip": "right_hip", "RKnee": "right_knee", "RAnkle": "right_ankle", "LHip": "left_hip", "LKnee": "left_knee",
    "LAnkle": "left_ankle", "Neck": "neck", "RShoulder": "right_shoulder", "RElbow": "right_elbow",
    "LShoulder": "left_shoulder", "LElbow": "left_elbow",
}  # fmt: skip
OFFSET_BRANCH = ("transition_offset.", "offset_blocks.", "offset_final.")
TRUNK_FROZEN = ("backbone.backbone.stem", "backbone.backbone.stages.0")


# Of the parts of the loss.
WEIGHTS = {"centre": 1.0, "joints": 0.3, "box": 3.0, "offset": 0.7}


def share(name: str, parts: int) -> int:
    """A picture's place among ``parts`` equal shares, by its name: the same for ever."""
    return zlib.crc32(Path(name).name.encode()) % parts


def training_pools(
    data: Path, masks: Path | None = None, generated: Sequence[Path] = (), near: Sequence[Path] = ()
) -> tuple[list[Pool], list[Picture], list[Picture], list[Picture]]:
    """Pools for training, backgrounds for training, people kept for tuning, backgrounds kept for tuning.

    With the file of `examples/athlete_masks.py` athletes are cut out along their masks, those without one not at all.
    `generated` are labels of generated people, with all people of a picture in them (`posecli convert`), `near` those
    of `examples/make_closeups.py`.

    Never read: `coco_mini` val, the LSPET validation tenth and its look-alikes, the backgrounds kept for counting
    false people.
    """

    def read(path: str, **how) -> list[Picture]:
        return pictures_of(coco.read(data / path), SKELETON, **how)

    mini = pictures_of(
        coco.read(
            data / "coco_mini/annotations/person_keypoints_train2017.json", image_root=data / "coco_mini/train2017"
        ),
        SKELETON,
    )
    scenes = mini + read("people_keypoints_extra/coco_tiny/annotations.json")
    tuning = [p for p in scenes if share(p.path.name, 5) == 0]
    scenes = [p for p in scenes if share(p.path.name, 5) != 0]

    # The joints of people_boxes stand in one file, the masks of the same people in another.
    boxed = coco.read(data / "people_boxes/annotations.json", skeleton=SKELETON)
    jointed = coco.read(data / "people_boxes/coco_keypoints.json")
    outlines = {p.path.name: p.masks for p in pictures_of(boxed, SKELETON)}
    everyday = [replace(p, masks=outlines[p.path.name]) for p in pictures_of(jointed, SKELETON)]
    names = {p.path.name for p in everyday}
    street = [p for p in pictures_of(boxed, SKELETON) if p.path.name not in names]

    lspet = read("lspet/annotations.json", complete=False, joint_boxes=True)
    lspet = [replace(p, path=data / "lspet/images" / p.path.name) for p in lspet]
    pairs = json.loads((data / "lspet/near_duplicates.json").read_text())["pairs"]
    name = "im{:05d}.jpg".format
    alike = {name(b) for a, b, *_ in pairs + [[b, a] for a, b, *_ in pairs] if share(name(a), 10) == 0}
    lspet = [p for p in lspet if share(p.path.name, 10) != 0 and p.path.name not in alike]
    tuning += [p for p in lspet if share(p.path.name, 60) == 7]
    lspet = [p for p in lspet if share(p.path.name, 60) != 7]

    cut_outs = [Pool(lspet, 0.0, paste_weight=0.3)]
    if masks:
        outline_of = json.loads(masks.read_text(encoding="utf-8"))
        masked = [replace(p, masks=(outline_of[p.path.name],)) for p in lspet if p.path.name in outline_of]
        cut_outs = [Pool(masked, 0.0, paste_weight=1.0)]

    hall = read("people_keypoints_extra/basketball/annotations.json", complete=False, rename=BASKETBALL)
    empty = [p for p in mini if not len(p.boxes_xyxy) and not len(p.unknown) and share(p.path.name, 5) != 0]
    nobody = np.zeros((0, SKELETON.num_keypoints))
    backgrounds = [
        Picture(path, np.zeros((0, 4)), nobody[..., None].repeat(2, 2), nobody.astype(np.int64))
        for path in sorted((data / "backgrounds/images").iterdir())
        if share(path.name, 10) != 0
    ]
    quiet = [p for p in backgrounds if share(p.path.name, 20) == 11]
    backgrounds = [p for p in backgrounds if share(p.path.name, 20) != 11] + empty

    with_people = [p for p in scenes + everyday if len(p.boxes_xyxy) or len(p.unknown)]
    pools = [
        Pool(with_people, 0.36, (0.6, 2.5), paste_weight=0.4),
        Pool(read("people_keypoints_extra/coco_more/annotations.json"), 0.20, (0.6, 2.2)),
        Pool(street, 0.10, (0.3, 1.1), paste_weight=0.3),
        Pool(lspet, 0.32, (0.5, 1.25), turn=35.0),
        Pool(hall, 0.02, (0.4, 1.2)),
        *cut_outs,
    ]
    if generated:
        made = [p for path in generated for p in pictures_of(coco.read(path), SKELETON)]
        pools.append(Pool(made, 0.08, (0.5, 2.0)))
    if near:
        closeups = [p for path in near for p in pictures_of(coco.read(path), SKELETON)]
        pools.append(Pool(closeups, 0.12, (0.6, 1.3)))
    return pools, backgrounds, tuning, quiet


def targets_of(canvas: Canvas, stride: int) -> dict[str, np.ndarray]:
    """What one sample gives to a batch."""
    known = canvas.known[::stride, ::stride]
    t = encode_people(canvas.boxes, canvas.xy, canvas.visibility, known, stride)
    return {
        "image": canvas.image, "heat": t.heat, "heat_weight": t.heat_weight, "box": t.box, "offset": t.offset,
        "offset_weight": t.offset_weight, "near": t.near, "people": np.float32(t.people),
    }  # fmt: skip


class Samples(torch.utils.data.Dataset):
    """Batch number ``i`` of a run: seeded by the number, so that a resumed run goes on with the same canvases."""

    def __init__(self, mixer: PictureMixer, first: int, batch: int, sizes: list[int], stride: int, seed: int = 1):
        self.mixer, self.first, self.batch, self.sizes, self.stride = mixer, first, batch, sizes, stride
        self.seed = seed

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        cv2.setNumThreads(0)  # workers are the parallelism
        rng = np.random.default_rng([self.seed, self.first + i])
        size = self.sizes[rng.integers(len(self.sizes))]
        # Larger canvases in smaller batches: the same memory and time.
        count = max(4, round(self.batch * (self.sizes[0] / size) ** 2))
        samples = [targets_of(self.mixer.sample(rng, size, size), self.stride) for _ in range(count)]
        return {key: np.stack([s[key] for s in samples]) for key in samples[0]}


def batches(samples: Samples, workers: int) -> Iterator[dict[str, Tensor]]:
    """Batches in order, prepared by worker processes."""
    order = range(len(samples))
    loader = torch.utils.data.DataLoader(
        samples,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=left_to_parent,
    )
    yield from loader


def rate(used: float, step: int, warm: int = 100) -> float:
    """Learning rate factor: linear warm-up over steps, cosine over the share of the budget that is used."""
    return min(1.0, (step + 1) / warm) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(used, 1.0))))


class StopSignal:
    """Whether SIGINT or SIGTERM came."""

    def __init__(self) -> None:
        self.came = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.came = True


def saved_state(path: Path, device: torch.device) -> dict[str, Any]:
    """What `--resume` goes on from."""
    if not path.is_file():
        raise SystemExit(f"{path}: no saved state to go on from; leave out --resume to begin")
    return torch.load(path, map_location=device, weights_only=True)


def go_on_from(network: nn.Module, state: dict[str, Tensor], file: Path) -> set[str]:
    """Loads a finder, or a trunk, into one that may have more blocks: those change nothing at first (`HalfBottleneck`).

    Returns the tensors that start afresh.
    """
    own = network.state_dict()
    branch, found = ({n: v.shape for n, v in s.items() if n.startswith(OFFSET_BRANCH)} for s in (own, state))
    if found and found != branch:
        state = {n: v for n, v in state.items() if not n.startswith(OFFSET_BRANCH)}
        print(f"the branch of offsets in {file} is of another size: it starts afresh", flush=True)
    else:
        branch = {}
    check_fit({n: v for n, v in own.items() if n in state}, state, str(file))
    fresh = {n for n in own if n not in state}
    blocks = {n.rpartition(".residual.")[0] for n in fresh.difference(branch)}
    if "" in blocks:
        raise SystemExit(f"{file}: not a network of this kind")
    network.load_state_dict({**own, **state})
    print(f"{len(state)} tensors from {file}; {len(blocks)} blocks start afresh", flush=True)
    return fresh


@torch.inference_mode()
def measure(network: nn.Module, people: list[Picture], quiet: list[Picture], meta: ModelMeta) -> dict[str, float]:
    """Recall of people (IoU 0.5, not shorter than 32 pixels of input) and false people a picture at the best F1."""
    side = meta.input_size[0]
    device = next(network.parameters()).device
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) * 255 for v in (meta.mean, meta.std))
    scored, wanted, overlaps, single = [], 0, [], []
    for picture in people + quiet:
        image = picture.read()
        crop = fit_picture(image.shape[1], image.shape[0], side)
        pixels = torch.from_numpy(warp(image, crop)).permute(2, 0, 1)[None].to(device).float()
        output = network(((pixels - mean) / std).contiguous(memory_format=torch.channels_last))
        stride = pixels.shape[3] // output.heatmap.shape[3]
        found = decode_people(output.heatmap, output.offset, output.box, stride)[0]
        truth = apply_affine(crop.matrix, picture.boxes_xyxy.reshape(-1, 2, 2)).reshape(-1, 4)
        large = (truth[:, 2:] - truth[:, :2]).max(1, initial=0) >= 32
        wanted += int(large.sum())
        iou = box_iou(found.boxes_xyxy, truth)
        taken: set[int] = set()
        crowds = apply_affine(crop.matrix, picture.unknown.reshape(-1, 2, 2)).reshape(-1, 4)
        for n, score in enumerate(found.scores):
            free = [g for g in np.argsort(-iou[n]) if g not in taken and iou[n, g] >= 0.5]
            if free:
                taken.add(free[0])
                if large[free[0]]:
                    scored.append((float(score), True))
                    overlaps.append(float(iou[n, free[0]]))
                if picture.joint_boxes:
                    single.append(n == 0)
            elif picture.complete and not (box_iou(found.boxes_xyxy[n], crowds) > 0.1).any():
                scored.append((float(score), False))
        if picture.joint_boxes and not taken:
            single.append(False)
    if not scored:
        return {"ap50": 0.0, "f1": 0.0, "at": 1.0, "recall": 0.0, "iou": 0.0, "single_first": 0.0}
    scored.sort(reverse=True)
    hits = np.cumsum([hit for _, hit in scored])
    shown = np.arange(1, len(scored) + 1)
    f1 = 2 * hits / (shown + wanted)
    best = int(np.argmax(f1))
    precision = hits / shown
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    ap = float(np.sum(np.diff(np.concatenate([[0], hits / wanted])) * envelope))
    return {
        "ap50": ap, "f1": float(f1[best]), "at": scored[best][0], "recall": float(hits[-1] / wanted),
        "iou": float(np.mean(overlaps or [0])), "single_first": float(np.mean(single or [0])),
    }  # fmt: skip


def weight_of(text: str) -> tuple[str, float]:
    """A part of the loss and its weight, of ``PART=WEIGHT``."""
    part, _, weight = text.partition("=")
    if part not in WEIGHTS:
        raise argparse.ArgumentTypeError(f"{text!r}: the parts are {', '.join(WEIGHTS)}")
    return part, float(weight)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="pose network whose trunk to start from")
    parser.add_argument("--on", type=Path, help="file whose finder to go on from, instead")
    parser.add_argument(
        "--blocks",
        type=int,
        nargs=4,
        help="of the trunk's stages; those that --on or --init lacks begin as identities",
    )
    parser.add_argument(
        "--joint-channels", type=int, help="width of each joint's branch; another than --on's starts the branch afresh"
    )
    parser.add_argument("--offset-blocks", type=int, help="adaptive blocks in each joint's branch; likewise")
    parser.add_argument(
        "--weights",
        nargs="+",
        type=weight_of,
        default=[],
        metavar="PART=WEIGHT",
        help=f"of the parts of the loss, where another than {WEIGHTS} is wanted",
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the network's maps")
    parser.add_argument(
        "--trunk-rate", type=float, default=0.4, help="the trunk's share of --rate, with --init or --on"
    )
    parser.add_argument(
        "--masks", type=Path, help="of athlete_masks.py: athletes cut out by them, and more people pasted"
    )
    parser.add_argument("--scenes", type=Path, nargs="*", default=[], help="labels of generated people, too")
    parser.add_argument("--closeups", type=Path, nargs="*", default=[], help="labels of make_closeups.py, too")
    parser.add_argument("--out", type=Path, required=True)
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, default=50.0)
    budget.add_argument("--steps", type=int, help="instead of minutes: the same run on any machine")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--sizes", type=int, nargs="+", default=[160, 128, 192], help="canvas sides, drawn per batch")
    parser.add_argument("--largest", type=float, default=140.0, help="longest people to learn, canvas pixels")
    parser.add_argument("--input", type=int, default=256, help="longer side of a picture when the finder is used")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument(
        "--workers", type=int, default=1, help="processes that make canvases; the canvases stay the same"
    )
    parser.add_argument("--seed", type=int, default=1, help="another for each run that goes on from one before (--on)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--save-every", type=float, default=5.0, help="minutes")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    stop = StopSignal()
    device = pick_device(args.device)
    torch.manual_seed(args.seed)
    keep_freed_memory()
    pools, backgrounds, tuning, quiet = training_pools(args.data, args.masks, args.scenes, args.closeups)
    meta = ModelMeta(
        architecture="dekr-finder",
        arguments={"keypoints": SKELETON.num_keypoints},
        skeleton=SKELETON,
        input_size=(args.input, args.input),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        codec="people",
    )
    if args.init:
        state, pose = read_parts(args.init)["main"]
        own = ("widths", "blocks", "stem_channels", "channels")
        meta = replace(
            meta,
            mean=pose.mean,
            std=pose.std,
            arguments=meta.arguments | {k: v for k, v in pose.arguments.items() if k in own},
        )
    if args.on:
        parts = read_parts(args.on)
        state, found = parts.get("finder", parts["main"])
        meta = replace(meta, mean=found.mean, std=found.std, arguments=found.arguments)
    own = {name: getattr(args, name) for name in ("blocks", "joint_channels", "offset_blocks")}
    meta = replace(meta, arguments={**meta.arguments, **{name: v for name, v in own.items() if v}})
    network = build(meta)
    fresh: set[str] = set()
    if args.on:
        fresh = go_on_from(network, state, args.on)
    elif args.init:
        trunk = {n.removeprefix("trunk."): v for n, v in state.items() if n.startswith("trunk.")}
        # The finder's pyramid ends a level earlier.
        own = network.backbone.state_dict()
        trunk = {n: with_last_pose(v, own[n]) for n, v in trunk.items() if n in own}  # a finder sees colours only
        fresh = {f"backbone.{n}" for n in go_on_from(network.backbone, trunk, args.init)}
    network = network.to(device).to(memory_format=torch.channels_last)
    average = {k: v.clone() for k, v in network.state_dict().items()}

    begun = args.init or args.on
    frozen, trunk_parts, head_parts = [], [], []
    for name, parameter in network.named_parameters():
        if begun and name.startswith(TRUNK_FROZEN) and name not in fresh:
            parameter.requires_grad_(False)
            frozen.append(name)
        else:
            (trunk_parts if name.startswith("backbone.backbone") else head_parts).append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": trunk_parts, "scale": args.trunk_rate if begun else 1.0}, {"params": head_parts, "scale": 1.0}],
        lr=args.rate,
        weight_decay=0.02,
    )
    step, used = 0, 0.0
    if args.resume:
        saved = saved_state(args.out / "state.pt", device)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step, used = saved["average"], saved["step"], saved["used"]
    stride = network.backbone.stride
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) * 255 for v in (meta.mean, meta.std))
    log = (args.out / "log.jsonl").open("a")

    def progress() -> float:
        return step / args.steps if args.steps else used / args.minutes

    def measure_and_save() -> None:
        kept = build(meta)
        kept.load_state_dict(average)
        scores = measure(kept.to(device).eval(), tuning, quiet, meta)
        said = {"step": step, "minutes": round(used, 1), "progress": round(progress(), 4), **scores}
        print(json.dumps(said), flush=True)
        log.write(json.dumps({**said, "minutes": used}) + "\n")
        log.flush()
        save_model(args.out / "finder.safetensors", average, meta.with_extra(measured=scores))
        save_state()

    def save_state() -> None:
        part = args.out / "state.pt.part"
        everything = {
            "network": network.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step,
            "used": used,
        }  # fmt: skip
        torch.save(everything, part)
        os.replace(part, args.out / "state.pt")

    more = {"pasted_on_backgrounds": (0.25, 0.25, 0.25, 0.25), "pasted_on_people": (0.6, 0.25, 0.15)}
    mixer = PictureMixer(SKELETON, pools, backgrounds, largest=args.largest, **(more if args.masks else {}))
    weights = {**WEIGHTS, **dict(args.weights)}
    last, saved_at, sums, seen = time.monotonic(), used, {}, 0
    for batch in batches(Samples(mixer, step, args.batch, args.sizes, stride, args.seed), args.workers):
        if progress() >= 1:
            break
        if stop.came:
            save_state()
            print(f"stopped at step {step}; --resume goes on", flush=True)
            raise SystemExit(130)
        batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
        network.train()
        if begun:
            for module in network.backbone.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        factor = rate(progress(), step)
        for group in optimizer.param_groups:
            group["lr"] = args.rate * group["scale"] * factor
        image = (batch["image"].permute(0, 3, 1, 2).float() - mean) / std
        with torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bfloat16"):
            output = network(image.contiguous(memory_format=torch.channels_last))
        output = type(output)(*(None if maps is None else maps.float() for maps in output))
        parts = {k: v * weights[k] for k, v in people_losses(*output, batch).items()}
        loss = sum(parts.values())
        if not torch.isfinite(loss):
            raise SystemExit(f"the loss is no longer finite at step {step}: {parts}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], 10.0)
        optimizer.step()
        step += 1
        follow_average(average, network, min(0.998, (1 + step) / (10 + step)))
        now = time.monotonic()
        used, last = used + (now - last) / 60, now
        seen += len(image)
        for key, value in parts.items():
            sums[key] = sums.get(key, 0.0) + value.item()
        if step % 50 == 0:
            line = {k: round(v / 50, 4) for k, v in sums.items()}
            print(f"step {step} {used:.1f} min {seen} canvases {line}", flush=True)
            log.write(json.dumps({"step": step, "minutes": used, "progress": round(progress(), 4), **line}) + "\n")
            log.flush()
            sums = {}
        if used - saved_at >= args.save_every:
            measure_and_save()
            saved_at, last = used, time.monotonic()
    measure_and_save()


if __name__ == "__main__":
    main()
