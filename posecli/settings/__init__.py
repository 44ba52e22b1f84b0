"""Settings of a training run: defaults by model, a flat TOML file over them, the command line over both.

Every key of the TOML file is an option of `posecli train` (with ``_`` for ``-``) or goes through ``--set key=value``;
an unknown key or a value of another type is an error, never ignored. The resolved settings are written to the run
folder, and reading them back gives the same run.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_origin, get_type_hints

from posecli.errors import UsageError
from posecli.settings.by_model import defaults, family
from posecli.settings.checks import check_meaning, check_values
from posecli.settings.text import absolute_paths, parse_assignments, read_toml, to_toml

__all__ = [
    "RESUMABLE",
    "TrainSettings",
    "absolute_paths",
    "check_meaning",
    "family",
    "gentle",
    "parse_assignments",
    "read_toml",
    "resolve",
    "to_toml",
]

# What may change on a resumed run without making it another run.
RESUMABLE = {"workers", "threads", "save_every", "tensorboard", "epochs", "max_minutes", "speed"}


@dataclass(frozen=True)
class TrainSettings:
    """What a run does. Lengths in network input pixels and angles in degrees unless said otherwise.

    Attributes:
        model: architecture, a name of `posecli.models.MODELS`.
        data: COCO keypoint JSON files to learn from.
        data_weights: share of each file in the samples, any positive numbers; empty: by the number of their samples.
        image_root: folder of the pictures of each data file ("" for the JSON's own folder); empty: all "".
        val: COCO keypoint JSON to validate on; "" for none.
        val_image_root: folder of its pictures; "" for the JSON's own folder.
        skeleton: joints to learn, a skeleton's name or a skeleton.toml; "" for that of the first data file.
        init: weights to start from; tensors of other names or shapes (a head for other joints) are listed and left out.
        seed: of the weights, the order of the samples and every random change to them.
        input_size: width and height that the network sees.
        small_size: width and height during the first part of the run, cheaper; [0, 0] for none.
        small_until: share of the run at `small_size`.
        narrow_sizes: further inputs, for people who are long and narrow: widths and heights in turn, of upright ones
            ([128, 192, 96, 160] are two); people who lie see them turned. A step shows one of them. narrow_ratio: the
            shorter side of such a person's box over the longer, at most. narrow_share: of their samples seen so.
        gentle_from: share of the run from which on samples are changed half as much (see `gentle`).
        epochs: length of the run, unless `max_minutes` is given.
        max_minutes: budget that drives the whole schedule; 0 for none. Such a run can be resumed, but its
            learning rates depend on the machine's speed: only runs by epochs repeat bit for bit.
        clock: what `max_minutes` counts: "wall", or "processor": this process's processor time over its torch threads,
            so that other work on the machine takes nothing from the run (with `workers` 0 the loading counts too).
        epoch_samples: samples in an epoch; 0: as many as there are.
        batch: samples a network pass; `accumulate`: passes a step (per process).
        optimizer: "adamw" or "adam".
        lr: peak learning rate. schedule: "cosine", "step" (times `lr_factor` at each share of the run in `lr_steps`) or
            "constant". warmup: steps from 0 to the peak.
        weight_decay: of tensors with two or more dimensions.
        clip: largest norm of the gradient; 0 for none.
        ema: decay of the average of the weights that is validated and saved; 0 for none.
        precision: "float32", "bfloat16" or "float16" (CUDA only).
        speed: how a CUDA device is used: "auto" (kernels for DEKR's adaptive blocks, a fused optimizer, page-locked
            samples, convolutions measured before they are chosen), "compiled" (the same, and the network goes through
            torch.compile) or "plain" (none of it). On a CPU all are the same.
        codec: how a top-down model's maps are taught and read, a name of `posecli.codecs.top_down.TEACHING`; "" for the
            model's usual one.
        integral_heat: what the codec "integral" learns besides places: "none", "gaussian" (squared error of Gaussian
            maps, whose softmax is then sharpened) or "softmax" (cross-entropy). integral_weight: of that loss.
        sigma: of the Gaussian targets, map pixels. fine_sigma: of a cascade's fine maps, input pixels.
        phases: a cascade's shares of the run from which on its second network learns, and from which on both do.
        place_loss: what a model that gives places learns by: "squared" (a joint's squared distance) or "distance", with
            which wrong labels pull less. stage_shares: what each of its stages has of the run; none: all the same.
        rotation: standard deviation, cut at twice that, top-down; largest angle, bottom-up. rotation_any: share of
            samples turned by any angle.
        scale: least and largest factor on the size of the region shown, bottom-up.
        box_scale: least and largest side of the region over the side of the person's box, top-down.
        val_box_scale: that side when the model is used.
        shift: largest move of the region: share of its side, top-down; pixels, bottom-up.
        flip, half_body, grey, blur, noise, occlude, paste: share of samples. colour: strength, 0 to 1. fill: share of
            samples where a random colour instead of black lies beyond the picture. occlude: rectangles of another
            picture or one colour. paste: a person cut out of another picture stands before it; learnt bottom-up, in
            the way top-down.
        backdrop: share of samples whose person is cut out along its mask and stands before another picture, top-down
            and without clips; people without a mask stay where they are. backdrops: where these pictures are: a folder,
            or a text file that names them, one a line.
        min_joints: people with fewer labelled joints are not learnt from, top-down. min_side: nor are those with a
            longer box side below this many picture pixels. min_area: people whose annotated area is below this many
            square picture pixels have no centre to be learnt, bottom-up.
        clip_frames: frames of a sample: 1 for single pictures, more for clips of a video's frames in their order
            (pictures of no video are clips of one still scene); for DEKR and recurrent networks. One random change
            holds for all frames of a clip; `blur` is of some frames on end, `occlude` things that move through it.
        clip_steps: labelled frames from one frame of a clip to the next; each clip draws one of them.
        truncate: gradients flow back over this many frames of a clip; 0: over all.
        consistency: weight of the change, from frame to frame, of the difference between found and true poses.
        shake: largest movement of a hand-held camera during a clip, input pixels.
        dim, glare, compress: share of samples that are dark and noisy, exposed to white, compressed as JPEG.
        blur_most, noise_most: widest blur (standard deviation, input pixels) and strongest noise (grey levels) that
            single pictures get.
        unlabelled: people without labelled joints, bottom-up: "mask" (nothing is learnt where they are) or
            "background".
        val_every: whole epochs between validations (minutes with `max_minutes`). val_limit: pictures looked at, evenly
            spread; 0: all.
        metric: the best weights are chosen by it: "mean-oks" or "pck" (0.2 of the torso).
        save_every: minutes between saved states, besides those at the end of each epoch.
        workers: loader processes; 0 loads in the training process.
        threads: of torch in each process; 0 leaves torch's choice.
        tensorboard: also write TensorBoard events (package `tensorboard`, extra `train`).
        threshold: display threshold noted in the weights.
        model_arguments: further arguments of the model's builder as JSON, e.g. '{"channels": 96}'; none: those that the
            weights of `init` were built with, where they are of the same architecture.
    """

    model: str
    data: tuple[str, ...] = ()
    data_weights: tuple[float, ...] = ()
    image_root: tuple[str, ...] = ()
    val: str = ""
    val_image_root: str = ""
    skeleton: str = ""
    init: str = ""
    seed: int = 1
    input_size: tuple[int, int] = (128, 128)
    small_size: tuple[int, int] = (0, 0)
    small_until: float = 0.0
    narrow_sizes: tuple[int, ...] = ()
    narrow_ratio: float = 0.62
    narrow_share: float = 0.8
    gentle_from: float = 1.0
    epochs: int = 100
    max_minutes: float = 0.0
    clock: str = "wall"
    epoch_samples: int = 0
    batch: int = 32
    accumulate: int = 1
    optimizer: str = "adamw"
    lr: float = 1e-3
    schedule: str = "cosine"
    lr_steps: tuple[float, ...] = ()
    lr_factor: float = 0.1
    warmup: int = 300
    weight_decay: float = 0.05
    clip: float = 5.0
    ema: float = 0.999
    precision: str = "float32"
    speed: str = "auto"
    codec: str = ""
    integral_heat: str = "none"
    integral_weight: float = 1.0
    sigma: float = 2.0
    fine_sigma: float = 1.5
    phases: tuple[float, float] = (0.5, 0.75)
    place_loss: str = "squared"
    stage_shares: tuple[float, ...] = ()
    rotation: float = 22.0
    rotation_any: float = 0.0
    scale: tuple[float, float] = (0.75, 1.5)
    box_scale: tuple[float, float] = (1.1, 1.5)
    val_box_scale: float = 1.25
    shift: float = 0.12
    flip: float = 0.5
    half_body: float = 0.1
    colour: float = 0.5
    grey: float = 0.1
    blur: float = 0.1
    noise: float = 0.1
    occlude: float = 0.2
    paste: float = 0.0
    backdrop: float = 0.0
    backdrops: str = ""
    fill: float = 0.0
    min_joints: int = 1
    min_side: float = 0.0
    min_area: float = 0.0
    clip_frames: int = 1
    clip_steps: tuple[int, ...] = (1,)
    truncate: int = 0
    consistency: float = 0.0
    shake: float = 0.0
    dim: float = 0.0
    glare: float = 0.0
    compress: float = 0.0
    blur_most: float = 1.5
    noise_most: float = 12.0
    unlabelled: str = "mask"
    val_every: float = 1.0
    val_limit: int = 0
    metric: str = "mean-oks"
    save_every: float = 5.0
    workers: int = 1
    threads: int = 0
    tensorboard: bool = False
    threshold: float = 0.2
    model_arguments: str = "{}"

    def __post_init__(self) -> None:
        check_values(self)

    def narrow_inputs(self) -> list[tuple[int, int]]:
        """`narrow_sizes` as pairs of width and height."""
        return list(zip(self.narrow_sizes[::2], self.narrow_sizes[1::2], strict=False))

    def builder_arguments(self) -> dict[str, Any]:
        """`model_arguments` as a dictionary."""
        try:
            value = json.loads(self.model_arguments)
        except json.JSONDecodeError as error:
            raise UsageError(f"model_arguments: {error}", "training settings") from None
        if not isinstance(value, dict):
            raise UsageError("model_arguments is no JSON object", "training settings")
        return value


_GENTLER = (
    "rotation", "rotation_any", "shift", "half_body", "colour", "grey", "blur", "noise", "occlude", "paste",
    "backdrop", "shake", "dim", "glare", "compress",
)  # fmt: skip


def gentle(settings: TrainSettings) -> TrainSettings:
    """The settings with random changes of half the strength or share; mirroring and the colour beyond stay.

    A network that ends on samples like those it will meet ends better than one that is challenged to the last.
    """
    changes: dict[str, Any] = {key: getattr(settings, key) / 2 for key in _GENTLER}
    for key in ("scale", "box_scale"):
        low, high = getattr(settings, key)
        middle = math.sqrt(low * high)
        changes[key] = (math.sqrt(low * middle), math.sqrt(high * middle))
    return dataclasses.replace(settings, **changes)


def resolve(*layers: Mapping[str, Any]) -> TrainSettings:
    """Settings from layers, the first the weakest, over the defaults of the model they name. A layer that says epochs
    takes back the minutes (``max_minutes``) of those before it.

    Raises:
        UsageError: an unknown key, a value of another type or out of range, or no model.
    """
    types = get_type_hints(TrainSettings)
    given: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if key not in types:
                close = get_close_matches(key, types, 1)
                raise UsageError(f"unknown setting {key!r}", hint=f"did you mean {close[0]!r}?" if close else "")
            given[key] = _typed(key, value, types[key])
        if "epochs" in layer and "max_minutes" not in layer:
            given.pop("max_minutes", None)  # the later word on how long the run is
    if not given.get("model"):
        raise UsageError("no model", hint="give --model, or model = ... in the configuration")
    return TrainSettings(**(defaults(given["model"]) | given))


def _typed(key: str, value: Any, kind: Any) -> Any:
    """The value as the setting's type; strings are taken only where the type is a string."""

    def plain(item: Any, wanted: type) -> Any:
        if wanted is float and isinstance(item, int) and not isinstance(item, bool):
            return float(item)
        if not isinstance(item, wanted) or (wanted is not bool and isinstance(item, bool)):
            raise UsageError(f"{key} = {value!r}", "training settings", f"{_type_name(kind)} wanted")
        return item

    if get_origin(kind) is not tuple:
        return plain(value, kind)
    inner = get_args(kind)
    if not isinstance(value, (list, tuple)) or (inner[-1] is not Ellipsis and len(value) != len(inner)):
        raise UsageError(f"{key} = {value!r}", "training settings", f"{_type_name(kind)} wanted")
    return tuple(plain(item, inner[0]) for item in value)


def _type_name(kind: Any) -> str:
    if get_origin(kind) is not tuple:
        return {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}[kind.__name__]
    inner = get_args(kind)
    return "a list" if inner[-1] is Ellipsis else f"a list of {len(inner)}"
