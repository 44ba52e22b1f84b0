"""Weights files: what is saved comes back; what is not a weights file is told in one line."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import posecli
from posecli.checkpoint import (
    ModelMeta,
    load_checkpoint,
    load_finder,
    load_into,
    lossless,
    read_parts,
    save_model,
)
from posecli.errors import PoseError
from posecli.models import MODELS
from posecli.models.int8 import whole_kernel
from posecli.models.outline import outline
from posecli.skeletons import COCO17

META = ModelMeta("hrnet-tiny", {"keypoints": 17}, COCO17, (64, 64), codec="gaussian", extra={"licence": "none"})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(tmp_path / "w.safetensors", MODELS["hrnet-tiny"](keypoints=17), META)
    return tmp_path / "w.safetensors"


def test_description_and_tensors_come_back(weights: Path) -> None:
    network, meta = load_checkpoint(weights)
    assert meta == META and not network.training
    torch.manual_seed(0)
    original = MODELS["hrnet-tiny"](keypoints=17).state_dict()
    assert all(torch.equal(value, original[name]) for name, value in network.state_dict().items())
    assert load_finder(weights) is None


@pytest.mark.parametrize("name", [n for n in MODELS if n.endswith("-tiny")] + ["pose-fpn", "dekr-gru-finder"])
def test_a_network_that_is_read_is_the_one_that_was_built(name: str, tmp_path: Path) -> None:
    """Also what stands in no file: buffers that are made anew, types, order of values, what learns."""
    arguments = {"keypoints": 17}
    torch.manual_seed(1)
    built = MODELS[name](**arguments).eval()
    for value in built.state_dict().values():
        value.copy_(torch.rand_like(value, dtype=torch.float32) * 9)  # counts and norms too
    save_model(tmp_path / "w.safetensors", built, ModelMeta(name, arguments, COCO17, (64, 64)))
    read, _ = load_checkpoint(tmp_path / "w.safetensors")

    def tensors(network: nn.Module) -> dict[str, torch.Tensor]:
        found = dict(chain(network.named_parameters(remove_duplicate=False), network.named_buffers()))
        for place, module in network.named_modules():  # neither parameter nor buffer
            found |= {f"{place}.{n}": v for n, v in vars(module).items() if isinstance(v, torch.Tensor)}
        return found

    ours, theirs = tensors(read), tensors(built)
    assert set(ours) == set(theirs)
    for one, other in ((ours[n], theirs[n]) for n in ours):
        assert torch.equal(one, other) and one.dtype == other.dtype and one.stride() == other.stride()
        assert one.requires_grad == other.requires_grad and type(one) is type(other)


def test_weights_written_over_while_they_are_used(weights: Path) -> None:
    network, _ = load_checkpoint(weights)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weights.write_bytes(bytes(weights.stat().st_size))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_bfloat16_halves_the_file_and_loads_as_float32(weights: Path, tmp_path: Path) -> None:
    network, meta = load_checkpoint(weights)
    save_model(tmp_path / "half.safetensors", network, meta, dtype=torch.bfloat16)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * weights.stat().st_size
    again, _ = load_checkpoint(tmp_path / "half.safetensors")
    for name, value in again.state_dict().items():
        assert value.dtype == network.state_dict()[name].dtype
        assert torch.allclose(value.float(), network.state_dict()[name].float(), rtol=0.01, atol=1e-6)


def test_eight_bits_quarter_the_file(weights: Path, tmp_path: Path) -> None:
    network, meta = load_checkpoint(weights)
    eighth = tmp_path / "eight.safetensors"
    save_model(eighth, network, meta, eight_bits=True)
    wide = sum(v.numel() for v in network.state_dict().values() if v.dim() == 4 and v.numel() >= 4096)
    assert wide > 10_000 and weights.stat().st_size - eighth.stat().st_size > 2.9 * wide
    again, _ = load_checkpoint(eighth)
    for name, value in again.state_dict().items():
        original = network.state_dict()[name]
        assert value.dtype == original.dtype
        if value.dim() == 4 and value.numel() >= 4096:
            step = original.abs().amax((1, 2, 3), keepdim=True) / 127
            assert (value - original).abs().le(0.501 * step).all() and not torch.equal(value, original)
        else:
            assert torch.equal(value, original)
    assert lossless(network.state_dict().values()) == (None, False)
    with safe_open(str(eighth), "pt") as stored:
        assert not [name for name in stored.keys() if name.endswith("num_batches_tracked")]  # noqa: SIM118 (not a dict)
    assert any(name.endswith("num_batches_tracked") for name in again.state_dict())


def test_few_bits_are_kept_where_they_lose_nothing(weights: Path, tmp_path: Path) -> None:
    network, meta = load_checkpoint(weights)
    for dtype, eight_bits in ((None, True), (torch.bfloat16, False), (torch.bfloat16, True)):
        save_model(tmp_path / "w.safetensors", network, meta, dtype=dtype, eight_bits=eight_bits)
        once, _ = load_checkpoint(tmp_path / "w.safetensors")
        assert lossless(once.state_dict().values()) == (dtype, eight_bits)
        save_model(tmp_path / "w.safetensors", once, meta, dtype=dtype, eight_bits=eight_bits)
        twice, _ = load_checkpoint(tmp_path / "w.safetensors")
        assert all(torch.equal(v, twice.state_dict()[n]) for n, v in once.state_dict().items())


def test_eight_bits_are_those_that_whole_numbers_compute_with() -> None:
    torch.manual_seed(3)
    kernel = torch.randn(6, 4, 3, 3) * torch.rand(6, 1, 1, 1)
    folded = torch.tensor([0.3, -2.0, 1.0, 0.01, 5.0, 1.5]).view(-1, 1, 1, 1)  # a norm's factors
    stored, scale = whole_kernel(kernel)
    read = stored * scale.view(-1, 1, 1, 1)
    assert torch.equal(whole_kernel(read * folded)[0], whole_kernel(kernel * folded)[0])


def test_a_channel_of_zeros_stays_so(tmp_path: Path) -> None:
    kernel = torch.randn(64, 16, 3, 3)
    kernel[5] = 0
    save_model(tmp_path / "w.safetensors", {"a": kernel}, META, eight_bits=True)
    read = read_parts(tmp_path / "w.safetensors")["main"][0]
    assert set(read) == {"a"} and bool((read["a"][5] == 0).all())


@pytest.mark.parametrize("scale", [torch.ones(3), torch.ones(64, dtype=torch.int64), torch.ones(64, 1), torch.ones(())])
def test_scales_that_do_not_fit(tmp_path: Path, scale: torch.Tensor) -> None:
    description = {"version": 1, "meta": META.to_json(), "finder": None}
    tensors = {"a": torch.ones(64, 16, 3, 3, dtype=torch.int8), "a.scale": scale}
    save_file(tensors, str(tmp_path / "w.safetensors"), metadata={"posecli": json.dumps(description)})
    with pytest.raises(PoseError, match=r"a\.scale does not fit"):
        read_parts(tmp_path / "w.safetensors")


def test_two_networks_in_one_file_stay_apart(tiny_model: Path) -> None:
    parts = read_parts(tiny_model)
    for name, (state, meta) in parts.items():
        ((alone, of_it),) = read_parts(tiny_model, [name]).values()
        assert of_it == meta and set(alone) == set(state)
    assert set(parts) == {"main", "finder"}
    assert parts["main"][1].codec == "softmax" and parts["finder"][1].codec == "people"
    assert not any(name.startswith("finder.") for name in parts["finder"][0])


def test_an_interrupted_save_leaves_the_old_file(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = weights.read_bytes()

    def fail(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(weights, MODELS["hrnet-tiny"](keypoints=17), META)
    assert weights.read_bytes() == before
    assert [p.name for p in weights.parent.iterdir()] == [weights.name]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a complete safetensors"),
        (b"this is text, not weights", "not a complete safetensors"),
        (None, "not a complete safetensors"),
        ("no description", "no model description"),
        ("half a description", "incomplete"),
        ("unknown architecture", "unknown architecture"),
    ],
)
def test_files_that_are_no_weights(weights: Path, content: bytes | str | None, words: str) -> None:
    if content is None:
        weights.write_bytes(weights.read_bytes()[:-100])
    elif isinstance(content, bytes):
        weights.write_bytes(content)
    else:
        meta = META.to_json() | ({"architecture": "brain"} if content.startswith("unknown") else {})
        if content.startswith("half"):
            del meta["skeleton"]
        description = json.dumps({"version": 1, "meta": meta, "finder": None})
        save_file({"a": torch.zeros(1)}, weights, None if content.startswith("no") else {"posecli": description})
    with pytest.raises(PoseError, match=words) as caught:
        posecli.load_model(weights, device="cpu")
    assert str(weights) in str(caught.value) and "\n" not in str(caught.value)


def _claim(weights: Path, change: Callable[[dict[str, Any], dict[str, Any]], object], length: int = 0) -> None:
    """Changes the header of a file (its tensors' entries, and posecli's description), not its data."""
    raw = weights.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8 : 8 + size])
    description = json.loads(head["__metadata__"]["posecli"])
    change(head, description["meta"])
    if head["__metadata__"]["posecli"].startswith("{"):
        head["__metadata__"]["posecli"] = json.dumps(description)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    weights.write_bytes(struct.pack("<Q", length or len(text)) + text + raw[8 + size :])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda head, meta: head["conv1.weight"].update(data_offsets=[0, 1 << 50]), "not a complete"),
        (lambda head, meta: head["conv1.weight"].update(data_offsets=[4, 8]), "not a complete"),
        (lambda head, meta: head["conv1.weight"].update(shape=[1 << 40]), "not a complete"),
        (lambda head, meta: head["conv1.weight"].update(shape=[1 << 32, 1 << 32, 16]), "not a complete"),
        (lambda head, meta: head["conv1.weight"].update(shape=[-1]), "not a complete"),
        (lambda head, meta: head["conv1.weight"].update(dtype="F640"), "not a complete"),
        (lambda head, meta: head["conv1.weight"]["shape"].reverse(), "1 of another shape: conv1.weight"),
        (lambda head, meta: head["__metadata__"].update(posecli="[" * 100_000), "cannot be read"),
        (lambda head, meta: head["__metadata__"].update(posecli="9" * 5_000), "cannot be read"),
        (lambda head, meta: meta["arguments"].update(keypoints=10**9), "of another shape"),  # 32 GB
        (lambda head, meta: meta["arguments"].update(keypoints=10**30), "hrnet-tiny: "),
        (lambda head, meta: meta["arguments"].update(keypoints="many"), "hrnet-tiny: "),
        (lambda head, meta: meta["arguments"].update(surprise=1), "surprise"),
        (lambda head, meta: meta.update(input_size=[10**9, 64]), "incomplete.*no input size"),
        (lambda head, meta: meta.update(input_size=[0, -5]), "incomplete.*no input size"),
        (lambda head, meta: meta.update(input_size=[0, 0]), "hrnet-tiny for pictures of 0 x 0"),
        (lambda head, meta: meta.update(mean=[float("nan")] * 3), "incomplete.*finite"),
        (lambda head, meta: meta.update(std=[0, 1, 1]), "incomplete.*above 0"),
        (lambda head, meta: meta.update(codec="../../x"), "unknown codec"),
    ],
)
def test_headers_that_lie(
    weights: Path, change: Callable[[dict[str, Any], dict[str, Any]], object], words: str
) -> None:
    """One clear error at once, whatever size is claimed."""
    _claim(weights, change)
    with pytest.raises(PoseError, match=words) as caught:
        posecli.load_model(weights, device="cpu")
    assert str(weights) in str(caught.value) or "codec" in words


@pytest.mark.parametrize("length", [1 << 20, 1 << 40, 1 << 63])
def test_a_header_longer_than_the_file(weights: Path, length: int) -> None:
    _claim(weights, lambda head, meta: None, length)
    with pytest.raises(PoseError, match="not a complete safetensors"):
        posecli.load_model(weights, device="cpu")


def test_names_that_do_not_fit_are_listed() -> None:
    network = MODELS["hrnet-tiny"](keypoints=17)
    state = dict(network.state_dict())
    state["alien.weight"] = torch.zeros(1)
    gone = next(iter(state))
    del state[gone]
    last = list(network.state_dict())[-3]
    state[last] = torch.zeros(3, 3)
    with pytest.raises(PoseError) as caught:
        load_into(network, state, "x.safetensors")
    message = str(caught.value)
    assert (
        f"1 missing: {gone}" in message and "1 left over: alien.weight" in message and f"{last} (3, 3) for" in message
    )


def test_a_name_without_weights_is_an_error_with_the_remedy() -> None:
    with pytest.raises(PoseError, match="--weights"):
        posecli.load_model("dekr-w48", device="cpu")


def test_a_device_that_is_not_there(weights: Path) -> None:
    with pytest.raises(PoseError, match="--device cpu"):
        posecli.load_model(weights, device="cuda:77")


@pytest.mark.parametrize(
    ("name", "size", "step"),
    [
        ("hrnet-tiny", (48, 64), 32),
        ("pose-fpn", (144, 144), 32),
        ("hourglass-tiny", (64, 80), 32),
        ("cpm-tiny", (100, 96), 8),
        ("unipose-tiny", (88, 96), 16),
        ("integral-hrnet-tiny", (64, 72), 32),
        ("deeppose-resnet-tiny", (64, 70), 32),
        ("cpn-tiny", (64, 72), 32),
        ("fastpose-tiny", (72, 64), 32),
        ("simple-baseline-tiny", (64, 40), 32),
    ],
)
def test_an_input_size_that_the_network_does_not_take(
    name: str, size: tuple[int, int], step: int, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"keypoints": 17}
    if name == "pose-fpn":
        arguments |= {"widths": (8, 8, 8, 8), "blocks": (1, 1, 1, 1), "stem_channels": 8, "channels": 8}
    network = MODELS[name](**arguments)
    path = tmp_path / "w.safetensors"
    save_model(path, network, ModelMeta(name, arguments, COCO17, size))
    with pytest.raises(PoseError, match=f"multiples of {step}, not {size[0]} x {size[1]}") as caught:
        posecli.load_model(path, device="cpu")
    assert caught.value.where == str(path) and "the input size next to it" in caught.value.hint
    # What is proposed instead is taken.
    width, height = (int(n) for n in caught.value.hint.rsplit("is ", 1)[1].split(" x "))
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, height, width))


def test_networks_of_one_table_say_what_they_take() -> None:
    """Every network that looks at one person either states its step or is padded for."""
    for name in ("hrnet-w32", "pose-fpn", "cpn-50", "fastpose-50-duc", "hg", "unipose-lstm", "tompson", "deeppose"):
        network = outline(MODELS[name], keypoints=17)
        assert network.size_step >= 1, name
