"""Values of options of `posecli infer` that are more than a number or a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posecli.cli.common import console, warn

if TYPE_CHECKING:
    from posecli.inference import PoseModel
    from posecli.person_boxes import BoxLookup
    from posecli.video import Input


def parse_batch(batch: str) -> int:
    """``--batch``: a number; of auto the one to begin with."""
    from posecli.errors import UsageError

    if batch == "auto":
        return 8
    if not batch.isdecimal() or int(batch) < 1:
        raise UsageError(f"--batch {batch}", hint="a number from 1 on, or auto")
    return int(batch)


def fitting_batch(network: PoseModel, sources: list[Input], quiet: bool) -> int:
    """``--batch auto``: as many pictures like those of the first source that opens as there is memory for."""
    from posecli.batching import fit_batch
    from posecli.errors import PoseError

    width, height = 1280, 720
    for source in sources:
        if source.kind not in ("video", "pictures"):
            break
        try:
            with source.open() as opened:
                width, height = opened.width, opened.height
            break
        except PoseError:  # told when its turn comes
            continue
    fit = fit_batch(network, width, height)
    if fit is None:
        warn("the memory in use cannot be measured here: --batch 8")
        return 8
    talk = f"batch {fit.batch}: a picture takes {fit.bytes_each / 1e6:.0f} MB of {fit.bytes_free / 1e9:.1f} GB"
    console(quiet).print(talk)
    return fit.batch


def parse_pose_nms(text: str | None) -> tuple[bool, float | None]:
    """``--pose-nms`` as (soft, OKS); None: as the weights say."""
    from posecli.errors import UsageError

    if text is None or text == "none":
        return False, None if text is None else 1.0
    soft, _, number = text.rpartition(":")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if soft not in ("", "soft") or not 0 < value <= 1:
        raise UsageError(f"--pose-nms {text}", hint="an OKS such as 0.9, soft:0.9, or none")
    return soft == "soft", value


def box_lookup(
    boxes: str | None, least: float, nms: float, network: PoseModel, sources: list[Input]
) -> BoxLookup | None:
    """``--boxes``: who says where people are in these sources; None: the model does.

    Raises:
        PoseError: the model takes no boxes, or the file has none for these sources.
    """
    from posecli.errors import UsageError
    from posecli.person_boxes import read_boxes, whole_picture

    if boxes is None:
        return None
    if not network.top_down:
        raise UsageError("--boxes is for top-down models", hint="leave it out: this model finds people itself")
    if boxes == "full":
        lookup = whole_picture(float(network.meta.extra.get("box_scale", 1.25)))
    else:
        lookup = read_boxes(boxes, least, nms, warn)
    lookup.check(sources)
    return lookup
