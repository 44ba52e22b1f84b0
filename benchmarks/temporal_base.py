"""The per-frame network that all systems of `temporal.py` start from: the shipped finder, learnt further on puppets.

Trunk, heads and boxes learn together from canvases (`posecli.augment_pictures`) of single frames of some of the
training clips and of real pictures of the finder's own training. People and backgrounds of the validation and test
splits of the puppets (by `posecli.scenes.puppets.in_split`) are left out of both. The stem, the first stage and the
statistics of the trunk's norms stay as they are, as in the finder's own training.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from posecli.augment_pictures import Picture, PictureMixer, Pool
from posecli.checkpoint import load_checkpoint, save_model
from posecli.codecs.boxes import people_losses
from posecli.files import replace_when_done
from posecli.learner import follow_average
from posecli.scenes.puppets import in_split
from posecli.skeletons import BODY19
from posecli.video import open_source

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import train_finder

#: Parts of the loss; the finder's own learn boxes first, here joints count.
WEIGHTS = {"centre": 1.0, "joints": 0.3, "box": 1.0, "offset": 2.0}
#: What is learnt from, by the finder, the base and the memory; and what may be done with it.
TRAINED_ON = (
    "what the default model learnt from (docs/model-card.md), and puppets: people of LSPET and people_boxes "
    "(COCO 2017, Clothing Co-Parsing) moved along tracks of Penn Action over backgrounds (ImageNet samples, BSDS500, "
    "Houses, COCO, CamVid, clothing)"
)
TERMS = "weights for research: several of the training pictures allow no other use; the code is MIT"
_BATCH, _RATE, _TRUNK, _EMA = 24, 1e-3, 0.4, 0.99


@dataclass(frozen=True)
class Still(Picture):
    """A frame of a clip, in memory."""

    image: np.ndarray | None = None

    def read(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        assert self.image is not None
        return self.image


def stills(videos: Sequence[Path], step: int = 2) -> list[Picture]:
    """Every ``step``-th frame of puppet videos, with its people."""
    found: list[Picture] = []
    for video in videos:
        frames = json.loads(video.with_suffix(".json").read_text())["frames"]
        with open_source(video) as source:
            for frame in source.frames():
                people = frames[frame.index]["persons"]
                if frame.index % step or not people:
                    continue
                boxes = np.array([p["bbox"] for p in people], float)
                boxes[:, 2:] += boxes[:, :2]
                joints = np.array([p["keypoints"] for p in people], float)
                found.append(
                    Still(video, boxes, joints[..., :2], joints[..., 2].astype(np.int64), image=frame.image.copy())
                )
    return found


def mixer(data: Path, puppets: Sequence[Picture]) -> PictureMixer:
    """Canvases of puppets and of real pictures, half and half."""
    pools, backgrounds, _, _ = train_finder.training_pools(data)
    real = [replace(pool, pictures=[p for p in pool.pictures if in_split(p.path.name, "train")]) for pool in pools]
    scenes, more, street, lspet, *_ = real
    return PictureMixer(
        BODY19,
        [
            Pool(puppets, 0.5, (0.75, 1.3)),
            replace(lspet, weight=0.3, zooms=(0.6, 1.4), turn=25.0, paste_weight=0.3),
            replace(scenes, weight=0.1),
            replace(more, weight=0.06),
            replace(street, weight=0.04, zooms=(0.5, 1.1)),
        ],
        [p for p in backgrounds if in_split(p.path.name, "train")],
        mosaic=0.1,
        background=0.08,
    )


def learn(base: Path, out: Path, canvases: PictureMixer, side: int, steps: int, say: Callable[[str], None]) -> Path:
    """Learns a finder further; writes ``out``, the average of its weights towards the end."""
    torch.manual_seed(0)
    network, meta = load_checkpoint(base)
    trunk, heads = [], []
    for name, parameter in network.named_parameters():
        if name.startswith(train_finder.TRUNK_FROZEN):
            parameter.requires_grad_(False)
        else:
            (trunk if name.startswith("backbone.backbone") else heads).append(parameter)
    groups = [{"params": trunk, "scale": _TRUNK}, {"params": heads, "scale": 1.0}]
    optimizer = torch.optim.AdamW(groups, lr=_RATE, weight_decay=0.02)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (meta.mean, meta.std))
    kept, begin = out.with_suffix(".pt"), 0
    average = {k: v.clone() for k, v in network.state_dict().items()}
    if kept.is_file():
        state = torch.load(kept, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        average, begin = state["average"], state["step"]
    network = network.to(memory_format=torch.channels_last)
    stride = int(network.backbone.stride)  # type: ignore[union-attr,arg-type]
    saved, sums = time.monotonic(), dict.fromkeys(WEIGHTS, 0.0)
    for step in range(begin, steps):
        rng = np.random.default_rng([2, step])
        drawn = [train_finder.targets_of(canvases.sample(rng, side, side), stride) for _ in range(_BATCH)]
        batch = {key: torch.from_numpy(np.stack([d[key] for d in drawn])) for key in drawn[0]}
        network.train()
        for module in network.backbone.backbone.modules():  # type: ignore[union-attr]
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        factor = min(1.0, (step + 1) / 30) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = _RATE * group["scale"] * factor
        image = ((batch["image"].permute(0, 3, 1, 2).float() - mean) / std).contiguous(
            memory_format=torch.channels_last
        )
        terms = people_losses(*network(image), batch)
        loss = sum(WEIGHTS[k] * v for k, v in terms.items())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], 10.0)
        optimizer.step()
        follow_average(average, network, min(_EMA, (1 + step) / (10 + step)))
        for key, value in terms.items():
            sums[key] += float(value.detach())
        if (step + 1) % 25 == 0:
            say(f"base, step {step + 1}: " + ", ".join(f"{k} {v / 25:.3f}" for k, v in sums.items()))
            sums = dict.fromkeys(WEIGHTS, 0.0)
        if time.monotonic() - saved > 120:
            with replace_when_done(kept, overwrite=True) as part:
                everything = {"network": network.state_dict(), "optimizer": optimizer.state_dict(),
                              "average": average, "step": step + 1}  # fmt: skip
                torch.save(everything, part)
            saved = time.monotonic()
    save_model(out, average, meta)
    kept.unlink(missing_ok=True)
    return out
