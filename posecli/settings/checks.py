"""What settings may hold: ranges, what goes together, and what a model does not know."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from posecli.errors import UsageError
from posecli.settings.by_model import FULL_HOURGLASS, SIZE_STEPS, defaults, family

if TYPE_CHECKING:
    from posecli.settings import TrainSettings

_CHOICES = {
    "optimizer": ("adamw", "adam"),
    "schedule": ("cosine", "step", "constant"),
    "precision": ("float32", "bfloat16", "float16"),
    "speed": ("auto", "compiled", "plain"),
    "unlabelled": ("mask", "background"),
    "integral_heat": ("none", "gaussian", "softmax"),
    "metric": ("mean-oks", "pck"),
    "place_loss": ("squared", "distance"),
    "clock": ("wall", "processor"),
}
# What a number may be at least.
_LEAST = {
    **dict.fromkeys(("epochs", "batch", "accumulate", "clip_frames"), 1),
    **dict.fromkeys(("workers", "threads", "warmup", "epoch_samples", "val_limit", "truncate"), 0),
    **dict.fromkeys(("max_minutes", "weight_decay", "clip", "rotation", "shift", "min_side", "min_area"), 0),
    **dict.fromkeys(("consistency", "shake"), 0),
    "blur_most": 0.3,
    "noise_most": 1,
}
_POSITIVE = ("lr", "integral_weight", "sigma", "fine_sigma", "val_every", "save_every", "val_box_scale")
_SHARES = (
    "rotation_any", "flip", "half_body", "grey", "blur", "noise", "occlude", "fill", "small_until", "narrow_ratio",
    "narrow_share", "gentle_from", "paste", "backdrop", "colour", "dim", "glare", "compress",
)  # fmt: skip


def from_clips(settings: TrainSettings) -> bool:
    """Whether samples are made by the code for clips; clips of one frame are, too."""
    return settings.clip_frames > 1 or family(settings.model) in ("dekr-gru", "unipose-lstm")


def check_values(settings: TrainSettings) -> None:
    """UsageError where a value is out of its range, or contradicts another."""
    _check_ranges(settings)
    _check_sizes(settings)
    _check_data(settings)
    _check_clips(settings)
    _check_learning(settings)
    settings.builder_arguments()


def _wrong(settings: TrainSettings, key: str, wanted: str) -> UsageError:
    return UsageError(f"{key} = {getattr(settings, key)!r}", "training settings", wanted)


def _check_ranges(settings: TrainSettings) -> None:
    """Each value by itself."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise _wrong(settings, field.name, "a finite number")
    for key, known in _CHOICES.items():
        if getattr(settings, key) not in known:
            raise _wrong(settings, key, f"one of {', '.join(known)}")
    for key, least in _LEAST.items():
        if getattr(settings, key) < least:
            raise _wrong(settings, key, "0 or more" if least == 0 else f"at least {least:g}")
    for key in _POSITIVE:
        if not getattr(settings, key) > 0:
            raise _wrong(settings, key, "more than 0")
    for key in _SHARES:
        if not 0 <= getattr(settings, key) <= 1:
            raise _wrong(settings, key, "between 0 and 1")
    if not 0 <= settings.ema < 1:
        raise _wrong(settings, "ema", "0 or more and below 1")
    for key in ("scale", "box_scale"):
        low, high = getattr(settings, key)
        if not 0 < low <= high:
            raise _wrong(settings, key, "two positive numbers, the smaller first")
    if not settings.clip_steps or any(step < 1 for step in settings.clip_steps):
        raise _wrong(settings, "clip_steps", "whole numbers from 1 on")
    if not 0 <= settings.phases[0] <= settings.phases[1] <= 1:
        raise _wrong(settings, "phases", "two shares of the run, the earlier first")
    if any(not s > 0 for s in settings.stage_shares):
        raise _wrong(settings, "stage_shares", "positive numbers, one for each stage")
    if any(not 0 < s < 1 for s in settings.lr_steps) or list(settings.lr_steps) != sorted(settings.lr_steps):
        raise _wrong(settings, "lr_steps", "rising shares of the run, between 0 and 1")


def _check_sizes(settings: TrainSettings) -> None:
    """What the network sees is of a size that it can halve as often as it does."""
    step = SIZE_STEPS.get(family(settings.model), 32)
    depth = settings.builder_arguments().get("depth")
    if step == FULL_HOURGLASS and isinstance(depth, int) and 1 <= depth <= 8:
        step = 4 * 2**depth
    if len(settings.narrow_sizes) % 2 or any(w >= h for w, h in settings.narrow_inputs()):
        raise _wrong(settings, "narrow_sizes", "pairs of a width and a larger height, in turn: [128, 192, 96, 160]")
    for key in ("input_size", "small_size", "narrow_sizes"):
        sizes = getattr(settings, key)
        if any(n % step or n < 0 for n in sizes) or (key == "input_size" and min(sizes) < step):
            raise _wrong(settings, key, f"multiples of {step}")
    if settings.small_until > 0 and min(settings.small_size) < step:
        raise _wrong(settings, "small_until", "small_size is needed too")


def _check_data(settings: TrainSettings) -> None:
    """One value for each data file; the one of two settings that needs the other."""
    for key in ("data_weights", "image_root"):
        if getattr(settings, key) and len(getattr(settings, key)) != len(settings.data):
            raise _wrong(settings, key, f"one for each of the {len(settings.data)} data files, or none")
    if any(not w > 0 for w in settings.data_weights):
        raise _wrong(settings, "data_weights", "positive numbers")
    if bool(settings.backdrop) != bool(settings.backdrops):
        key = "backdrop" if settings.backdrops else "backdrops"
        raise _wrong(settings, key, "the one needs the other: a share and a folder")


def _check_clips(settings: TrainSettings) -> None:
    """What is for clips only, and what is not for them."""
    for key in ("truncate", "consistency", "shake"):
        if settings.clip_frames == 1 and getattr(settings, key):
            raise _wrong(settings, key, "is for clips: clip_frames must be more than 1")
    for key in ("paste", "backdrop", "half_body", "rotation_any", "narrow_sizes"):
        if from_clips(settings) and getattr(settings, key):
            raise _wrong(settings, key, "is not for clips, nor for networks that learn from them")


def _check_learning(settings: TrainSettings) -> None:
    """What goes with a codec, a model or a kind of run only."""
    if settings.integral_heat != "none" and settings.codec != "integral":
        raise _wrong(settings, "integral_heat", 'codec = "integral" is needed too')
    for key, usual in (("place_loss", "squared"), ("stage_shares", ())):
        if getattr(settings, key) != usual and not family(settings.model).startswith("deeppose"):
            raise _wrong(settings, key, "is for models that give places in stages: deeppose")
    if not settings.max_minutes and settings.val_every != int(settings.val_every):
        raise _wrong(settings, "val_every", "whole epochs (minutes with max_minutes)")


_ONE_PERSON, _WHOLE, _MAPS = "see one person", "see whole pictures", "learn heat maps"
_CASCADE = "have a second network: tompson with its cascade"
_SINGLE, _CLIPS, _MEMORY = "learn from single pictures", "can learn from clips", "remember: dekr-gru, unipose-lstm"
# What only some models know: there it would change nothing.
_KNOWN_BY = {
    **dict.fromkeys(("box_scale", "val_box_scale", "rotation_any", "half_body", "min_joints", "min_side"), _ONE_PERSON),
    **dict.fromkeys(("narrow_sizes", "narrow_ratio", "narrow_share"), _ONE_PERSON),
    **dict.fromkeys(("scale", "min_area", "unlabelled"), _WHOLE),
    **dict.fromkeys(("fine_sigma", "phases"), _CASCADE),
    **dict.fromkeys(("blur_most", "noise_most"), _SINGLE),
    "clip_steps": _CLIPS,
    "truncate": _MEMORY,
    "consistency": _WHOLE,
    "sigma": _MAPS,
}


def check_meaning(settings: TrainSettings) -> None:
    """UsageError where something was set that means nothing for the model; for new runs, old ones go on as they are."""
    known = _kinds(settings)
    usual = type(settings)(settings.model, **defaults(settings.model))
    for key, wanted in _KNOWN_BY.items():
        if wanted not in known and getattr(settings, key) != getattr(usual, key):
            what = f"{key} means nothing for {settings.model}"
            raise UsageError(what, "training settings", f"for models that {wanted}")
    no_steps, no_heat = settings.schedule != "step", settings.integral_heat == "none"
    only_places = no_heat and (settings.codec or usual.codec) == "integral"
    for key, other, wanted, off in (
        ("lr_steps", "schedule", "step", no_steps),
        ("lr_factor", "schedule", "step", no_steps),
        ("integral_weight", "integral_heat", "gaussian", no_heat),
        ("sigma", "integral_heat", "gaussian", only_places),
        ("clip_steps", "clip_frames", "2", settings.clip_frames == 1),
    ):
        if off and getattr(settings, key) != getattr(usual, key):
            what = f"{key} means nothing with {other} = {getattr(settings, other)!r}"
            raise UsageError(what, "training settings", f"--set {other}={wanted} goes with it")


def _kinds(settings: TrainSettings) -> set[str]:
    """What is true of the model as it is set, of the values of `_KNOWN_BY`."""
    kind = family(settings.model)
    clips, memory = kind in ("dekr", "dekr-gru", "unipose-lstm"), kind in ("dekr-gru", "unipose-lstm")
    return {
        _WHOLE if kind in ("dekr", "dekr-gru") else _ONE_PERSON,
        *([_CASCADE] if kind == "tompson" and settings.builder_arguments().get("cascade", True) else []),
        *([] if from_clips(settings) else [_SINGLE]),
        *([_CLIPS] if clips else []),
        *([_MEMORY] if memory else []),
        *([] if kind.startswith("deeppose") else [_MAPS]),
    }
