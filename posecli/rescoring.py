"""Training of DEKR's rescoring net: which of a trained DEKR's own poses are good, told from their shape.

Geng, Sun, Xiao, Zhang, Wang, CVPR 2021, https://arxiv.org/abs/2104.02300, Sec. 3.4. Official code: HRNet/DEKR@7a30313
(`tools/valid.py` with `RESCORE.GET_DATA`, `lib/utils/rescore.py`, `experiments/coco/rescore_coco.yaml`): the poses that
a DEKR finds on its training pictures with the flip test, the 20 best of a picture; wanted is a pose's OKS with the
labelled person it fits best; mean squared error, Adam 1e-3, batches of 1024 in random order, 20 epochs.

Other than there each pose is one sample (the official evaluation passes it three times, once for each range of areas,
each time against the people of that range) and the last, smaller batch of an epoch is learnt from too. As there,
pictures without labelled people teach nothing.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posecli.checkpoint import ModelMeta, save_model
from posecli.data import Source, make_source, read_image
from posecli.errors import PoseError, UsageError
from posecli.formats import read_coco_style
from posecli.inference import PoseModel, PredictOptions, load_model
from posecli.metrics.oks import oks_matrix, resolve_areas
from posecli.models.rescore import RESCORE_LIMBS, RESCORE_MODEL, RescoreNet, rescore_features
from posecli.run_log import RunLog, clear_run, refuse_used
from posecli.settings import TrainSettings, absolute_paths, resolve, to_toml
from posecli.training import TrainResult
from posecli.validation import given_boxes_xywh

_MOST_PEOPLE = 20
_PICTURES_AT_ONCE = 8
#: The settings that mean something here.
RESCORE_SETTINGS = frozenset(
    {"model", "data", "image_root", "val", "val_image_root", "init", "seed", "epochs", "batch", "lr", "threads"}
)


@dataclass(frozen=True)
class JudgedPoses:
    """Poses a model found and how good they are.

    Attributes:
        poses: (N, K, 3) float32 x, y in picture pixels and joint score.
        scores: (N,) float32 the model's own pose scores.
        oks: (N,) float32 with the labelled person each fits best.
    """

    poses: Tensor
    scores: Tensor
    oks: Tensor


def judge_poses(model: PoseModel, source: Source, report: Callable[[float], None] | None = None) -> JudgedPoses:
    """What a bottom-up model finds on the pictures with labelled people, against the labels.

    Args:
        model: with the options it is to be used with.
        source: labels, in the model's joints.
        report: called with the share of pictures done.
    """
    records = [
        r
        for r in source.dataset.records
        if any(not p.ignore and (v > 0).any() for p, v in zip(r.instances, source.people(r)[1], strict=True))
    ]
    if not records:
        raise PoseError("no person with labelled joints to learn from", source.name)
    poses, scores, oks = [], [], []
    for start in range(0, len(records), _PICTURES_AT_ONCE):
        chunk = records[start : start + _PICTURES_AT_ONCE]
        images = [read_image(source.dataset.root, record) for record in chunk]
        for record, people in zip(chunk, model.predict(images), strict=True):
            if people:
                found = np.stack([p.xy for p in people])
                poses.append(np.concatenate([found, np.stack([p.score for p in people])[..., None]], axis=2))
                scores.append([p.person_score for p in people])
                oks.append(_best_oks(source, record, found, model.skeleton.sigmas))
        if report is not None:
            report((start + len(chunk)) / len(records))
    if not poses:
        raise PoseError("the model found nobody on these pictures", source.name, "train it longer first")
    return JudgedPoses(
        torch.from_numpy(np.concatenate(poses)).float(),
        torch.from_numpy(np.concatenate(scores)).float(),
        torch.from_numpy(np.concatenate(oks)).float(),
    )


def _best_oks(source: Source, record: Any, found: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
    """(P,) OKS of each predicted pose with the labelled person it fits best."""
    xy, visibility = source.people(record)
    kept = [i for i, p in enumerate(record.instances) if not p.ignore and (visibility[i] > 0).any()]
    xy, visibility = xy[kept], visibility[kept]
    persons = [record.instances[i] for i in kept]
    area, _ = resolve_areas(
        np.array([np.nan if p.area is None else p.area for p in persons]),
        np.array(["segmentation" in p.extra for p in persons]),
        xy,
        visibility,
        given_boxes_xywh(persons),
    )
    return np.nan_to_num(oks_matrix(xy, visibility, area, found, sigmas)).max(axis=0)


def fit_rescoring(
    features: Tensor,
    oks: Tensor,
    *,
    epochs: int = 20,
    batch: int = 1024,
    lr: float = 1e-3,
    seed: int = 1,
    report: Callable[[int, float, RescoreNet], None] | None = None,
) -> RescoreNet:
    """A rescoring net that has learnt to tell the OKS (N,) from `rescore_features` (N, F).

    Args:
        epochs, batch, lr: of Adam on the mean squared error.
        seed: of the first weights and the order of the samples.
        report: called after each epoch with its number (from 1), its mean loss and the net.

    Raises:
        PoseError: the loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RescoreNet(features.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    for epoch in range(1, epochs + 1):
        total = 0.0
        for rows in torch.randperm(len(features), generator=generator).split(batch):
            loss = (network(features[rows])[:, 0] - oks[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        if not math.isfinite(total):
            raise PoseError(f"the loss is not finite in epoch {epoch}", hint=f"try a learning rate below {lr:g}")
        if report is not None:
            report(epoch, total / len(features), network)
    return network.eval()


def rank_correlation(scores: Tensor, oks: Tensor) -> float:
    """Spearman's rank correlation of pose scores with their OKS, -1 to 1; NaN where either is constant."""
    from scipy.stats import spearmanr

    if len(scores) < 2 or not scores.std() > 0 or not oks.std() > 0:
        return math.nan
    return float(spearmanr(scores.numpy(), oks.numpy()).statistic)


def train_rescoring(
    settings: TrainSettings,
    out: str | Path,
    *,
    overwrite: bool = False,
    device: str = "auto",
    report: Callable[[dict[str, Any]], None] | None = None,
) -> TrainResult:
    """Trains a rescoring net for the DEKR ``settings.init`` and writes ``last.safetensors`` for `infer --rescore`.

    Args:
        settings: those of `RESCORE_SETTINGS` count.
        out: the run folder.
        overwrite: a folder with a run in it is replaced.
        device: that the DEKR runs on.
        report: takes every log record, and ``{"event": "step", "progress", "step"}``.

    Raises:
        PoseError: data or weights cannot be used.
        UsageError: a setting without meaning here, no DEKR given, or one of a skeleton without rescoring features.
    """
    out, started = Path(out), time.monotonic()
    _check(settings)
    settings = absolute_paths(settings)
    if not overwrite:
        refuse_used(out, "--overwrite replaces it", to_toml(settings))
    if settings.threads:
        torch.set_num_threads(settings.threads)
    model = load_model(settings.init, device, options=PredictOptions(flip_test=True, max_persons=_MOST_PEOPLE))
    name = model.skeleton.name
    if model.top_down or model.meta.codec != "dekr" or name not in RESCORE_LIMBS:
        known = ", ".join(RESCORE_LIMBS)
        raise UsageError(
            f"rescoring is for a DEKR of {known}; this is {model.meta.architecture} of {name}", settings.init
        )
    roots = settings.image_root or ("",) * len(settings.data)
    sources = [_source(path, root, model) for path, root in zip(settings.data, roots, strict=True)]
    check = _source(settings.val, settings.val_image_root, model) if settings.val else None

    out.mkdir(parents=True, exist_ok=True)
    clear_run(out)
    (out / "config.toml").write_text(to_toml(settings), encoding="utf-8")
    log = RunLog(out, False, 0)

    def tell(**record: Any) -> None:
        log.write(record)
        if report is not None:
            report(record)

    def step(share: float, number: int = 0) -> None:
        if report is not None:
            report({"event": "step", "step": number, "progress": share})

    try:
        # Looking at the pictures takes nearly all of the time.
        every = [*sources, check] if check else sources
        judged = []
        for n, source in enumerate(every):
            judged.append(judge_poses(model, source, lambda share, n=n: step(0.95 * (n + share) / len(every))))  # type: ignore[misc]
        held_out = judged.pop() if check else None
        poses, oks = torch.cat([j.poses for j in judged]), torch.cat([j.oks for j in judged])
        features = rescore_features(poses, name)
        tell(event="rescore-data", poses=len(poses), mean_oks=round(float(oks.mean()), 4))
        losses: list[float] = []

        def note(epoch: int, loss: float, network: RescoreNet) -> None:
            losses.append(loss)
            tell(event="rescore-epoch", step=epoch, loss=round(loss, 6))
            step(0.95 + 0.05 * epoch / settings.epochs, epoch)

        network = fit_rescoring(
            features,
            oks,
            epochs=settings.epochs,
            batch=settings.batch,
            lr=settings.lr,
            seed=settings.seed,
            report=note,
        )
        result = _measured(network, held_out, name) if held_out is not None else None
        if result is not None:
            tell(event="rescore-validation", step=settings.epochs, **result)
        extra: dict[str, Any] = {
            "trained_on": [Path(path).name for path in settings.data], "dekr": Path(settings.init).name,
            "poses": len(poses), "loss": round(losses[-1], 6),
        }  # fmt: skip
        if result is not None:
            extra["scores"] = {"set": Path(settings.val).name, **result}
        meta = ModelMeta(
            RESCORE_MODEL, {"features": features.shape[1]}, model.skeleton, (0, 0), codec=RESCORE_MODEL, extra=extra
        )
        save_model(out / "last.safetensors", network, meta)
        tell(event="rescore-done", minutes=round((time.monotonic() - started) / 60, 2))
    finally:
        log.close()
    steps = settings.epochs * -(-len(poses) // settings.batch)
    return TrainResult(out, steps, settings.epochs * len(poses), result, None)


def _measured(network: RescoreNet, judged: JudgedPoses, skeleton: str) -> dict[str, float]:
    """On poses kept out: the squared error, and how well scores order poses by OKS before and after."""
    with torch.no_grad():
        estimate = network(rescore_features(judged.poses, skeleton))[:, 0]
    return {
        "loss": round(float((estimate - judged.oks).square().mean()), 6),
        "rank_before": round(rank_correlation(judged.scores, judged.oks), 4),
        "rank_after": round(rank_correlation(judged.scores * estimate, judged.oks), 4),
    }


def _source(path: str, root: str, model: PoseModel) -> Source:
    return make_source(read_coco_style(path, image_root=root or None), model.skeleton, path)


def _check(settings: TrainSettings) -> None:
    usual = resolve({"model": RESCORE_MODEL})
    for item in dataclasses.fields(settings):
        if item.name not in RESCORE_SETTINGS and getattr(settings, item.name) != getattr(usual, item.name):
            raise UsageError(
                f"{item.name} means nothing for {RESCORE_MODEL}",
                hint=f"these do: {', '.join(sorted(RESCORE_SETTINGS))}",
            )
    if not settings.init:
        raise UsageError(f"{RESCORE_MODEL} learns from a trained DEKR", hint="give its weights with --init")
    if not settings.data:
        raise PoseError("no data to learn from", hint="give --data coco.json")
