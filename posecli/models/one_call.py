"""A network in whole numbers as one call of PyTorch's own interpreter of graphs, which runs without Python's lock.

Between two convolutions of a small network Python gives back its lock and takes it again, fifty times for one picture.
Beside other threads (`posecli.workers`) each of them then waits for the others at every turn. What `int8.quantise` made
is therefore written down as a graph of PyTorch's (`torch._C.parse_ir`) for each size of picture that comes: the same
operators in the same order, so the same maps bit by bit. What isn't such an operator, DEKR's adaptive blocks and what
follows them, runs as before, and so does all of it with ``POSECLI_ONE_CALL=0``, or where PyTorch can't read the graph
(its reader is no part of what it promises to keep), of which it warns.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from posecli.models.int8 import Grid, QuantisedConv, input_grid, quantised

_keeping = threading.Lock()  # threads may share a network
_MOST_SIZES = 8  # of pictures that are remembered
# A graph that can be called, and the tensors that it is called with.
_Made = tuple[Callable[..., list[Tensor]], list[Tensor]]
_UINT8, _FLOAT32, _CHANNELS_LAST = 0, 6, 2  # as PyTorch's operators number them


def can_call() -> bool:
    """Whether this PyTorch reads graphs that are written down."""
    there = hasattr(torch._C, "parse_ir") and hasattr(torch._C, "_create_function_from_graph")
    return there and os.environ.get("POSECLI_ONE_CALL") != "0"


def in_one_call(network: nn.Module) -> nn.Module:
    """A network of `quantise` that does so, or the same network where it can't."""
    grid = input_grid(network)
    if grid is None or not can_call():
        return network
    assert isinstance(network, fx.GraphModule)
    chain = _chain(network)
    return OneCall(network, grid, chain) if len(chain) > 1 else network


def _chain(network: fx.GraphModule) -> list[fx.Node]:
    """The nodes, in order, that follow from the picture alone by operators which can be written down."""
    chain: list[fx.Node] = []
    for node in network.graph.nodes:
        begins = node.target is quantised and node.args[0].op == "placeholder"
        goes_on = bool(chain) and all(source in chain for source in node.all_input_nodes) and _is_known(node, network)
        if begins or goes_on:
            chain.append(node)
    # What a convolution overwrites must be nobody else's.
    while bad := next((n for n in chain if len(n.args) == 2 and _overwrites(n, network, chain)), None):
        chain = chain[: chain.index(bad)]
    return chain


def _is_known(node: fx.Node, network: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(network.get_submodule(str(node.target)), QuantisedConv)
    if node.op == "call_method":
        return node.target == "clone" and len(node.args) == 1 and not node.kwargs
    if node.target is not functional.interpolate or len(node.args) != 1:
        return False
    said = {name: value for name, value in node.kwargs.items() if value is not None and value is not False}
    return set(said) == {"scale_factor", "mode"} and said["mode"] == "nearest" and isinstance(said["scale_factor"], int)


def _overwrites(node: fx.Node, network: fx.GraphModule, chain: Sequence[fx.Node]) -> bool:
    """Whether a convolution overwrites what somebody outside of the chain reads."""
    if node.op != "call_module":
        return False
    return any(user not in chain for user in cast("fx.Node", node.args[1]).users)


class OneCall(nn.Module):
    """The network: its chain of operators in one call, then the rest of it.

    Args:
        plain: as `quantise` made it; stays as it is.
        grid: of its pictures.
        chain: of `_chain`.
    """

    def __init__(self, plain: fx.GraphModule, grid: Grid, chain: Sequence[fx.Node]) -> None:
        super().__init__()
        self.plain, self._grid, self._nodes = plain, grid, list(chain)
        inside = set(chain)
        self._wanted = [node for node in chain if any(user not in inside for user in node.users)]
        graph = fx.Graph()
        copies = {node: graph.placeholder(node.name) for node in self._wanted}
        for node in plain.graph.nodes:
            if node not in inside and node.op != "placeholder":
                copies[node] = graph.node_copy(node, copies.__getitem__)
        self.rest = fx.GraphModule(plain, graph)
        self._made: dict[tuple[int, ...], _Made] = {}
        self._worked = self._unread = False

    def forward(self, x: Tensor) -> Any:
        """(B, 3, h, w), normalised, or bytes that are on the grid already."""
        x = quantised(x, *self._grid).contiguous(memory_format=torch.channels_last)
        if self._unread:
            return self.plain(x)
        size = tuple(x.shape[-2:])
        try:
            made = self._made.get(size) or self._keep(size, self._write(x))
            # There is nothing to be optimised, and looking for it takes longer than a second of video.
            with torch.jit.optimized_execution(False):
                found = made[0](x, made[1])
        except RuntimeError as error:
            if "alloc" in str(error) or self._worked:
                raise  # out of memory, say: nothing that the plain way would do better
            warnings.warn(f"the network runs call by call, more slowly: {str(error).splitlines()[0]}", stacklevel=2)
            self._unread = True
            return self.plain(x)
        self._worked = True
        return self.rest(*found)

    def _keep(self, size: tuple[int, ...], made: _Made) -> _Made:
        with _keeping:
            if len(self._made) >= _MOST_SIZES:
                self._made.pop(next(iter(self._made)), None)
            self._made[size] = made
        return made

    def _write(self, x: Tensor) -> _Made:
        """The chain for a size of picture, and the tensors that it is called with."""
        text = _Text()
        names: dict[fx.Node, str] = {}
        made: dict[fx.Node, Tensor] = {}  # their shapes, without values
        for node in self._nodes:
            if node.target is quantised:
                names[node], made[node] = "%x", x
                continue
            given = [made[source] for source in node.all_input_nodes]
            names[node] = _line(text, node, names, self.plain, given)
            made[node] = x.new_empty(_shape(node, self.plain, given[0]), device="meta")
        return text.function([names[node] for node in self._wanted]), text.tensors


def _shape(node: fx.Node, network: fx.GraphModule, x: Tensor) -> list[int]:
    """What a node gives, by the first map that it is given."""
    if node.op == "call_module":
        return cast("QuantisedConv", network.get_submodule(str(node.target))).shape_of(x)
    factor = cast("int", node.kwargs["scale_factor"]) if node.op == "call_function" else 1
    return [*x.shape[:2], *(side * factor for side in x.shape[2:])]


class _Text:
    """A graph as it is written down."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self._constants: dict[str, str] = {}
        self._lines: list[str] = []

    def _value(self, kind: str, made: str) -> str:
        return self._constants.setdefault(f" : {kind} = {made}", f"%c{len(self._constants)}")

    def none(self) -> str:
        return self._value("NoneType", "prim::Constant()")

    def no(self) -> str:
        return self._value("bool", "prim::Constant[value=0]()")

    def whole(self, value: int) -> str:
        return self._value("int", f"prim::Constant[value={int(value)}]()")

    def real(self, value: float) -> str:
        # All digits, and a point, without which it would be a whole number.
        digits = repr(float(value))
        return self._value("float", f"prim::Constant[value={digits}]()")

    def word(self, value: str) -> str:
        return self._value("str", f'prim::Constant[value="{value}"]()')

    def row(self, kind: str, values: Sequence[str]) -> str:
        return self._value(f"{kind}[]", f"prim::ListConstruct({', '.join(values)})")

    def tensor(self, value: Tensor | None) -> str:
        if value is None:
            return self.none()
        self.tensors.append(value)
        return f"%t{len(self.tensors) - 1}"

    def call(self, operator: str, *values: str) -> str:
        name = f"%v{len(self._lines)}"
        self._lines.append(f"{name} : Tensor = {operator}({', '.join(values)})")
        return name

    def function(self, results: Sequence[str]) -> Callable[..., list[Tensor]]:
        """What takes a picture and the tensors, and gives the results."""
        every = ", ".join(f"%t{n} : Tensor" for n in range(len(self.tensors)))
        lines = [
            f"{every} = prim::ListUnpack(%tensors)",
            *(f"{name}{rest}" for rest, name in self._constants.items()),
            *self._lines,
            f"%results : Tensor[] = prim::ListConstruct({', '.join(results)})",
        ]
        body = "\n".join(f"  {line}" for line in lines)
        graph = torch._C.parse_ir(f"graph(%x : Tensor, %tensors : Tensor[]):\n{body}\n  return (%results)\n")
        return torch._C._create_function_from_graph("forward", graph)


def _line(
    text: _Text,
    node: fx.Node,
    names: dict[fx.Node, str],
    network: fx.GraphModule,
    given: Sequence[Tensor],
) -> str:
    """Writes down what a node calls for maps of some shapes; the name of the result."""
    sources = [names[source] for source in node.all_input_nodes]
    if node.op == "call_method":
        return text.call("aten::clone", sources[0], text.none())
    if node.op == "call_function":
        factor = text.real(cast("int", node.kwargs["scale_factor"]))
        return text.call("aten::upsample_nearest2d", sources[0], text.none(), text.row("float", [factor, factor]))
    conv = cast("QuantisedConv", network.get_submodule(str(node.target)))
    x, *others = given
    padding, stride, dilation, groups = conv.geometry
    rows = [text.row("int", [text.whole(n) for n in row]) for row in (stride, padding, dilation)]
    if others and list(others[0].shape) != (shape := conv.shape_of(x)):
        # It is spread to the result's size, whatever the number of pictures.
        wanted = [text.whole(n) for n in (-1, *shape[1:])]
        sources[1] = text.call("aten::expand", sources[1], text.row("int", wanted), text.no())
    last = [text.call("aten::contiguous", source, text.whole(_CHANNELS_LAST)) for source in sources]
    head = [last[0], text.real(conv.given.scale), text.whole(conv.given.zero)]
    head += [text.tensor(conv.orders(x)), text.tensor(conv.scale), text.tensor(conv.zeros)]
    grid = conv.gives or Grid(1.0, 0)
    tail = [text.tensor(conv.bias), *rows, text.whole(groups), text.real(grid.scale), text.whole(grid.zero)]
    tail.append(text.whole(_UINT8 if conv.gives else _FLOAT32))
    attribute, nothing = text.word("relu" if conv.relu else "none"), text.row("Scalar?", [])
    if not others:
        return text.call("onednn::qconv2d_pointwise", *head, *tail, attribute, nothing, text.word(""))
    added = cast("Grid", conv.added)
    tail += [text.real(added.scale), text.whole(added.zero), text.word("sum"), text.real(1.0)]
    return text.call("onednn::qconv2d_pointwise", *head, last[1], *tail, attribute, nothing, text.word(""))
