"""What is learnt, by kind of network: `make_task` chooses; each module holds one kind."""

from __future__ import annotations

from collections.abc import Sequence

from posecli.codecs.top_down import CASCADE
from posecli.data import Source
from posecli.errors import PoseError, UsageError
from posecli.models import MODELS
from posecli.models.rescore import RESCORE_MODEL
from posecli.settings import TrainSettings, family
from posecli.tasks.cpn import CpnTask
from posecli.tasks.deeppose import DeepPoseTask
from posecli.tasks.dekr import DekrTask
from posecli.tasks.dekr_clips import DekrClipTask
from posecli.tasks.task import Task
from posecli.tasks.tompson import TompsonTask
from posecli.tasks.top_down import TopDownTask
from posecli.tasks.top_down_clips import TopDownClipTask
from posecli.types import Skeleton

__all__ = ["Task", "make_task"]


def make_task(settings: TrainSettings, sources: Sequence[Source], skeleton: Skeleton) -> Task:
    """The task of a model; PoseError when the model isn't trained by `posecli train`."""
    if settings.model.endswith("-finder"):
        raise PoseError("the finder has a training script of its own", hint="examples/train_finder.py")
    if settings.model == RESCORE_MODEL:
        raise PoseError("a rescoring net is no network of pictures", hint="posecli.rescoring.train_rescoring trains it")
    kind = family(settings.model)
    if settings.clip_frames > 1 and kind not in ("dekr", "dekr-gru", "unipose-lstm"):
        raise UsageError(f"{settings.model} learns from single pictures", "training settings", "clip_frames = 1")
    if kind == "unipose-lstm":
        return TopDownClipTask(settings, sources, skeleton, settings.codec or "gaussian")
    if kind == "pose-fpn":
        return TopDownTask(settings, sources, skeleton, settings.codec or "softmax")
    if kind.startswith("integral"):
        return TopDownTask(settings, sources, skeleton, settings.codec or "integral")
    if kind == "tompson":
        if settings.builder_arguments().get("cascade", True):
            return TompsonTask(settings, sources, skeleton, settings.codec or CASCADE)
        plain = "gaussian" if settings.codec in ("", CASCADE) else settings.codec
        return TopDownTask(settings, sources, skeleton, plain)
    if kind.startswith("deeppose"):
        return DeepPoseTask(settings, sources, skeleton)
    if kind == "cpn":
        return CpnTask(settings, sources, skeleton, settings.codec or "gaussian")
    if kind in ("dekr", "dekr-gru"):
        if settings.codec:
            raise UsageError(f"codec {settings.codec!r}", "training settings", "codecs are chosen for top-down models")
        learning = DekrTask if kind == "dekr" and settings.clip_frames == 1 else DekrClipTask
        return learning(settings, sources, skeleton)
    if settings.model in MODELS:  # all others give heat maps of one person
        return TopDownTask(settings, sources, skeleton, settings.codec or "gaussian")
    raise UsageError(f"no network is called {settings.model!r}", hint="posecli models lists them")
