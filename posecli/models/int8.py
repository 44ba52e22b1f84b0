"""Networks in whole numbers of 8 bits, for inference on CPUs that multiply such four at a time (VNNI).

`fuse`'s graph (`models.fast`) with its convolutions replaced by oneDNN's for uint8 maps and int8 weights. A map's
values are ``scale * (q - zero)`` with q in 0..255, one scale for the whole map, from the range of values it has had on
sample pictures (`Observer`); weights have a scale for each channel that comes out and no zero point. Sums of products
are exact (int32), so results depend neither on the batch nor on the number of threads.

Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, https://arxiv.org/abs/1712.05877 (Sec. 2.1: the scheme; Sec. 2.4: ReLU
and additions within the convolution; Sec. 3: ranges). Krishnamoorthi, "Quantizing deep convolutional networks for
efficient inference: A whitepaper", 2018, https://arxiv.org/abs/1806.08342 (Sec. 3.1.4: weights by channel).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from posecli.models.fast import FusedConv, Orders, make_room

#: The graph's input among the ranges.
INPUT = "input"
_LEVELS = 255
_WEIGHT_LEVELS = 127
# What takes no arithmetic: the values that come out are among those that went in.
_PASSING = (functional.interpolate, functional.max_pool2d)


def can_quantise() -> bool:
    """Whether this processor and this build of PyTorch have the convolutions; elsewhere sums could overflow."""
    return hasattr(torch.ops.onednn, "qconv2d_pointwise") and bool(torch.cpu._is_vnni_supported())


class Grid(NamedTuple):
    """What the 256 values of a map stand for: ``scale * (q - zero)``."""

    scale: float
    zero: int

    @classmethod
    def over(cls, low: float, high: float) -> Grid:
        """The grid that covers a range; 0 is on it, as padding wants."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / _LEVELS, 1e-12)
        return cls(scale, round(-low / scale))


def quantised(x: Tensor, scale: float, zero: int) -> Tensor:
    """Values of any shape to the nearest of a grid's, uint8; what lies beyond its ends becomes the end."""
    return (x * (1 / scale)).round_().add_(zero).clamp_(0, _LEVELS).to(torch.uint8)


def restored(q: Tensor, scale: float, zero: int) -> Tensor:
    """The inverse of `quantised`, float32."""
    return (q.float() - zero) * scale


class QuantisedConv(nn.Module):
    """relu(conv(x) + other) of uint8 maps, where addition and ReLU may be missing.

    Args:
        conv: as `fuse` makes it, before it saw a picture.
        given: grid of the map that comes in.
        gives: grid of the map that goes out; None: float32 values go out.
        added: grid of ``other``.
    """

    def __init__(self, conv: FusedConv, given: Grid, gives: Grid | None, added: Grid | None) -> None:
        super().__init__()
        weight = conv.weight.float()
        scale = (weight.abs().amax((1, 2, 3)) / _WEIGHT_LEVELS).clamp_min(1e-12)
        self.orders = Orders((weight / scale.view(-1, 1, 1, 1)).round().to(torch.int8).contiguous(), self._ordered)
        self.scale, self.zeros = scale, torch.zeros(len(scale), dtype=torch.int64)
        self.bias = None if conv.bias is None else conv.bias.float()
        self.relu, self.geometry = conv.relu, conv.geometry
        self.given, self.gives, self.added = given, gives, added

    def _ordered(self, weight: Tensor, shape: list[int]) -> Tensor:
        padding, stride, *others = self.geometry
        return torch.ops.onednn.qconv_prepack(weight, self.scale, *self.given, stride, padding, *others, shape)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """(B, C, h, w) uint8, and what is added, which is overwritten."""
        padding, stride, dilation, groups = self.geometry
        x = x.contiguous(memory_format=torch.channels_last)
        head = (x, *self.given, self.orders(x), self.scale, self.zeros)
        shape = (stride, padding, dilation, groups)
        grid = self.gives or Grid(1.0, 0)
        kind = torch.uint8 if self.gives else torch.float32
        attribute = "relu" if self.relu else "none"
        if other is None:
            return torch.ops.onednn.qconv2d_pointwise(*head, self.bias, *shape, *grid, kind, attribute, [], "")
        added = cast("Grid", self.added)
        return torch.ops.onednn.qconv2d_pointwise.binary(
            *head, other, self.bias, *shape, *grid, kind, *added, "sum", 1.0, attribute, [], ""
        )


class Observer(fx.Interpreter):
    """Runs a fused network (float32, `models.fast.fuse`) and keeps some of the values of each of its maps.

    A few hundred pictures of the kind that it is meant for are enough.
    """

    _KEPT = 1_000  # of each map of a batch

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self._values: dict[str, list[Tensor]] = {}

    def run_node(self, n: fx.Node) -> Any:
        found = super().run_node(n)
        name = _name(n, self.module)
        if name is not None:
            values = found.permute(0, 2, 3, 1).reshape(-1)
            step = max(1, values.numel() // self._KEPT) | 1  # odd: all channels come round
            self._values.setdefault(name, []).append(torch.cat([values[::step], torch.stack(values.aminmax())]))
        return found

    def ranges(self) -> dict[str, list[float]]:
        """The lowest and highest value that each map should have room for, by the name of the convolution it is of.

        Of the ranges that lie within all values seen, the one with the least squared error: rare large values are cut
        off where the others can then be told apart better.
        """
        return {name: _range(torch.cat(values)) for name, values in self._values.items()}


def _name(node: fx.Node, module: nn.Module) -> str | None:
    """By what a map's range is known; None for maps that have none."""
    if node.op == "placeholder":
        return INPUT
    name = str(node.target)
    return name if node.op == "call_module" and isinstance(module.get_submodule(name), FusedConv) else None


def _range(values: Tensor) -> list[float]:
    low, high = (float(v) for v in values.aminmax())
    best = (float("inf"), low, high)
    for share in torch.linspace(1.0, 0.4, 25).tolist():
        grid = Grid.over(share * low, share * high)
        error = float((restored(quantised(values, *grid), *grid) - values).square().mean())
        best = min(best, (error, share * low, share * high))
    return [round(end, 4) for end in best[1:]]


def quantise(network: fx.GraphModule, ranges: Mapping[str, Sequence[float]]) -> fx.GraphModule:
    """A fused network that computes in whole numbers wherever it can; the float one is used up.

    Convolutions whose input is known by a range become `QuantisedConv`; maps stay uint8 from one to the next, through
    enlargement by nearest values and pooling too. Everything else gets float32 and runs as before.

    Args:
        network: of `fuse`, float32, before it saw a picture.
        ranges: of `Observer.ranges`.
    """
    graph, members = network.graph, dict(network.named_modules())
    grids: dict[fx.Node, Grid] = {}  # of the maps that are uint8
    order = {node: n for n, node in enumerate(graph.nodes)}
    wanting = {node for node in graph.nodes if _wants(node, members, ranges)}
    entered: dict[fx.Node, fx.Node] = {}  # float maps to the uint8 ones made of them
    for node in list(graph.nodes):
        if node not in wanting:
            if _passes(node) and node.args[0] in grids and all(_is_served(u, wanting, node) for u in node.users):
                grids[node] = grids[node.args[0]]
            else:
                _restore_before(graph, node, grids)
            continue
        source, *rest = node.args
        if source not in grids and source not in entered:
            grid = Grid.over(*ranges[cast("str", _name(source, network))])
            with graph.inserting_after(source):
                entered[source] = graph.call_function(quantised, (source, *grid))
            grids[entered[source]] = grid
        source = entered.get(source, source)
        served = [u for u in node.users if _is_served(u, wanting, node)]
        gives = Grid.over(*ranges[node.target]) if served else None
        other = rest[0] if rest else None
        conv = cast("FusedConv", members[node.target])
        if other is not None and (other not in grids or gives is None):
            # Nothing to add to in place: the float convolution stays.
            _restore_before(graph, node, grids)
            continue
        if other is not None and any(order.get(u, 0) > order[node] for u in other.users):
            with graph.inserting_before(node):
                copied = graph.call_method("clone", (other,))
            grids[copied] = grids[other]
            other = copied
        name = f"int8_{node.target}"
        # What is called twice has maps of two grids.
        name = name if name not in members else f"{name}_{order[node]}"
        members[name] = QuantisedConv(conv, grids[source], gives, None if other is None else grids[other])
        network.add_module(name, members[name])
        with graph.inserting_before(node):
            new = graph.call_module(name, (source,) if other is None else (source, other))
        order[new] = order[node]
        if gives is not None:
            grids[new] = gives
        node.replace_all_uses_with(new)
        wanting.discard(node)
        graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()
    make_room(network)
    return network


def _wants(node: fx.Node, members: Mapping[str, nn.Module], ranges: Mapping[str, Sequence[float]]) -> bool:
    """Whether it is a convolution that can work on uint8 maps."""
    conv = members.get(str(node.target)) if node.op == "call_module" else None
    if not isinstance(conv, FusedConv) or conv.large or node.target not in ranges:
        return False
    source = node.args[0]
    while isinstance(source, fx.Node) and _passes(source):
        source = source.args[0]
    assert isinstance(source, fx.Node)
    if source.op == "placeholder":
        return INPUT in ranges
    return source.op == "call_module" and source.target in ranges


def _passes(node: fx.Node) -> bool:
    if node.op != "call_function" or node.target not in _PASSING:
        return False
    return node.target is not functional.interpolate or node.kwargs.get("mode", "nearest") == "nearest"


def _is_served(user: fx.Node, wanting: set[fx.Node], node: fx.Node) -> bool:
    """Whether it can take the node's map as uint8."""
    if user in wanting:
        return True
    return _passes(user) and bool(user.users) and all(_is_served(u, wanting, user) for u in user.users)


def _restore_before(graph: fx.Graph, node: fx.Node, grids: Mapping[fx.Node, Grid]) -> None:
    """Gives a node float32 values in place of uint8 ones."""
    for source in node.all_input_nodes:
        if source in grids:
            with graph.inserting_before(node):
                real = graph.call_function(restored, (source, *grids[source]))
            node.replace_input_with(source, real)
