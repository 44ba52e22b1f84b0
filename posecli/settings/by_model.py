"""What each family of models is trained with unless told otherwise, and where that comes from."""

from __future__ import annotations

from typing import Any

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
# The official configuration of the wider network: larger pictures, half as many of them.
_DEKR_W48 = {"input_size": (640, 640), "batch": 5}
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
# bearpaw/pytorch-pose@edc7aec, `example/main.py`: batches of 6, a tenth after 60 and 90 of 100 epochs. It steps by
# RMSprop, as the paper does; Adam at the same rate is nearest to it here.
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
# epochs, each of which shows everybody four times (`label_transform.py`: as they stand, mirrored, and twice turned by
# up to 45 degrees): 128 of ours, one sample in four mirrored. The usual region is 1.3 times the box; of it 0.7 to 1.35
# times are drawn, but never more than the 1.25 that were cut out before (`dataloader/mscocoMulti.py`): 0.91 to 1.625
# times the box. `sigma` is RefineNet's (a kernel of 7 pixels).
_CPN = {
    **_PLAIN, "input_size": (192, 256), "lr": 5e-4, "batch": 32, "epochs": 128, "weight_decay": 1e-5, "sigma": 1.4,
    "lr_steps": (6 / 32, 12 / 32, 18 / 32, 24 / 32, 30 / 32), "lr_factor": 0.5, "rotation": 22.5, "colour": 0.2,
    "box_scale": (0.91, 1.625), "val_box_scale": 1.3, "flip": 0.25,
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
# The same, `uniposeLSTM.py`: clips of five frames, one at a time, none mirrored. Its sigma of 1 is of targets as large
# as the picture (`utils/penn_action_data.py`: 368 x 368), which its maps of 46 x 46 cannot be compared with: there it
# would be an eighth of a pixel. Ours stays that of UniPose's maps.
_UNIPOSE_LSTM = {**_UNIPOSE, "batch": 1, "clip_frames": 5, "flip": 0.0}

#: Of an hourglass as in the paper, 4 halvings after a quarter; another depth has another.
FULL_HOURGLASS = 64
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
    **dict.fromkeys(("integral-hourglass", "hourglass", "hg"), FULL_HOURGLASS), "cpm": 8, "unipose": 16,
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

#: What single sizes of a family are trained with instead.
_OF_SIZE: dict[str, dict[str, Any]] = {"dekr-w48": _DEKR_W48}


def defaults(model: str) -> dict[str, Any]:
    """What a model is trained with unless told otherwise: its family's settings, or its own where it has such."""
    return MODEL_DEFAULTS.get(family(model), {}) | _OF_SIZE.get(model, {})


def family(model: str) -> str:
    """The family whose defaults a model has: ``dekr-w32`` has those of ``dekr``."""
    return next((name for name in MODEL_DEFAULTS if model == name or model.startswith(name + "-")), model)
