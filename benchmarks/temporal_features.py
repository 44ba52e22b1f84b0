"""Learning and looking on kept features, for `temporal.py`: the frozen trunk sees each picture once, all heads read it.

The networks compared are DEKRs on one trunk, that of the shipped finder. What the trunk gives for each frame of each
clip is kept in a file; learning and measuring then run the heads only, a tenth of the cost. All variants start at the
finder's heads and learn these, and their memory where they have one, in the same way from the same batches.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posecli.checkpoint import ModelMeta, build, load_checkpoint, save_model
from posecli.codecs.boxes import encode_people, people_losses
from posecli.codecs.offsets import poses_at
from posecli.files import replace_when_done
from posecli.geometry import warp
from posecli.inference import PoseModel
from posecli.losses import steadiness_loss
from posecli.models.dekr import DekrBoxOutput
from posecli.readout import BOTTOM_UP, PredictOptions
from posecli.types import Instance
from posecli.video import open_source

#: Parts of the loss: the finder's own, without its boxes, which are not learnt, and the steadiness of errors.
WEIGHTS = {"centre": 1.0, "joints": 0.3, "offset": 0.7, "consistency": 1.0}
_MOST = 3  # people of a clip whose steadiness counts


@dataclass(frozen=True)
class Recipe:
    """How all variants learn: steps of `batch` clips of `frames` frames; rates of the heads and of what is new."""

    steps: int = 500
    batch: int = 4
    frames: int = 6
    head_rate: float = 2e-4
    memory_rate: float = 2e-3
    warmup: int = 50
    clip: float = 5.0
    save_every: float = 60.0


# --- features --------------------------------------------------------------------------------------------------------


def keep_features(model: PoseModel, clips: Path, folder: Path, say: Callable[[str], None]) -> list[Path]:
    """What the trunk of a finder gives for each video of a folder of puppets, and its boxes: ``VIEW_NAME.npz`` with
    ``features`` (T, C, h, w) and ``box`` (T, 4, h, w), float16. Files that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    network = model.network
    for video in sorted(clips.glob("*/*.mp4")):
        file = folder / f"{video.parent.name}_{video.stem}.npz"
        files.append(file)
        if file.is_file():
            continue
        if len(files) % 16 == 1:
            say(f"features of {clips.name}, {len(files)}")
        features, boxes = [], []
        with open_source(video) as source, torch.inference_mode():
            for frame in source.frames():
                height, width = frame.image.shape[:2]
                crop = BOTTOM_UP["people"].crop(width, height, 1.0, (1.0,), model.meta)
                pixels = torch.from_numpy(warp(frame.image, crop)).permute(2, 0, 1)[None].float()
                seen = network.backbone((pixels - model._mean) / model._std)  # type: ignore[operator]
                features.append(seen[0].half().numpy())
                boxes.append(network.box(seen)[0].half().numpy())  # type: ignore[operator]
        with replace_when_done(file) as part, part.open("wb") as stream:
            np.savez(stream, features=np.stack(features), box=np.stack(boxes))
    return files


# --- clips to learn from ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """Features (T, C, h, w) of a video and, for each frame, its people: identity, box, joints (K, 3)."""

    features: np.ndarray
    people: Sequence[Sequence[tuple[int, np.ndarray, np.ndarray]]]
    fps: float


def read_clip(features: Path, labels: Path, scale: float) -> Clip:
    """``scale``: input pixels to a pixel of the video."""
    told = json.loads(labels.read_text())
    people = []
    for frame in told["frames"]:
        here = []
        for person in frame["persons"]:
            x, y, w, h = person["bbox"]
            joints = np.array(person["keypoints"], float)
            joints[:, :2] = (joints[:, :2] + 0.5) * scale - 0.5
            if (joints[:, 2] > 0).any():
                here.append((person["track_id"], np.array([x, y, x + w, y + h]) * scale, joints))
        people.append(here)
    with np.load(features, allow_pickle=False) as kept:
        return Clip(kept["features"], people, float(told["fps"]))


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


class Heads:
    """A network without trunk and boxes: features (B, T, C, h, w) to maps (B, T, ...).

    Args:
        network: a `DEKR`, or one with a memory; it is taken apart, see `whole`.
        past: for one with a memory: False shows it every frame as the first.
    """

    def __init__(self, network: nn.Module, past: bool = True) -> None:
        self.network, self.past = network, past
        self._trunk, self._box = network.backbone, network.head_box
        network.backbone, network.head_box = nn.Identity(), None  # type: ignore[assignment]
        self.recurrent = bool(getattr(network, "recurrent", False)) and past

    def __call__(self, features: Tensor, gap: Tensor) -> Any:
        if self.recurrent:
            return self.network(features, gap)
        output = self.network(features.flatten(0, 1))
        return type(output)(*(part.unflatten(0, features.shape[:2]) for part in output))

    def whole(self) -> nn.Module:
        """The network, put together again."""
        self.network.backbone, self.network.head_box = self._trunk, self._box
        return self.network


def started(architecture: str, base: Path, seed: int, arguments: Mapping[str, Any]) -> tuple[nn.Module, ModelMeta]:
    """A network with the weights of the finder and a fresh memory, and its description."""
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
    say: Callable[[str], None], past: bool = True, consistency: bool = True,
) -> Path:  # fmt: skip
    """Learns heads and memory; ``batches(step)`` gives a step's batch. Goes on where a stopped run was.

    Norms keep the finder's statistics, so what is not learnt stays the finder's to the last digit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights, kept = folder / "last.safetensors", folder / "state.pt"
    heads = Heads(network.eval(), past)
    new = [p for name, p in network.named_parameters() if name.startswith("memory")]
    old = [p for name, p in network.named_parameters() if not name.startswith("memory")]
    groups = [{"params": part, "rate": rate} for part, rate in ((old, recipe.head_rate), (new, recipe.memory_rate))]
    optimizer = torch.optim.Adam([g for g in groups if g["params"]], lr=recipe.head_rate)
    begin = 0
    if kept.is_file():
        state = torch.load(kept, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        begin = state["step"]
    saved, total = time.monotonic(), 0.0
    for step in range(begin, recipe.steps):
        factor = min(1.0, (step + 1) / recipe.warmup) * (
            0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        )
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        batch = batches(step)
        terms = losses(heads(batch["features"], batch["gap"]), batch)
        loss = sum(WEIGHTS[k] * v for k, v in terms.items() if consistency or k != "consistency")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()
        total += float(loss.detach())  # type: ignore[union-attr]
        if (step + 1) % 50 == 0:
            say(f"{folder.name}, step {step + 1}: {total / 50:.3f}")
            total = 0.0
        if time.monotonic() - saved > recipe.save_every:
            with replace_when_done(kept, overwrite=True) as part:
                everything = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
                torch.save(everything, part)
            saved = time.monotonic()
    save_model(weights, heads.whole(), meta)
    kept.unlink(missing_ok=True)
    return weights


def losses(output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The finder's loss over all frames of all clips, without boxes, and the steadiness of the poses at the centres."""
    flat = {key: value.flatten(0, 1) for key, value in batch.items() if key not in ("features", "gap")}
    heatmap, offset = (getattr(output, name).flatten(0, 1) for name in ("heatmap", "offset"))
    found = people_losses(heatmap, offset, flat["box"].clamp(min=0.05), flat)
    pose = poses_at(offset, flat["centre"]).unflatten(0, batch["centre"].shape[:2])
    steady = steadiness_loss(pose - batch["pose"], batch["seen"])
    found["consistency"] = steady.total / steady.divisor.clamp(min=1)
    return {name: found[name] for name in WEIGHTS}


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
    network: nn.Module, meta: ModelMeta, features: Path, size_wh: tuple[int, int], fps: float, past: bool = True
) -> Iterator[list[Instance]]:
    """The people of each frame of a video as `infer` finds them, from its kept features; network as `Heads` left it."""
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
                output, after = network.step(x, state, torch.full((1,), 1 / fps))  # type: ignore[operator]
                state = after if past else None
            else:
                output = network(x)
            maps = DekrBoxOutput(output.heatmap, output.offset, torch.from_numpy(box[n : n + 1].astype(np.float32)))
            (people,) = codec.decode([maps], [], options, meta)
        yield [as_instance(p, crop) for p in people]


def as_instance(person: Any, crop: Any) -> Instance:
    """A person of the codec in pixels of the video."""
    from posecli.inference import _to_instance

    return _to_instance(person, crop)
