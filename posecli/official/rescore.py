"""DEKR's rescoring net: ``final_rescore_*_kpt.pth`` of HRNet/DEKR@7a30313, or our own training's."""

from __future__ import annotations

from pathlib import Path

from posecli.checkpoint import load_into, read_parts
from posecli.errors import PoseError
from posecli.models.rescore import RESCORE_LIMBS, RESCORE_MODEL, RescoreNet
from posecli.official.reading import first_line, listing, read_state_dict
from posecli.skeletons import get_skeleton


def load_official_rescore(path: str | Path) -> tuple[RescoreNet, str]:
    """DEKR's rescoring net (``final_rescore_*_kpt.pth``) and the name of the skeleton it is for.

    Raises:
        PoseError: unreadable, or not the three linear layers with the features of a known skeleton.
    """
    state = read_state_dict(path)
    wanted = {f"l{n}.{kind}" for n in (1, 2, 3) for kind in ("weight", "bias")}
    if set(state) != wanted:
        raise PoseError(f"not a rescoring net; it differs in {listing(sorted(wanted ^ set(state)))}", str(path))
    features = {3 * len(limbs) + get_skeleton(name).num_keypoints: name for name, limbs in RESCORE_LIMBS.items()}
    count = state["l1.weight"].shape[-1]
    if count not in features:
        raise PoseError(f"a rescoring net of {count} features", str(path), f"known: {features}")
    network = RescoreNet(count, state["l1.weight"].shape[0])
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise PoseError(f"not a rescoring net: {first_line(error)}", str(path)) from None
    return network.eval(), features[count]


def load_rescore(path: str | Path) -> tuple[RescoreNet, str]:
    """A rescoring net, as `train --model dekr-rescore` writes it or an official one, and its skeleton's name.

    Raises:
        PoseError: unreadable, or no rescoring net.
    """
    if Path(path).suffix != ".safetensors":
        return load_official_rescore(path)
    state, meta = read_parts(path)["main"]
    if meta.architecture != RESCORE_MODEL:
        raise PoseError(f"not a rescoring net but {meta.architecture}", str(path), "--weights takes it")
    features = meta.arguments.get("features")
    if not isinstance(features, int) or features < 1:
        raise PoseError("the description of the rescoring net is incomplete", str(path))
    network = RescoreNet(features)
    load_into(network, state, str(path))
    return network.eval(), meta.skeleton.name
