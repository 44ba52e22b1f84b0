"""Learning and looking on kept features, for `temporal.py`: trunk and heads see each picture once.

The networks compared are DEKRs with the same trunk and heads, those of `temporal_base`. What both heads give for each
frame of each clip, before their last layers, is kept in a file: that is where memories stand. Learning and measuring
then run memories and last layers only, a twentieth of the cost. The per-frame network starts at the base's last layers
and learns these; a network with a memory stands on that one, as it is, and learns its memory alone, from the same
batches: what differs between the two is the memory's.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from posecli.augment_pictures import moved_boxes
from posecli.checkpoint import ModelMeta, build, load_checkpoint, save_model
from posecli.codecs.boxes import encode_people, people_losses
from posecli.codecs.offsets import poses_at
from posecli.files import replace_when_done
from posecli.geometry import apply_affine, warp
from posecli.inference import PoseModel
from posecli.losses import steadiness_loss
from posecli.models.dekr import DekrBoxOutput
from posecli.readout import BOTTOM_UP, PredictOptions
from posecli.skeletons import BODY19
from posecli.types import Instance
from posecli.video import open_source

#: Parts of the last layers' loss: the finder's own, without its boxes, which are not learnt, and steadiness of errors.
WEIGHTS = {"centre": 1.0, "joints": 0.3, "offset": 2.0, "consistency": 0.5}
#: Of a memory's: what is lost in OKS instead of distances. These are largest where a pose is lost anyhow; a memory that
#: learns from them smooths more than is good for poses that are nearly right (docs/temporal.md).
MEMORY_WEIGHTS = {"centre": 1.0, "joints": 0.3, "pose": 1.0, "consistency": 0.1}
#: A puppet's area over that of its box, about; sigmas of the joints.
_FILLED = 0.53
_SIGMAS = torch.tensor(BODY19.sigmas, dtype=torch.float32)
_EMA = 0.99  # of the weights that are kept
_MOST = 3  # people of a clip whose steadiness counts


@dataclass(frozen=True)
class Recipe:
    """How all variants learn: steps of `batch` clips of `frames` frames; rates of last layers and of memories."""

    steps: int = 1000
    batch: int = 4
    frames: int = 8
    head_rate: float = 2e-4
    memory_rate: float = 2e-3
    warmup: int = 50
    clip: float = 5.0
    save_every: float = 60.0


# --- features --------------------------------------------------------------------------------------------------------


def keep_features(
    model: PoseModel, videos: Sequence[Path], folder: Path, say: Callable[[str], None], change: ClipChange | None = None
) -> list[Path]:
    """What the heads of a finder give for each frame of videos of puppets, and its boxes: ``VIEW_NAME.npz`` with
    ``features`` (T, C, h, w), those of the heat maps' head and of the offsets' one after another, and ``box``
    (T, 4, h, w), float16; ``matrix`` (2, 3), pixels of the video to pixels looked at. Files that are there are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    network: Any = model.network
    for video in videos:
        file = folder / f"{video.parent.name}_{video.stem}.npz"
        files.append(file)
        if file.is_file():
            continue
        if len(files) % 32 == 1:
            say(f"features of {folder.name}, {len(files)} of {len(videos)}")
        features, boxes = [], []
        with open_source(video) as source, torch.inference_mode():
            images = np.stack([frame.image for frame in source.frames()])
            matrix = np.eye(2, 3)
            if change is not None:
                images, matrix = change(images, np.random.default_rng(zlib.crc32(file.name.encode())))
            for part in np.array_split(images, max(1, len(images) // 8)):
                crops = [BOTTOM_UP["people"].crop(i.shape[1], i.shape[0], 1.0, (1.0,), model.meta) for i in part]
                pixels = torch.from_numpy(np.stack([warp(i, c) for i, c in zip(part, crops, strict=True)]))
                pixels = (pixels.permute(0, 3, 1, 2).float() - model._mean) / model._std
                seen = network.backbone(pixels.contiguous(memory_format=torch.channels_last))
                heat = network.head_heatmap[0](network.transition_heatmap(seen))
                offset = network.offset_blocks(network.transition_offset(seen))
                features.append(torch.cat([heat, offset], 1).half().numpy())
                boxes.append(network.box(seen).half().numpy())
        with replace_when_done(file) as target, target.open("wb") as stream:
            np.savez(stream, features=np.concatenate(features), box=np.concatenate(boxes), matrix=matrix)
    return files


class ClipChange:
    """Another clip from a clip: nearer or further off, turned, mirrored, in other colours, with things that pass; one
    change for all frames. ``textures``: pictures of the things."""

    def __init__(self, textures: Sequence[Path]) -> None:
        self.textures = textures

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Images (T, H, W, 3) uint8 to such, and the matrix (2, 3) of their pixels; its determinant is negative where
        it mirrors."""
        count, height, width = images.shape[:3]
        zoom, angle = math.exp(rng.uniform(-0.25, 0.15)), math.radians(rng.uniform(-10, 10))
        linear = zoom * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        if rng.random() < 0.5:
            linear[:, 0] *= -1
        middle = np.array([width - 1, height - 1]) / 2
        matrix = np.column_stack([linear, middle + rng.uniform(-0.08, 0.08, 2) * width - linear @ middle])
        colour = np.exp(rng.uniform(-0.2, 0.2) + rng.normal(0, 0.06, 3))
        table = np.clip(np.arange(256)[:, None] * colour, 0, 255).astype(np.uint8)[None]
        changed = np.stack([
            cv2.LUT(cv2.warpAffine(i, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), table) for i in images
        ])  # fmt: skip
        for _ in range(rng.poisson(1.5)):
            thing = self.thing(rng, width, height)
            at = np.array([rng.uniform(0.25, 0.75) * width, rng.uniform(0.2, 0.8) * height])
            when, speed = rng.uniform(0, count), rng.choice([-1, 1]) * width / rng.uniform(8, 45)
            for t in range(count):
                x = round(at[0] + speed * (t - when)) - thing.shape[1] // 2
                y = round(at[1]) - thing.shape[0] // 2
                part = changed[t, max(y, 0) : max(y + thing.shape[0], 0), max(x, 0) : max(x + thing.shape[1], 0)]
                part[:] = thing[max(-y, 0) :, max(-x, 0) :][: part.shape[0], : part.shape[1]]
        return changed, matrix

    def thing(self, rng: np.random.Generator, width: int, height: int) -> np.ndarray:
        """A piece of a picture (h, w, 3)."""
        picture = cv2.imread(str(self.textures[int(rng.integers(len(self.textures)))]), cv2.IMREAD_COLOR)
        size = round(rng.uniform(0.12, 0.35) * width), round(rng.uniform(0.2, 0.9) * height)
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


# --- clips to learn from ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """Features (T, C, h, w) of a video and, for each frame, its people: identity, box, joints (K, 3)."""

    features: np.ndarray
    people: Sequence[Sequence[tuple[int, np.ndarray, np.ndarray]]]
    fps: float


def read_clip(features: Path, labels: Path, side: int) -> Clip:
    """A video's kept features with its labels, in pixels of the square of ``side`` that was looked at."""
    told = json.loads(labels.read_text())
    with np.load(features, allow_pickle=False) as kept:
        values, matrix = kept["features"], kept["matrix"]
    mirrored = np.linalg.det(matrix[:, :2]) < 0
    people = []
    for frame in told["frames"]:
        here = []
        for person in frame["persons"]:
            x, y, w, h = person["bbox"]
            (box,) = moved_boxes(np.array([[x, y, x + w, y + h]], float), matrix)
            joints = np.array(person["keypoints"], float)
            joints[:, :2] = apply_affine(matrix, joints[:, :2])
            joints = joints[BODY19.flip_index] if mirrored else joints
            joints[((joints[:, :2] < -0.5) | (joints[:, :2] > side - 0.5)).any(1), 2] = 0
            box = np.clip(box, 0, side)
            if (joints[:, 2] > 0).any() and (box[2:] > box[:2]).all():
                here.append((person["track_id"], box, joints))
        people.append(here)
    return Clip(values, people, float(told["fps"]))


def sample(clip: Clip, frames: int, stride: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Some frames in their order, every one or every second, with targets of the finder and where each person is."""
    step = int(rng.integers(1, 3))
    step = step if len(clip.features) > step * (frames - 1) else 1
    first = int(rng.integers(len(clip.features) - step * (frames - 1)))
    chosen = [first + step * n for n in range(frames)]
    height, width = clip.features.shape[2:]
    joints_count = next((len(p[2]) for people in clip.people for p in people), 0)
    known = np.ones((height, width), np.float32)
    numbers: dict[int, int] = {}
    centre = np.zeros((frames, _MOST), np.int64)
    pose = np.zeros((frames, _MOST, joints_count, 2), np.float32)
    seen = np.zeros((frames, _MOST, joints_count), np.float32)
    targets = []
    for t, n in enumerate(chosen):
        people = clip.people[n]
        boxes = np.array([p[1] for p in people]).reshape(-1, 4)
        joints = np.array([p[2] for p in people]).reshape(-1, joints_count, 3)
        found = encode_people(boxes, joints[..., :2], joints[..., 2], known, stride)
        targets.append({
            "heat": found.heat, "heat_weight": found.heat_weight, "box": found.box, "offset": found.offset,
            "offset_weight": found.offset_weight, "near": found.near, "people": np.float32(found.people),
        })  # fmt: skip
        for identity, box, points in people:
            x, y = np.round((box[:2] + box[2:]) / 2 / stride).astype(int)
            number = numbers.setdefault(identity, len(numbers))
            if number < _MOST and 0 <= x < width and 0 <= y < height:
                centre[t, number] = y * width + x
                pose[t, number] = points[:, :2] / stride
                size = np.sqrt(max(float((box[2:] - box[:2]).prod()), 1.0)) / stride
                seen[t, number] = (points[:, 2] > 0) / size
    gap = np.full(frames, step / clip.fps, np.float32)
    gap[0] = 0
    return {
        "features": clip.features[chosen].astype(np.float32), "gap": gap, "centre": centre, "pose": pose, "seen": seen,
        **{key: np.stack([t[key] for t in targets]) for key in targets[0]},
    }  # fmt: skip


# --- learning --------------------------------------------------------------------------------------------------------


class Part(nn.Module):
    """Some channels of features (B, C, h, w)."""

    def __init__(self, first: int, count: int) -> None:
        super().__init__()
        self.first, self.count = first, count

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.first : self.first + self.count]


class Heads:
    """A network's last layers and memory: kept features (B, T, C, h, w) to maps (B, T, ...).

    Args:
        network: a `DEKR`, or one with a memory; it is taken apart, see `whole`.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        self._kept = {name: getattr(network, name) for name in
                      ("backbone", "head_box", "transition_heatmap", "transition_offset", "offset_blocks")}  # fmt: skip
        self._blocks = network.head_heatmap[0]
        heat, offset = network.head_heatmap[1].in_channels, network.offset_final.in_channels
        network.backbone, network.head_box = nn.Identity(), None
        network.transition_heatmap, network.transition_offset = Part(0, heat), Part(heat, offset)
        network.head_heatmap[0], network.offset_blocks = nn.Identity(), nn.Identity()
        self.recurrent = bool(getattr(network, "recurrent", False))

    def __call__(self, features: Tensor, gap: Tensor) -> Any:
        if self.recurrent:
            return self.network(features, gap)
        output = self.network(features.flatten(0, 1))
        return type(output)(*(part.unflatten(0, features.shape[:2]) for part in output))

    def whole(self) -> nn.Module:
        """The network, put together again."""
        for name, value in self._kept.items():
            setattr(self.network, name, value)
        self.network.head_heatmap[0] = self._blocks
        return self.network


def started(architecture: str, base: Path, seed: int, arguments: Mapping[str, Any]) -> tuple[nn.Module, ModelMeta]:
    """A network with the weights of a finder, or of a per-frame network learnt from it, and a fresh memory; and its
    description. ``arguments`` of the memory take the place of the architecture's own."""
    finder, meta = load_checkpoint(base)
    told = ModelMeta(
        architecture, {**meta.arguments, **arguments}, meta.skeleton, meta.input_size, meta.mean, meta.std, meta.codec,
        {k: v for k, v in meta.extra.items() if k != "measured"},
    )  # fmt: skip
    torch.manual_seed(seed)
    network = build(told)
    missing = network.load_state_dict(finder.state_dict(), strict=False)
    if missing.unexpected_keys or any(not name.startswith("memory") for name in missing.missing_keys):
        raise SystemExit(f"{architecture} does not fit {base}: {missing}")
    return network, told


def learn(
    network: nn.Module, meta: ModelMeta, folder: Path, batches: Callable[[int], dict[str, Tensor]], recipe: Recipe,
    say: Callable[[str], None], consistency: bool = True,
) -> Path:  # fmt: skip
    """Learns the memory of a network that has one, else the last layers; ``batches(step)`` gives a step's batch. Goes
    on where a stopped run was. What is kept is the average of the weights of the last hundred steps or so."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, kept = folder / "last.safetensors", folder / "state.pt"
    heads = Heads(network.eval())
    parts = MEMORY_WEIGHTS if heads.recurrent else WEIGHTS
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not heads.recurrent or name.startswith("memory"))
    learnt = [p for p in network.parameters() if p.requires_grad]
    rate = recipe.memory_rate if heads.recurrent else recipe.head_rate
    optimizer = torch.optim.Adam(learnt, lr=rate)
    begin, average = 0, {k: v.clone() for k, v in network.state_dict().items()}
    if kept.is_file():
        state = torch.load(kept, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        begin, average = state["step"], state["average"]
    saved, total = time.monotonic(), Counter[str]()
    for step in range(begin, recipe.steps):
        factor = min(1.0, (step + 1) / recipe.warmup) * (
            0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
        batch = batches(step)
        terms = losses(heads(batch["features"], batch["gap"]), batch)
        loss = sum(v * terms[k] for k, v in parts.items() if consistency or k != "consistency")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(learnt, recipe.clip)
        optimizer.step()
        decay = min(_EMA, (1 + step) / (10 + step))
        with torch.no_grad():
            for key, value in network.state_dict().items():
                average[key].lerp_(value, 1 - decay)
        total.update({k: float(v.detach()) for k, v in terms.items()})
        if (step + 1) % 100 == 0:
            say(f"{folder.name}, step {step + 1}: " + ", ".join(f"{k} {v / 100:.4f}" for k, v in total.items()))
            total = Counter()
        if time.monotonic() - saved > recipe.save_every:
            with replace_when_done(kept, overwrite=True) as part:
                everything = {"network": network.state_dict(), "optimizer": optimizer.state_dict(),
                              "average": average, "step": step + 1}  # fmt: skip
                torch.save(everything, part)
            saved = time.monotonic()
    network.load_state_dict(average)
    save_model(weights, heads.whole(), meta)
    kept.unlink(missing_ok=True)
    return weights


def losses(output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The finder's loss over all frames of all clips, without boxes; what the poses near the centres lack of an OKS of
    1; and the steadiness of the poses at the centres."""
    flat = {key: value.flatten(0, 1) for key, value in batch.items() if key not in ("features", "gap")}
    heatmap, offset = (getattr(output, name).flatten(0, 1) for name in ("heatmap", "offset"))
    found = people_losses(heatmap, offset, flat["box"].clamp(min=0.05), flat)
    pose = poses_at(offset, flat["centre"]).unflatten(0, batch["centre"].shape[:2])
    steady = steadiness_loss(pose - batch["pose"], batch["seen"])
    found["consistency"] = steady.total / steady.divisor.clamp(min=1)
    found["pose"] = lost_oks(offset, flat)
    return {name: found[name] for name in WEIGHTS | MEMORY_WEIGHTS}


def lost_oks(offset: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
    """One less the mean OKS of the poses (B, 2 K, h, w) at the pixels near each person's centre, mean over people;
    ``targets``: the fields of `posecli.codecs.boxes.PeopleTargets`, stacked."""
    share = targets["offset_weight"]
    labelled = (share > 0).sum(1, keepdim=True).clamp(min=1)
    box = (share * labelled).clamp(min=1e-6) ** -2  # the weight is 1 over labelled joints and side
    distance = (offset - targets["offset"]).unflatten(1, (-1, 2)).square().sum(2)
    lost = 1 - torch.exp(-distance / (2 * _FILLED * box * (2 * _SIGMAS[:, None, None]) ** 2))
    return ((lost * (share > 0) / labelled).sum(1) * targets["near"]).sum() / targets["people"].sum().clamp(min=1)


def batch_maker(clips: Sequence[Clip], recipe: Recipe, stride: int, seed: int) -> Callable[[int], dict[str, Tensor]]:
    """Batches that depend on their number and the seed only: every variant sees the same, resumed or not."""

    def batch(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        chosen = rng.choice(len(clips), recipe.batch, replace=len(clips) < recipe.batch)
        samples = [sample(clips[int(n)], recipe.frames, stride, rng) for n in chosen]
        return {key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0]}

    return batch


# --- looking ---------------------------------------------------------------------------------------------------------


def poses(
    network: nn.Module, meta: ModelMeta, features: Path, size_wh: tuple[int, int], fps: float, past: str = "all"
) -> Iterator[list[Instance]]:
    """The people of each frame of a video as `infer` finds them, from its kept features; network as `Heads` left it.
    ``past``: what a memory knows before a frame: ``"all"`` frames before; or, to compare with, ``"itself"``, this frame
    alone, shown once before."""
    recurrent = bool(getattr(network, "recurrent", False))
    codec = BOTTOM_UP["people"]
    options = PredictOptions(min_score=0.01, max_persons=10)
    crop = codec.crop(*size_wh, 1.0, (1.0,), meta)
    with np.load(features, allow_pickle=False) as kept:
        seen, box = kept["features"], kept["box"]
    state = None
    for n in range(len(seen)):
        x = torch.from_numpy(seen[n : n + 1].astype(np.float32))
        with torch.inference_mode():
            if recurrent:
                step: Any = network.step
                gap = torch.full((1,), 1 / fps)
                if past == "itself":
                    _, state = step(x, None, gap)
                output, state = step(x, state, gap)
            else:
                output = network(x)
            maps = DekrBoxOutput(output.heatmap, output.offset, torch.from_numpy(box[n : n + 1].astype(np.float32)))
            (people,) = codec.decode([maps], [], options, meta)
        yield [as_instance(p, crop) for p in people]


def as_instance(person: Any, crop: Any) -> Instance:
    """A person of the codec in pixels of the video."""
    from posecli.inference import _to_instance

    return _to_instance(person, crop)
