"""Networks made quicker for inference on a CPU; the plain network stays beside, and both agree within rounding.

`fuse` makes a copy whose norms are folded into convolutions (`models.fuse`), whose convolutions do the addition and the
ReLU after them while the values are in registers, and whose weights lie in the order that the processor's kernels want
(oneDNN, by the operators that PyTorch's own compiler calls). DEKR's adaptive blocks get a form of their own
(`models.adaptive`), deformable convolutions take two steps (`models.deform.in_two_steps`). No compiler is needed; where
one is, `compiled` lets the adaptive blocks run as C++.
"""

from __future__ import annotations

import ctypes
import inspect
import operator
import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from posecli.models.adaptive import MOST_CHANNELS, CompiledAdaptiveBlocks
from posecli.models.deform import DeformConv2d, DeformSamples, in_two_steps
from posecli.models.dekr import AdaptiveBlocks
from posecli.models.fuse import fold_norms

_RELU_FUNCTIONS = (torch.relu, functional.relu, torch.relu_, functional.relu_)
_ADDITIONS = (operator.add, operator.iadd, torch.add)

_LARGE = 9

#: A network's weights are kept in the order for so many sizes of picture, as long as these fit into so many bytes: in
#: another size's order they are put right anew for each picture.
_MOST_ORDERS, _ORDERED_BYTES = 8, 1 << 26

#: While weights are put in order: threads may share a network.
_ordering = threading.Lock()
#: While a network is traced: what is put into PyTorch for that must be taken out in the right order.
_tracing = threading.Lock()

#: Kernels that oneDNN remembers: a shipped pose network's convolutions for forty sizes and numbers of pictures.
_KEPT_KERNELS = 4096
#: Blocks of memory up to this size, and as much unused memory in all, are kept for the next picture.
_KEPT_BLOCK, _KEPT_ALTOGETHER = 1 << 28, 1 << 29


def can_fuse() -> bool:
    """Whether this build of PyTorch has the fused operators (oneDNN, x86 and Arm CPUs)."""
    return bool(torch.backends.mkldnn.is_available()) and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class Orders:
    """A convolution's weights in the order that the processor's kernels want for each size of map.

    Args:
        weight: as it is; given up once it is in order where there is room for one order only.
        pack: puts it in order for a shape of input.
    """

    def __init__(self, weight: Tensor, pack: Callable[[Tensor, list[int]], Tensor]) -> None:
        self.weight: Tensor | None = weight
        self.shape = weight.shape
        self.room = 1
        self._pack = pack
        self._known: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """For the next input (B, C, h, w); how many there are together makes no difference."""
        size = tuple(x.shape[-2:])
        found = self._known.get(size)
        return self._put_in_order(size, x) if found is None else found

    def _put_in_order(self, size: tuple[int, ...], x: Tensor) -> Tensor:
        with _ordering:
            found = self._known.get(size)
            if found is None:
                if self.weight is None:
                    return next(iter(self._known.values()))
                found = self._pack(self.weight, list(x.shape))
                if self.room > 1 and len(self._known) >= self.room:
                    del self._known[next(iter(self._known))]  # the one that came first
                self._known[size] = found
                if self.room == 1:
                    self.weight = None
            return found


Geometry = tuple[list[int], list[int], list[int], int]


def result_size(x: Tensor, kernel: Sequence[int], geometry: Geometry) -> list[int]:
    """Height and width of what a convolution of this padding, stride, dilation and groups makes of (B, C, h, w)."""
    padding, stride, dilation, _ = geometry
    each = zip(x.shape[-2:], padding, dilation, kernel, stride, strict=True)
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in each]


class FusedConv(nn.Module):
    """A convolution with what follows it: relu(conv(x) + other), where addition and ReLU may be missing.

    Weights are put in order when pictures come, for their sizes.
    """

    def __init__(self, conv: nn.Conv2d, relu: bool, dtype: torch.dtype) -> None:
        super().__init__()
        weight = conv.weight.detach().to(dtype)
        self.bias = None if conv.bias is None else conv.bias.detach().to(dtype)
        self.relu, self.dtype = relu, dtype
        # With kernels as large as CPM's, oneDNN takes a third longer over channels-last maps of float32, and half as
        # long over such of bfloat16 (AMX).
        self.large = dtype == torch.float32 and min(conv.kernel_size) >= _LARGE
        self.geometry = ([*cast("tuple[int, ...]", conv.padding)], [*conv.stride], [*conv.dilation], conv.groups)
        self.orders = Orders(weight.contiguous(), self._ordered)

    def _ordered(self, weight: Tensor, shape: list[int]) -> Tensor:
        return torch.ops.mkldnn._reorder_convolution_weight(weight, *self.geometry, shape)

    @property
    def weight(self) -> Tensor:
        """As it was given; before a picture came."""
        return cast("Tensor", self.orders.weight)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """(B, C, h, w), and what is added: of the result's shape, or one that spreads to it."""
        if x.dtype != self.dtype:  # what a network computes in float32 by itself
            x = x.to(self.dtype)
        if self.large:
            padding, stride, dilation, groups = self.geometry
            out = functional.conv2d(x.contiguous(), self.weight, self.bias, stride, padding, dilation, groups)
            out = out if other is None else out + other
            return out.relu_() if self.relu else out
        x = x.contiguous(memory_format=torch.channels_last)
        packed = self.orders(x)
        attribute = "relu" if self.relu else "none"
        if other is None:
            return torch.ops.mkldnn._convolution_pointwise(x, packed, self.bias, *self.geometry, attribute, [], None)
        if not self._fits(x, other):
            out = torch.ops.mkldnn._convolution_pointwise(x, packed, self.bias, *self.geometry, "none", [], None)
            out = out + other
            return out.relu_() if self.relu else out
        return torch.ops.mkldnn._convolution_pointwise.binary(
            x, other, packed, self.bias, *self.geometry, "add", 1.0, attribute if self.relu else None, [], None
        )

    def _fits(self, x: Tensor, other: Tensor) -> bool:
        """Whether the operator can add it: the result's own shape, type and order."""
        shape = (x.shape[0], self.orders.shape[0], *result_size(x, self.orders.shape[-2:], self.geometry))
        same = tuple(other.shape) == shape
        return same and other.dtype == x.dtype and other.is_contiguous(memory_format=torch.channels_last)


class _Tracer(fx.Tracer):
    """Looks into modules down to PyTorch's own.

    Meanwhile every module of the process is called through it; those of other threads just run.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, AdaptiveBlocks | CompiledAdaptiveBlocks | FusedConv | DeformConv2d | DeformSamples):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def fuse(
    network: nn.Module,
    dtype: torch.dtype = torch.float32,
    *,
    compiled: bool = False,
    graph: fx.Graph | None = None,
) -> nn.Module:
    """A quicker copy of a network in evaluation mode, for inference on a CPU.

    It takes what the network takes (in ``dtype``) and gives maps that agree with the network's within rounding.

    Args:
        network: any of ours, on the CPU; as it is afterwards.
        dtype: what weights and maps are kept in: float32 or bfloat16.
        compiled: let the adaptive blocks run as compiled C++; PoseError where there is no compiler.
        graph: the network's, of `traced`, where it is there already; it is used up.

    Raises:
        ValueError: a network in training, or a PyTorch without the operators.
    """
    if not can_fuse():
        raise ValueError("this build of PyTorch has no oneDNN convolutions")
    folded = fold_norms(network)
    for name, module in list(folded.named_modules()):
        if compiled and isinstance(module, AdaptiveBlocks) and module.adapt_conv.weight.shape[1] <= MOST_CHANNELS:
            parent, _, own = name.rpartition(".")
            setattr(folded.get_submodule(parent), own, CompiledAdaptiveBlocks(module, dtype))
    folded = folded.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # The copy's members have the network's names.
    fused = _fused(folded, dtype, graph)
    make_room(fused)
    return fused


def make_room(network: nn.Module) -> None:
    """Lets weights be kept in order for as many sizes of picture as there is memory for."""
    every = [found for m in network.modules() if isinstance(found := getattr(m, "orders", None), Orders)]
    size = sum(o.weight.nbytes for o in every if o.weight is not None)
    for orders in every:
        orders.room = max(1, min(_MOST_ORDERS, _ORDERED_BYTES // max(size, 1)))


def _fused(module: nn.Module, dtype: torch.dtype, graph: fx.Graph | None) -> nn.Module:
    """The network as one graph; one that decides by the values or shapes it gets keeps its own code, around parts that
    are graphs: what a recurrent network sees in a frame by itself (``seen``) is one."""
    whole = _graph(module, dtype, graph)
    if whole is not None:
        return whole
    seen = _graph(module, dtype, method="seen")
    for child in module.children():
        _fuse_within(child, dtype)
    _quicken_own(module, dtype)
    if seen is not None:
        object.__setattr__(module, "seen", seen.forward)
    return module


def is_one_graph(network: nn.Module) -> bool:
    """Whether a network does the same whatever values it is given: then its launches can be recorded and replayed."""
    return traced(network) is not None


def _fuse_within(module: nn.Module, dtype: torch.dtype) -> None:
    """Lets a part of a network run as a graph, and its parts as well: whoever calls them by themselves finds them."""
    if isinstance(module, AdaptiveBlocks | CompiledAdaptiveBlocks):
        return
    whole = _graph(module, dtype)
    for child in module.children():
        _fuse_within(child, dtype)
    if whole is not None:
        object.__setattr__(module, "forward", whole.forward)  # not a member: the part keeps its names
    else:
        _quicken_own(module, dtype)


def _quicken_own(module: nn.Module, dtype: torch.dtype) -> None:
    """Lets the convolutions that a part without a graph calls itself have their weights in order; they keep their
    names. Small ones otherwise run by PyTorch's own code, group by group."""
    for conv in module.children():
        if _can_join(conv):
            object.__setattr__(conv, "forward", FusedConv(conv, False, dtype))


def _graph(
    module: nn.Module, dtype: torch.dtype, graph: fx.Graph | None = None, method: str = "forward"
) -> fx.GraphModule | None:
    """What a method of the module does as one graph, or None where it has choices to make (or there is no such)."""
    graph = traced(module, method) if graph is None else graph
    if graph is None:
        return None
    _sample_first(module, graph)
    return fx.GraphModule(_joined(module, graph, dtype), graph, type(module).__name__)


def traced(module: nn.Module, method: str = "forward") -> fx.Graph | None:
    """What a module's method calls, or None where that depends on what it is given or where it has no such method.
    Other threads may run networks meanwhile."""
    called = getattr(module, method, None)
    given = [] if called is None else list(inspect.signature(called).parameters.values())
    if len(given) != 1 or given[0].default is not inspect.Parameter.empty or not any(True for _ in module.children()):
        return None
    tracer = _Tracer()
    tracer.traced_func_name = method
    try:
        with _tracing:
            return tracer.trace(module)
    except Exception:  # whatever the code of a network does when it is given no numbers
        return None


def _sample_first(module: nn.Module, graph: fx.Graph) -> None:
    """Makes deformable convolutions in two steps, of which the second is like any other convolution."""
    for node in [node for node in graph.nodes if node.op == "call_module"]:
        conv = module.get_submodule(node.target)
        steps = in_two_steps(conv) if isinstance(conv, DeformConv2d) else None
        if steps is None:
            continue
        conv.samples, conv.mix = steps
        with graph.inserting_before(node):
            sampled = graph.call_module(f"{node.target}.samples", node.args)
            node.replace_all_uses_with(graph.call_module(f"{node.target}.mix", (sampled,)))
        graph.erase_node(node)


def _can_join(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a convolution that `FusedConv` takes the place of."""
    if not isinstance(module, nn.Conv2d) or isinstance(module, DeformConv2d):
        return False
    return module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _joined(module: nn.Module, graph: fx.Graph, dtype: torch.dtype) -> dict[str, Any]:
    """Replaces convolutions and what follows them by `FusedConv`; returns what the graph then calls, by name."""
    made: dict[str, FusedConv] = {}
    called = {node: module.get_submodule(node.target) for node in graph.nodes if node.op == "call_module"}
    for node, own in called.items():  # what does nothing, folded norms among it
        if isinstance(own, nn.Identity | nn.Dropout | nn.Dropout2d):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    for node, conv in called.items():
        if not _can_join(conv):
            continue
        chain, other = [node], None
        after = _only_user(node)
        if after is not None and _is_addition(after, node):
            other = after.args[1] if after.args[0] is node else after.args[0]
            chain.append(after)
        after = _only_user(chain[-1])
        relu = after is not None and _is_relu(after, called)
        if after is not None and relu:
            chain.append(after)
        last = chain[-1]
        name = f"fused_{node.target}{'_relu' if relu else ''}".replace(".", "_")
        if name not in made:
            made[name] = FusedConv(conv, relu, dtype)
        with graph.inserting_before(last):
            new = graph.call_module(name, (node.args[0],) if other is None else (node.args[0], other))
        last.replace_all_uses_with(new)
        for gone in reversed(chain):
            graph.erase_node(gone)
    members: dict[str, Any] = dict(made)
    for node in graph.nodes:
        if node.op == "call_module" and node.target not in made:
            members[node.target] = module.get_submodule(node.target)
        elif node.op == "get_attr":
            members[node.target] = operator.attrgetter(node.target)(module)
    return members


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_addition(node: fx.Node, conv: fx.Node) -> bool:
    """Whether it adds the convolution's result and another map, without changing a map that others still read."""
    if node.kwargs or len(node.args) != 2:
        return False
    if not (node.op == "call_function" and node.target in _ADDITIONS):
        return False
    left, right = node.args
    if not isinstance(left, fx.Node) or not isinstance(right, fx.Node) or left is right:
        return False
    return node.target is not operator.iadd or left is conv


def _is_relu(node: fx.Node, called: dict[fx.Node, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(called.get(node), nn.ReLU)
    if node.op == "call_method":
        return node.target in ("relu", "relu_")
    return node.op == "call_function" and node.target in _RELU_FUNCTIONS


@cache
def keep_kernels() -> None:
    """Lets oneDNN remember the kernels of some dozens of sizes and numbers of pictures, unless
    ``ONEDNN_PRIMITIVE_CACHE_CAPACITY`` says otherwise: by itself it has room for ten of the shipped pose network, and
    makes the others anew at every call. Nothing changes once a network has run in this process."""
    if "DNNL_PRIMITIVE_CACHE_CAPACITY" not in os.environ:
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_KEPT_KERNELS))


def keep_memory() -> bool:
    """Lets the C library keep freed memory (up to 512 MiB) for the next picture instead of handing it back.

    Handing it back and asking again costs a tenth of the time of a large network. Once for the whole process; false
    where the library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt: Callable[[int, int], Any] = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
    return bool(mallopt(m_mmap_threshold, _KEPT_BLOCK)) and bool(mallopt(m_trim_threshold, _KEPT_ALTOGETHER))
