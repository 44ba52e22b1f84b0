"""Settings of a training run: defaults by model, a flat TOML file over them, the command line over both.

Every key of the TOML file is an option of `posecli train` (with ``_`` for ``-``) or goes through ``--set key=value``;
an unknown key or a value of another type is an error, never ignored. The resolved settings are written to the run
folder, and reading them back gives the same run.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from posecli.errors import PoseError, UsageError, reason

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
        def wrong(key: str, wanted: str) -> UsageError:
            return UsageError(f"{key} = {getattr(self, key)!r}", "training settings", wanted)

        choices = {
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
        for key, known in choices.items():
            if getattr(self, key) not in known:
                raise wrong(key, f"one of {', '.join(known)}")
        for key in ("epochs", "batch", "accumulate", "clip_frames"):
            if getattr(self, key) < 1:
                raise wrong(key, "at least 1")
        if self.integral_heat != "none" and self.codec != "integral":
            raise wrong("integral_heat", 'codec = "integral" is needed too')
        for key, usual in (("place_loss", "squared"), ("stage_shares", ())):
            if getattr(self, key) != usual and not family(self.model).startswith("deeppose"):
                raise wrong(key, "is for models that give places in stages: deeppose")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise wrong(field.name, "a finite number")
        if not self.max_minutes and self.val_every != int(self.val_every):
            raise wrong("val_every", "whole epochs (minutes with max_minutes)")
        for key in ("lr", "integral_weight", "sigma", "fine_sigma", "val_every", "save_every", "val_box_scale"):
            if not getattr(self, key) > 0:
                raise wrong(key, "more than 0")
        for key in (
            "workers",
            "threads",
            "warmup",
            "epoch_samples",
            "val_limit",
            "max_minutes",
            "weight_decay",
            "clip",
            "rotation",
            "shift",
            "min_side",
            "min_area",
            "truncate",
            "consistency",
            "shake",
        ):
            if getattr(self, key) < 0:
                raise wrong(key, "0 or more")
        for key in (
            "rotation_any",
            "flip",
            "half_body",
            "grey",
            "blur",
            "noise",
            "occlude",
            "fill",
            "small_until",
            "narrow_ratio",
            "narrow_share",
            "gentle_from",
            "paste",
            "backdrop",
            "colour",
            "dim",
            "glare",
            "compress",
        ):
            if not 0 <= getattr(self, key) <= 1:
                raise wrong(key, "between 0 and 1")
        for key, least in (("blur_most", 0.3), ("noise_most", 1.0)):
            if getattr(self, key) < least:
                raise wrong(key, f"at least {least:g}")
        if not self.clip_steps or any(step < 1 for step in self.clip_steps):
            raise wrong("clip_steps", "whole numbers from 1 on")
        for key in ("truncate", "consistency", "shake"):
            if self.clip_frames == 1 and getattr(self, key):
                raise wrong(key, "is for clips: clip_frames must be more than 1")
        if bool(self.backdrop) != bool(self.backdrops):
            raise wrong("backdrop" if self.backdrops else "backdrops", "the one needs the other: a share and a folder")
        for key in ("paste", "backdrop", "half_body", "rotation_any"):
            if _clips(self) and getattr(self, key):
                raise wrong(key, "is not for clips, nor for networks that learn from them")
        if not 0 <= self.ema < 1:
            raise wrong("ema", "0 or more and below 1")
        for key in ("scale", "box_scale"):
            low, high = getattr(self, key)
            if not 0 < low <= high:
                raise wrong(key, "two positive numbers, the smaller first")
        step = SIZE_STEPS.get(family(self.model), 32)
        depth = self.builder_arguments().get("depth")
        if step == _FULL_HOURGLASS and isinstance(depth, int) and 1 <= depth <= 8:
            step = 4 * 2**depth
        if len(self.narrow_sizes) % 2 or any(w >= h for w, h in self.narrow_inputs()):
            raise wrong("narrow_sizes", "pairs of a width and a larger height, in turn: [128, 192, 96, 160]")
        if self.narrow_sizes and _clips(self):
            raise wrong("narrow_sizes", "is not for clips, nor for networks that learn from them")
        for key, sizes in (
            ("input_size", self.input_size),
            ("small_size", self.small_size),
            ("narrow_sizes", self.narrow_sizes),
        ):
            if any(n % step or n < 0 for n in sizes) or (key == "input_size" and min(sizes) < step):
                raise wrong(key, f"multiples of {step}")
        if self.small_until > 0 and min(self.small_size) < step:
            raise wrong("small_until", "small_size is needed too")
        for key in ("data_weights", "image_root"):
            if getattr(self, key) and len(getattr(self, key)) != len(self.data):
                raise wrong(key, f"one for each of the {len(self.data)} data files, or none")
        if any(not w > 0 for w in self.data_weights):
            raise wrong("data_weights", "positive numbers")
        if not 0 <= self.phases[0] <= self.phases[1] <= 1:
            raise wrong("phases", "two shares of the run, the earlier first")
        if any(not s > 0 for s in self.stage_shares):
            raise wrong("stage_shares", "positive numbers, one for each stage")
        if any(not 0 < s < 1 for s in self.lr_steps) or list(self.lr_steps) != sorted(self.lr_steps):
            raise wrong("lr_steps", "rising shares of the run, between 0 and 1")
        self.builder_arguments()

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


# HRNet: Sun et al., CVPR 2019, Sec. 4.1 (turned by at most 45 degrees; the official configuration's deviation is 45, of
# three samples in five; its scales are normal, ours log-uniform); DEKR: Geng et al., CVPR 2021, Sec. 4.1, and its
# official configuration.
_HRNET = {
    "input_size": (192, 256), "optimizer": "adam", "lr": 1e-3, "schedule": "step", "epochs": 210,
    "lr_steps": (170 / 210, 200 / 210), "weight_decay": 0.0, "sigma": 2.0, "rotation": 22.5, "box_scale": (0.8, 1.7),
    "half_body": 0.3, "shift": 0.0, "colour": 0.0, "grey": 0.0, "blur": 0.0, "noise": 0.0, "occlude": 0.0, "ema": 0.0,
    "warmup": 0, "clip": 0.0,
}  # fmt: skip
_DEKR = {
    "input_size": (512, 512), "optimizer": "adam", "lr": 1e-3, "schedule": "step", "epochs": 140,
    "lr_steps": (90 / 140, 120 / 140), "weight_decay": 0.0, "sigma": 2.0, "rotation": 30.0, "scale": (0.75, 1.5),
    "shift": 40.0, "half_body": 0.0, "colour": 0.0, "grey": 0.0, "blur": 0.0, "noise": 0.0, "occlude": 0.0, "ema": 0.0,
    "warmup": 0, "clip": 0.0, "batch": 10, "min_area": 32.0**2,
}  # fmt: skip
# DEKR's on clips, a third as many of them; what makes single frames hard (blur, things in the way, darkness,
# compression) is there to be learnt. Figures of ours (docs/temporal.md).
_DEKR_GRU = {
    **_DEKR, "epochs": 40, "batch": 4, "clip": 5.0, "colour": 0.3, "grey": 0.05, "noise": 0.1, "blur": 0.3,
    "occlude": 0.5, "clip_frames": 8, "clip_steps": (1, 2, 3), "truncate": 4, "consistency": 0.03, "shake": 12.0,
    "dim": 0.15, "compress": 0.15,
}  # fmt: skip
# Its official configuration.
_RESCORE = {"optimizer": "adam", "lr": 1e-3, "schedule": "constant", "epochs": 20, "batch": 1024}
_POSE_FPN = {
    "input_size": (128, 128), "optimizer": "adamw", "lr": 2e-3, "schedule": "cosine", "sigma": 1.3,
    "box_scale": (0.96, 1.5), "val_box_scale": 1.2, "rotation_any": 0.06, "fill": 0.5, "min_joints": 5,
    "min_side": 40.0,
}  # fmt: skip

# What the papers of single-person networks do not do.
_PLAIN: dict[str, Any] = {
    "optimizer": "adam", "schedule": "step", "weight_decay": 0.0, "half_body": 0.0, "shift": 0.0, "colour": 0.0,
    "grey": 0.0, "blur": 0.0, "noise": 0.0, "occlude": 0.0, "ema": 0.0, "warmup": 0, "clip": 0.0,
}  # fmt: skip
# princeton-vl/pytorch_stacked_hourglass@ceedc14, README and `data/MPII/dp.py`: Adam at 1e-3 in batches of 16, 200,000
# steps (144 epochs of MPII), a fifth after half of them; turned by up to 30 degrees, 0.75 to 1.25 times the usual
# region. The paper (Sec. 3.2) has RMSprop at 2.5e-4, which its authors found worse there.
_HOURGLASS = {
    **_PLAIN, "input_size": (256, 256), "lr": 1e-3, "batch": 16, "epochs": 144, "lr_steps": (0.5,), "lr_factor": 0.2,
    "sigma": 1.0, "rotation": 15.0, "box_scale": (0.94, 1.56), "colour": 0.3,
}  # fmt: skip
# bearpaw/pytorch-pose@edc7aec, `example/main.py`: batches of 6, a tenth after 60 and 90 of 100 epochs.
_HG = {
    **_HOURGLASS, "lr": 2.5e-4, "batch": 6, "epochs": 100, "lr_steps": (0.6, 0.9), "lr_factor": 0.1, "rotation": 30.0,
}  # fmt: skip

# microsoft/human-pose-estimation.pytorch@49f3f44, `experiments/coco/resnet50/256x192_d256x3_adam_lr1e-3.yaml`: a tenth
# after 90 and 120 of 140 epochs, turned by 40 degrees (one deviation), 0.7 to 1.3 times the usual region.
_SIMPLE_BASELINE = {
    **_PLAIN, "input_size": (192, 256), "lr": 1e-3, "batch": 32, "epochs": 140, "lr_steps": (90 / 140, 120 / 140),
    "sigma": 2.0, "rotation": 40.0, "box_scale": (0.875, 1.625),
}  # fmt: skip
# MVIG-SJTU/AlphaPose@c60106d, `configs/coco/resnet/256x192_res50_lr1e-3_1x.yaml`, without its last 60 epochs on
# proposals made from poses.
_FASTPOSE = {**_SIMPLE_BASELINE}
# JimmySuen/integral-human-pose@ad3f875, `experiments/hm36/resnet50v1_ft/
# d-mh_ps-256_deconv256x3_min-int-l1_adam_bs32-4gpus_x300-270-290/lr1e-3.yaml`: a tenth after 270 and 290 of 300 epochs.
# Samples are changed as SimpleBaseline's, by the same authors.
_INTEGRAL = {
    **_SIMPLE_BASELINE, "codec": "integral", "input_size": (256, 256), "epochs": 300, "lr_steps": (0.9, 290 / 300),
}  # fmt: skip
# The paper's Sec. 4.2 (turned by up to 40 degrees, 0.7 to 1.3 times the usual region, 368 x 368); optimizer and targets
# of open-mmlab/mmpose@759b39c, `td-hm_cpm_8xb64-210e_mpii-368x368.py`.
_CPM = {
    **_PLAIN, "input_size": (368, 368), "lr": 5e-4, "batch": 32, "epochs": 210, "lr_steps": (170 / 210, 200 / 210),
    "warmup": 500, "sigma": 2.0, "rotation": 20.0, "box_scale": (0.88, 1.63),
}  # fmt: skip
# The paper's Sec. 4.1 and GengDavid/pytorch-cpn@48696a9, `256.192.model/config.py`: the rate is halved every 6 of 32
# epochs; 0.7 to 1.35 times the usual region, turned by up to 45 degrees; `sigma` is RefineNet's (a kernel of 7 pixels).
_CPN = {
    **_PLAIN, "input_size": (192, 256), "lr": 5e-4, "batch": 32, "epochs": 32, "weight_decay": 1e-5, "sigma": 1.4,
    "lr_steps": (6 / 32, 12 / 32, 18 / 32, 24 / 32, 30 / 32), "lr_factor": 0.5, "rotation": 22.5, "colour": 0.2,
    "box_scale": (0.91, 1.75), "val_box_scale": 1.3,
}  # fmt: skip
# The CVPR 2015 paper's Sec. 3.1 and 3.3: 256 x 256 for MPII, sigma 1.5, turned by up to 20 degrees, 0.5 to 1.5 times
# the usual size; the NIPS 2014 paper learns by RMSprop with momentum, which Adam is nearest to. Rate, its schedule and
# the lengths of the phases are ours.
_TOMPSON = {
    **_PLAIN, "codec": "cascade", "input_size": (256, 256), "lr": 3e-4, "schedule": "cosine", "batch": 16,
    "epochs": 100, "sigma": 1.5, "fine_sigma": 1.5, "rotation": 10.0, "box_scale": (0.83, 2.5),
}  # fmt: skip
# bmartacho/UniPose@bf53632, `unipose.py`: Adam at 1e-4 in batches of 8, times 0.333 every 13275 steps of up to 137500;
# mirrored and nothing else.
_UNIPOSE = {
    **_PLAIN, "input_size": (368, 368), "lr": 1e-4, "batch": 8, "epochs": 100, "lr_factor": 0.333, "sigma": 3.0,
    "lr_steps": tuple(0.0965 * n for n in range(1, 11)), "rotation": 0.0, "box_scale": (1.25, 1.25),
}  # fmt: skip
# The same, `uniposeLSTM.py`: clips of five frames, one at a time.
_UNIPOSE_LSTM = {**_UNIPOSE, "batch": 1, "clip_frames": 5}

# Of an hourglass as in the paper, 4 halvings after a quarter; another depth has another.
_FULL_HOURGLASS = 64
# The paper's Sec. 3.1 and 4.1: stage 1 sees 220 x 220 pixels (the network twice that, see its module), batches of 128,
# adaptive steps from 0.0005 on; moved at random and mirrored, and nothing else. AdaGrad's steps shrink by themselves,
# Adam's here by a cosine in each stage. The number of epochs is ours.
_DEEPPOSE = {
    **_PLAIN, "schedule": "cosine", "input_size": (440, 440), "lr": 5e-4, "batch": 128, "epochs": 300, "rotation": 0.0,
    "shift": 0.12, "box_scale": (1.25, 1.25),
}  # fmt: skip
_DEEPPOSE_RESNET = {**_DEEPPOSE, "input_size": (448, 448)}

#: Widths and heights are multiples of this, by family; 32 where nothing is said.
SIZE_STEPS = {
    "deeppose": 2,
    **dict.fromkeys(("integral-hourglass", "hourglass", "hg"), _FULL_HOURGLASS), "cpm": 8, "unipose": 16,
    "unipose-lstm": 16, "tompson": 16,
}  # fmt: skip

MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "hrnet": _HRNET,
    "dekr-rescore": _RESCORE,  # before "dekr", whose name it begins with
    "dekr-gru": _DEKR_GRU,
    "dekr": _DEKR,
    "pose-fpn": _POSE_FPN,
    "simple-baseline": _SIMPLE_BASELINE,
    "fastpose": _FASTPOSE,
    "integral-hourglass": _INTEGRAL,  # before "integral"; its sizes are the hourglass's
    "integral": _INTEGRAL,
    "deeppose-resnet": _DEEPPOSE_RESNET,  # before "deeppose"
    "deeppose": _DEEPPOSE,
    "hourglass": _HOURGLASS,
    "hg": _HG,
    "cpm": _CPM,
    "cpn": _CPN,
    "unipose-lstm": _UNIPOSE_LSTM,  # before "unipose"
    "unipose": _UNIPOSE,
    "tompson": _TOMPSON,
}


def family(model: str) -> str:
    """The family whose defaults a model has: ``dekr-w32`` has those of ``dekr``."""
    return next((name for name in MODEL_DEFAULTS if model == name or model.startswith(name + "-")), model)


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
    return TrainSettings(**(MODEL_DEFAULTS.get(family(given["model"]), {}) | given))


def _clips(settings: TrainSettings) -> bool:
    """Whether samples are made by the code for clips; clips of one frame are, too."""
    return settings.clip_frames > 1 or family(settings.model) in ("dekr-gru", "unipose-lstm")


_ONE_PERSON, _WHOLE, _CASCADE = "see one person", "see whole pictures", "have a second network: tompson"
_SINGLE = "learn from single pictures"
# What only some models know: there it would change nothing.
_KNOWN_BY = {
    **dict.fromkeys(("box_scale", "val_box_scale", "rotation_any", "half_body", "min_joints", "min_side"), _ONE_PERSON),
    **dict.fromkeys(("narrow_sizes", "narrow_ratio", "narrow_share"), _ONE_PERSON),
    **dict.fromkeys(("scale", "min_area", "unlabelled"), _WHOLE),
    **dict.fromkeys(("fine_sigma", "phases"), _CASCADE),
    **dict.fromkeys(("blur_most", "noise_most"), _SINGLE),
}


def check_meaning(settings: TrainSettings) -> None:
    """UsageError where something was set that means nothing for the model; for new runs, old ones go on as they are."""
    kinds = {"dekr": {_WHOLE}, "dekr-gru": {_WHOLE}, "tompson": {_ONE_PERSON, _CASCADE}}
    known = kinds.get(family(settings.model), {_ONE_PERSON}) | (set() if _clips(settings) else {_SINGLE})
    usual = resolve({"model": settings.model})
    for key, wanted in _KNOWN_BY.items():
        if wanted not in known and getattr(settings, key) != getattr(usual, key):
            what = f"{key} means nothing for {settings.model}"
            raise UsageError(what, "training settings", f"for models that {wanted}")
    for key, other, wanted in (
        ("lr_steps", "schedule", "step"),
        ("lr_factor", "schedule", "step"),
        ("integral_weight", "integral_heat", "gaussian"),
    ):
        now = getattr(settings, other)
        if getattr(settings, key) != getattr(usual, key) and now in ("none", "cosine", "constant"):
            hint = f"--set {other}={wanted} goes with it"
            raise UsageError(f"{key} means nothing with {other} = {now!r}", "training settings", hint)


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


def read_toml(path: str | Path) -> dict[str, Any]:
    """A flat TOML file of settings; paths in it are relative to the file's folder. PoseError when it can't be read."""
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PoseError(f"cannot read the configuration: {reason(error)}", str(path)) from None
    tables = [key for key, value in values.items() if isinstance(value, dict)]
    if tables:
        raise PoseError(f"table [{tables[0]}]", str(path), "the configuration is flat: key = value lines only")

    def beside(name: Any) -> Any:
        return str(path.parent / name) if isinstance(name, str) and name else name

    for key in ("val", "val_image_root", "backdrops"):
        if key in values:
            values[key] = beside(values[key])
    for key in ("data", "image_root"):
        if isinstance(values.get(key), list):
            values[key] = [beside(name) for name in values[key]]
    # A bare name (coco17, default) is no path.
    for key in ("skeleton", "init"):
        if isinstance(values.get(key), str) and (path.parent / values[key]).is_file():
            values[key] = beside(values[key])
    return values


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs of ``--set``; values in TOML, bare words are text. UsageError when one has no ``=``."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment}", hint="key=value wanted")
        try:
            values[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = text.strip()
    return values


def to_toml(settings: TrainSettings) -> str:
    """The settings as a TOML file that `read_toml` and `resolve` turn into the same settings."""

    def literal(value: Any) -> str:
        if isinstance(value, tuple):
            return f"[{', '.join(literal(item) for item in value)}]"
        # JSON's strings, numbers and booleans are TOML's too, but for its escapes in pairs; repr keeps every digit of a
        # float. What is no text at all (names of files in other bytes) is escaped all the same: it can be written.
        if isinstance(value, float):
            return repr(value)
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()

    return "".join(f"{f.name} = {literal(getattr(settings, f.name))}\n" for f in fields(settings))


def absolute_paths(settings: TrainSettings, *, followed: bool = False) -> TrainSettings:
    """The settings with all paths absolute, so that the run folder can be resumed from anywhere; ``followed``: without
    links and ``..``, so that one file has one name."""

    def full(name: str) -> str:
        return str(Path(name).resolve() if followed else Path(name).absolute()) if name else name

    def full_file(name: str) -> str:
        return full(name) if name and Path(name).is_file() else name

    return dataclasses.replace(
        settings,
        data=tuple(map(full, settings.data)),
        image_root=tuple(map(full, settings.image_root)),
        val=full(settings.val),
        val_image_root=full(settings.val_image_root),
        backdrops=full(settings.backdrops),
        skeleton=full_file(settings.skeleton),
        init=full_file(settings.init),
    )
