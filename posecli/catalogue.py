"""What there is to choose from: our networks, with size, input and reading; the shipped models; the public weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors import safe_open

from posecli.codecs.coords import PLACES
from posecli.models import MODELS
from posecli.models.outline import outline as outline
from posecli.official import RELEASES
from posecli.settings import family, resolve
from posecli.zoo import Entry, entries, local_file


@dataclass(frozen=True)
class Architecture:
    """One network of ours.

    Attributes:
        name: what ``train --model`` takes.
        parameters: how many, with 17 keypoints.
        input_size: (width, height) that ``train`` starts from; None where it is not trained by ``posecli train``.
        recipe: family by whose training defaults it learns; "" where ``train`` does not take it.
        codec: how its maps are read; "" where ``train`` has no recipe.
        skeletons: of its public weights; after training it gives the joints of the data.
        weights: public files that it reads. shipped: models that come with posecli and have this network in them.
        paper: first line of the network's documentation.
    """

    name: str
    parameters: int
    input_size: tuple[int, int] | None
    recipe: str
    codec: str
    skeletons: tuple[str, ...]
    weights: int
    shipped: tuple[str, ...]
    paper: str


def architectures(word: str = "") -> list[Architecture]:
    """The networks with this in their name, in the order of `MODELS`."""
    found = []
    along = {model: _networks_in(model) for model in shipped()}
    for name, builder in MODELS.items():
        if word not in name:
            continue
        network = outline(builder, keypoints=17)
        recipe = "" if name.endswith("-finder") else family(name)
        settings = resolve({"model": name}) if recipe else None
        public = [e for e in entries() if e.architecture == name and e.offered]
        released = [r.skeleton for r in RELEASES if r.architecture == name and r.published]
        document = (__import__(type(network).__module__, fromlist=["_"]).__doc__ or "").strip().splitlines()
        found.append(
            Architecture(
                name,
                sum(p.numel() for p in network.parameters()),
                settings.input_size if settings else None,
                recipe,
                _codec(name, settings),
                tuple(dict.fromkeys(released)),
                len(public),
                tuple(model for model, networks in along.items() if name in networks),
                document[0] if document else "",
            )
        )
    return found


def _codec(name: str, settings: Any) -> str:
    """The reading that a training run of this network notes in its weights."""
    if settings is None:
        return ""
    usual = {"dekr": "dekr", "dekr-gru": "dekr", "pose-fpn": "softmax", "deeppose": PLACES, "deeppose-resnet": PLACES}
    return str(getattr(settings, "codec", "") or usual.get(family(name), "gaussian"))


def _networks_in(model: str) -> list[str]:
    """Architectures of a model that comes with the package: its own, and that of its finder."""
    with safe_open(str(resources.files("posecli") / "weights" / f"{model}.safetensors"), framework="np") as handle:
        told = json.loads(handle.metadata()["posecli"])
    return [part["architecture"] for part in (told["meta"], told["finder"]) if part]


def shipped() -> list[str]:
    """Names of the models that come with the package."""
    folder = Path(str(resources.files("posecli"))) / "weights"
    return sorted(p.stem for p in folder.glob("*.safetensors"))


def public(entry: Entry) -> Mapping[str, Any]:
    """A public file as plain values, with whether it is offered, fetched by hand, and here."""
    return {**asdict(entry), "offered": entry.offered, "by_hand": entry.by_hand, "here": local_file(entry).is_file()}
