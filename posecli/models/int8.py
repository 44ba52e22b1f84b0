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

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from posecli.models.fast import FusedConv, Orders, make_room, result_size
from posecli.models.layers import highest

#: The graph's input among the ranges.
INPUT = "input"
_LEVELS = 255
_WEIGHT_LEVELS = 127


def can_quantise() -> bool:
    """Whether this processor and this build of PyTorch have the convolutions; elsewhere sums could overflow."""
    can = getattr(torch.cpu, "_is_vnni_supported", None)  # older versions of PyTorch have other operators, too
    return hasattr(torch.ops.onednn, "qconv2d_pointwise") and can is not None and bool(can())


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
    """Values of any shape to the nearest of a grid's, uint8; what lies beyond its ends becomes the end. Values of uint8
    are on the grid already (`input_grid`)."""
    if x.dtype == torch.uint8:
        return x
    # Halves go up; the conversion cuts off what follows the point.
    return torch.add(x.new_tensor(zero + 0.5), x, alpha=1 / scale).clamp_(0, _LEVELS).to(torch.uint8)


def restored(q: Tensor, scale: float, zero: int) -> Tensor:
    """The inverse of `quantised`, float32."""
    x = q * scale
    return x.sub_(zero * scale) if zero else x


def whole_kernel(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A convolution's weights (C, c, h, w) as int8, -127 to 127, and what 1 stands for in each of the C channels that
    come out, float32."""
    weight = weight.float()
    scale = (weight.abs().amax((1, 2, 3)) / _WEIGHT_LEVELS).clamp_min(1e-12)
    return (weight / scale.view(-1, 1, 1, 1)).round().to(torch.int8).contiguous(), scale


# What gives a map of its own, which nothing else stands for.
_NEW = (quantised, restored, operator.add, torch.add)


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
        whole, scale = whole_kernel(conv.weight)
        self.orders = Orders(whole, self._ordered)
        self.scale, self.zeros = scale, torch.zeros(len(scale), dtype=torch.int64)
        self.bias = None if conv.bias is None else conv.bias.float()
        self.relu, self.geometry = conv.relu, conv.geometry
        self.given, self.gives, self.added = given, gives, added

    def shape_of(self, x: Tensor) -> list[int]:
        """Of the result for an input."""
        return [x.shape[0], len(self.scale), *result_size(x, self.orders.shape[-2:], self.geometry)]

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
        other = other.expand(*self.shape_of(x)).contiguous(memory_format=torch.channels_last)
        return torch.ops.onednn.qconv2d_pointwise.binary(
            *head, other, self.bias, *shape, *grid, kind, *added, "sum", 1.0, attribute, [], ""
        )


class Observer(fx.Interpreter):
    """Runs a fused network (float32, `models.fast.fuse`) and keeps some of the values of each of its maps.

    A few hundred pictures of the kind that it is meant for are enough.
    """

    _KEPT = 1_000  # of each map of a batch
    _BATCHES = 512  # of which values of a map are kept at most

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self._values: dict[str, list[Tensor]] = {}
        self._ends: dict[str, Tensor] = {}
        self._seen: Counter[str] = Counter()
        convolutions = [n for n in network.graph.nodes if _convolution(n, network) is not None]
        # What goes into one, and what comes out.
        self._wanted = {_origin(source, network) for n in convolutions for source in n.args} | set(convolutions)

    def run_node(self, n: fx.Node) -> Any:
        found = super().run_node(n)
        if n in self._wanted:
            self._keep(_name(n), found)
        return found

    def _keep(self, name: str, found: Tensor) -> None:
        ends = torch.stack(found.aminmax())
        known = self._ends.get(name, ends)
        self._ends[name] = torch.stack([torch.minimum(known[0], ends[0]), torch.maximum(known[1], ends[1])])
        kept = self._values.setdefault(name, [])
        # Every batch at first, every second once there are many, every fourth: memory stays as it is.
        every = 1 << (self._seen[name] // self._BATCHES).bit_length()
        if self._seen[name] % every == 0:
            values = found.permute(0, 2, 3, 1).reshape(-1)
            step = max(1, values.numel() // self._KEPT) | 1  # odd: all channels come round
            kept.append(values[::step].clone())
        self._seen[name] += 1
        if len(kept) > self._BATCHES:
            del kept[1::2]

    def ranges(self) -> dict[str, list[float]]:
        """The lowest and highest value that each map should have room for, by the name of what it comes from.

        Of the ranges that lie within all values seen, the one with the least squared error: rare large values are cut
        off where the others can then be told apart better.
        """
        return {name: _range(torch.cat([*values, self._ends[name]])) for name, values in self._values.items()}


def _name(node: fx.Node) -> str:
    """By what a map's range is known."""
    return INPUT if node.op == "placeholder" else str(node.target) if node.op == "call_module" else node.name


def _convolution(node: fx.Node, network: nn.Module) -> FusedConv | None:
    """The convolution that a node calls."""
    called = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    return called if isinstance(called, FusedConv) else None


def _passes(node: fx.Node, network: nn.Module) -> bool:
    """Whether a node repeats the values that it is given: enlargement by the nearest. (PyTorch can't pool uint8.)"""
    if node.op == "call_module":
        called = network.get_submodule(str(node.target))
        return isinstance(called, nn.Upsample) and called.mode == "nearest"
    if node.op != "call_function" or node.target is not functional.interpolate:
        return False
    return node.kwargs.get("mode", "nearest") == "nearest"


def _origin(node: Any, network: nn.Module) -> fx.Node:
    """The node whose values a node's are."""
    while _passes(node, network):
        node = node.args[0]
    return node


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
    enlargement by nearest values too. Everything else gets float32 and runs as before.

    Args:
        network: of `fuse`, float32, before it saw a picture.
        ranges: of `Observer.ranges`.
    """
    _Quantiser(network, ranges).run()
    network.delete_all_unused_submodules()
    network.recompile()
    make_room(network)
    return network


def input_grid(network: nn.Module) -> Grid | None:
    """The grid on which a network takes pictures in whole numbers too, since it begins by making them so; else None."""
    if not isinstance(network, fx.GraphModule):
        return None
    users = [user for node in network.graph.nodes if node.op == "placeholder" for user in node.users]
    if not users or any(user.target is not quantised for user in users):
        return None
    grids = {Grid(*user.args[1:]) for user in users}
    return grids.pop() if len(grids) == 1 else None


class _Quantiser:
    """Goes through a graph once, in its order; every map is then there as float32, as uint8, or as both."""

    def __init__(self, network: fx.GraphModule, ranges: Mapping[str, Sequence[float]]) -> None:
        self._network, self._graph = network, network.graph
        self._grids = {name: Grid.over(*ends) for name, ends in ranges.items()}
        self._order = {node: n for n, node in enumerate(network.graph.nodes)}
        self._grid: dict[fx.Node, Grid] = {}  # of the nodes that are uint8
        self._twins: dict[fx.Node, fx.Node] = {}  # from uint8 to float32 and the other way
        self._known: dict[fx.Node, bool] = {}

    def run(self) -> None:
        for node in list(self._graph.nodes):
            if self._computes_whole(node):
                self._replace(node)
            elif (_passes(node, self._network) and self._stays_whole(node)) or self._selects_whole(node):
                (source,) = node.all_input_nodes
                whole = self._whole(source)
                node.replace_input_with(source, whole)
                self._grid[node] = self._grid[whole]
            else:
                for source in node.all_input_nodes:
                    node.replace_input_with(source, self._real(source))

    def _computes_whole(self, node: fx.Node) -> bool:
        conv = _convolution(node, self._network)
        return conv is not None and _name(_origin(node.args[0], self._network)) in self._grids

    def _selects_whole(self, node: fx.Node) -> bool:
        """Whether a node gives some of the values of a map that is there as uint8 anyway."""
        return node.target is highest and node.args[0] in self._grid

    def _stays_whole(self, node: fx.Node) -> bool:
        """Whether a map is wanted as uint8: by a convolution, maybe beyond an enlargement."""
        if node not in self._known:
            users = [self._takes_whole(user, node) for user in node.users]
            wanted = all(users) and bool(users) if _passes(node, self._network) else any(users)
            self._known[node] = wanted and _name(_origin(node, self._network)) in self._grids
        return self._known[node]

    def _takes_whole(self, user: fx.Node, node: fx.Node) -> bool:
        if self._computes_whole(user):
            return user.args[0] is node or self._stays_whole(user)
        return _passes(user, self._network) and self._stays_whole(user)

    def _replace(self, node: fx.Node) -> None:
        """The convolution of a node by that of whole numbers."""
        conv = _convolution(node, self._network)
        assert conv is not None
        source, *rest = cast("tuple[fx.Node, ...]", node.args)
        x, other, added = self._whole(source), None, None
        stays = self._stays_whole(node)
        if rest:
            stays = stays and _name(_origin(rest[0], self._network)) in self._grids
            other = self._whole(rest[0]) if stays else self._real(rest[0])
            added = self._grid[other] if stays else Grid(1.0, 0)
            if other is x or not self._is_free(rest[0], other, node):
                # It is overwritten.
                with self._graph.inserting_before(node):
                    other = self._graph.call_method("clone", (other,))
        gives = self._grids[_name(node)] if stays else None
        name = f"int8_{node.target}_{self._order[node]}"  # what is called twice may have maps of two grids
        self._network.add_module(name, QuantisedConv(conv, self._grid[x], gives, added))
        with self._graph.inserting_before(node):
            new = self._graph.call_module(name, (x,) if other is None else (x, other))
        self._order[new] = self._order[node]
        for known in (self._known, self._grid):
            known.pop(node, None)
        if gives is not None:
            self._grid[new] = gives
        self._origins(node, new)
        node.replace_all_uses_with(new)
        self._graph.erase_node(node)

    def _is_free(self, node: fx.Node, form: fx.Node, user: fx.Node) -> bool:
        """Whether a form of a map may be overwritten by a user: it is the last one, and no other name stands for it."""
        if any(self._order.get(other, -1) > self._order[user] for other in node.users):
            return False
        if form.op == "call_module":
            return isinstance(self._network.get_submodule(str(form.target)), QuantisedConv | FusedConv)
        return form.op == "call_function" and form.target in _NEW

    def _origins(self, node: fx.Node, new: fx.Node) -> None:
        """The new node is known by the range of the old one."""
        self._grids[_name(new)] = self._grids.get(_name(node), Grid(1.0, 0))

    def _whole(self, node: fx.Node) -> fx.Node:
        if node in self._grid:
            return node
        if node not in self._twins:
            grid = self._grids[_name(_origin(node, self._network))]
            with self._graph.inserting_after(node):
                self._twins[node] = self._graph.call_function(quantised, (node, *grid))
            self._grid[self._twins[node]] = grid
        return self._twins[node]

    def _real(self, node: fx.Node) -> fx.Node:
        if node not in self._grid:
            return node
        if node not in self._twins:
            with self._graph.inserting_after(node):
                self._twins[node] = self._graph.call_function(restored, (node, *self._grid[node]))
        return self._twins[node]
