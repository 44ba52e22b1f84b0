"""A network on a device: uint8 crops in, maps out, by the quickest way that the machine has."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, fx, nn

from posecli import forks
from posecli.batches import Fills, may_fill
from posecli.checkpoint import ModelMeta, of_bytes
from posecli.errors import PoseError, UsageError
from posecli.files import is_finite
from posecli.geometry import warp
from posecli.models.compiled import find_compiler
from posecli.models.fast import can_fuse, fuse, is_one_graph, keep_kernels, keep_memory, traced
from posecli.models.fast_cuda import can_run_kernels, has_triton, kernels_trouble, quicken
from posecli.models.fuse import fold_norms
from posecli.models.int8 import Grid, Observer, can_quantise, input_grid, quantise, quantised
from posecli.models.one_call import in_one_call
from posecli.on_device.graphs import CudaRecorder, Replays
from posecli.on_device.resample import can_resample, resampled
from posecli.profiling import stage
from posecli.readout import TOP_DOWN, PredictOptions, narrow_inputs
from posecli.sampling import is_shared, sampled
from posecli.turns import give_way
from posecli.types import Crop

#: How networks run, see `RunningNetwork`.
SPEEDS = ("auto", "compiled", "fused", "plain")
#: What they compute with, see `RunningNetwork`.
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")
#: Where a network's meta keeps the ranges of its maps (`models.int8`).
RANGES = "ranges"
#: While a quicker copy is made: threads may share a network.
_making = threading.RLock()
_SMALL = 600_000_000  # multiply-adds
#: How PyTorch, the C++ library, oneDNN, cuBLAS (CUBLAS_STATUS_ALLOC_FAILED) and cuDNN (likewise, and from version 9 on
#: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED) say that memory is short.
_NO_MEMORY = (
    "out of memory", "can't allocate memory", "bad_alloc", "could not create a memory", "_ALLOC_FAILED",
    "_ALLOCATION_FAILED",
)  # fmt: skip
#: What a network makes for itself while it runs: of its process and device, and not to be sent to another one.
_MADE = ("_copy", "_replays", "_table", "_is_graph", "_graph", "_carrier", "_observer", "_workers")


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` takes CUDA, then MPS, then the CPU. PoseError when it isn't there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise PoseError(f"device {name!r} cannot be used: {reason}", hint="try --device cpu") from None
    return device


class Carrier(Protocol):
    """What carries a recurrent network's state from frame to frame (`posecli.recurrence.Memory`)."""

    def step(self, network: nn.Module, values: Tensor, mirrored: bool) -> Any:
        """The network's output for the next pass (B, 3, h, w) of a frame."""


class RunningNetwork:
    """A network, on a device, made quick.

    What runs is by default a quicker copy of the network that gives the same maps within rounding (`models.fast`). It
    is made when first needed; weights changed in place after that are not seen, unless ``speed`` is ``"plain"``:

    - ``"plain"``: the network as it was loaded.
    - ``"fused"``: norms are folded into convolutions; on a CPU additions and ReLUs are done by the convolutions.
    - ``"compiled"``: the same, and DEKR's adaptive blocks run as C++, on CUDA as Triton kernels; an error where
      there is no compiler, no Triton.
    - ``"auto"``: the quickest of them that this machine can do.

    On CUDA each of them but the first also crops the pictures on the device (`on_device.resample`) and replays the
    network's launches (`on_device.graphs`; ``POSECLI_GRAPHS=0``: they are started one by one).

    It computes in float32, or in whole numbers of 8 bits (``"int8"``, `models.int8`) where the processor does these
    several times as fast and the weights carry the ranges of the network's maps (`calibrated`): the options'
    ``precision`` ``"auto"``. The others have to be asked for.

    Attributes:
        network: the ``nn.Module`` as it was loaded; returns a named tuple of maps.
        meta: its description.
        device: where it runs.
        options: see `PredictOptions`; ``precision``, ``batch`` and ``filled`` are of matter here.
        speed: which of these.
        weights_path: the file it came from, or None.
        warn: takes the warnings.
    """

    def __init__(
        self,
        network: nn.Module,
        meta: ModelMeta,
        *,
        device: str | torch.device = "auto",
        options: PredictOptions | None = None,
        speed: str = "auto",
    ) -> None:
        if speed not in SPEEDS:
            raise UsageError(f"unknown speed {speed!r}", hint=f"one of {', '.join(SPEEDS)}")
        self.device = device if isinstance(device, torch.device) else pick_device(device)
        self.meta = meta
        self.options = options or PredictOptions()
        if self.options.precision not in PRECISIONS:
            raise UsageError(f"unknown precision {self.options.precision!r}", hint=f"one of {', '.join(PRECISIONS)}")
        self.speed = speed
        self.weights_path: Path | None = None
        self.warn: Callable[[str], object] = warnings.warn
        # How many pictures the memory has room for, once it was found too small.
        self._most: int | None = None
        self._fills = Fills()
        self._carrier: Carrier | None = None
        self._observer: Observer | None = None
        # The quicker copy, and what it was made of and for.
        self._copy: tuple[tuple[nn.Module, str, torch.dtype], nn.Module] | None = None
        self._replays: Replays | None = None
        # What bytes of pictures are to a copy in whole numbers, by value and channel.
        self._table: np.ndarray | None = None
        self._is_graph: tuple[nn.Module, bool] | None = None
        # What was traced to know that, until it is used.
        self._graph: tuple[nn.Module, fx.Graph | None] | None = None
        # In one pass over the tensors, of which a network has hundreds.
        order: dict[str, Any] = {} if self.device.type == "mps" else {"memory_format": torch.channels_last}
        self.network = network.eval().to(self.device, **order)
        self._mean, self._std = of_bytes(network, meta, self.device)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy, or a process that it is sent to, gets: not what is made anew where it is needed."""
        return self.__dict__ | {name: None for name in _MADE if name in self.__dict__} | {"_fills": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _fills=Fills())

    @property
    def name(self) -> str:
        """Architecture, or the name of the weights file where it came from one."""
        return self.weights_path.stem if self.weights_path else self.meta.architecture

    @property
    def top_down(self) -> bool:
        """Whether it looks at one person's crop at a time."""
        return self.meta.codec in TOP_DOWN

    @property
    def recurrent(self) -> bool:
        """Whether it remembers the frames of a video (`remembering`); every picture of `predict` is without a past."""
        return bool(getattr(self.network, "recurrent", False))

    @contextmanager
    def remembering(self, carrier: Carrier) -> Iterator[None]:
        """While it lasts the passes of one frame go through ``carrier``."""
        self._carrier = carrier
        try:
            yield
        finally:
            self._carrier = None

    @contextmanager
    def calibrated(self) -> Iterator[None]:
        """While it lasts the ranges of the network's maps are looked at, of all pictures that go through it; after it
        they stand in ``meta.extra["ranges"]``, and it can compute in int8. On a CPU.

        Raises:
            PoseError: a network that decides by what it sees.
        """
        with torch.inference_mode(False):
            fused = fuse(self.network)
        if not isinstance(fused, fx.GraphModule):
            raise PoseError(f"{self.meta.architecture} decides by what it sees: it can't compute in int8", self.name)
        self._observer = Observer(fused)
        try:
            yield
            if not (ranges := self._observer.ranges()):
                raise PoseError(f"{self.meta.architecture} was given nothing to look at", self.name, "nobody was found")
            self.meta = self.meta.with_extra(**{RANGES: ranges})
        finally:
            self._observer = self._copy = None

    @property
    def last_pose(self) -> bool:
        """Whether the network is shown where somebody was a frame ago (`codecs.last_pose`)."""
        return bool(getattr(self.network, "last_pose", False))

    @property
    def role(self) -> str:
        """What its stages are called by in a profile."""
        return "pose " if self.top_down else "finder "

    def crops(self, images: Sequence[np.ndarray], wanted: Sequence[tuple[int, Crop]]) -> np.ndarray | Tensor:
        """Crops of pictures, as `maps` takes them: made here, or on the device where that can be done.
        Quickly for pictures that are being shared (`sampling`): a video's."""
        if not self.crops_on_device or not all(can_resample(crop) for _, crop in wanted):
            quickly = self.runs_as != "plain"
            return np.stack(
                [(sampled if quickly and is_shared(images[i]) else warp)(images[i], crop) for i, crop in wanted]
            )
        bgr = self.meta.extra.get("channels") == "bgr"
        with torch.inference_mode():
            return resampled(
                images,
                wanted,
                self._mean[:, :3],
                self._std[:, :3],
                device=self._mean.device,
                dtype=self._numbers(),
                bgr=bgr,
            )

    def maps(self, crops: np.ndarray | Tensor, mirror: Callable[[Tensor], Tensor] | None = None) -> Any:
        """The network's raw output for uint8 crops (B, h, w, 3), normalised on the device, or for such as are there and
        normalised already (B, 3, h, w); first mirrored if asked. A network with ``last_pose`` takes four channels, or
        three where nobody was seen before."""
        give_way()
        forks.computed()
        missing = self._count(crops) - len(crops)
        with stage(f"{self.role}network", pool=torch.get_num_threads() > 1):
            if missing <= 0:
                return self._maps_in_parts(crops, mirror)
            if isinstance(crops, Tensor):
                filled: np.ndarray | Tensor = torch.cat([crops, crops[-1:].expand(missing, -1, -1, -1)])
            else:
                filled = np.concatenate([crops, crops[-1:].repeat(missing, 0)])
            return rows_of(self._maps_in_parts(filled, mirror), 0, len(crops))

    def _count(self, crops: np.ndarray | Tensor) -> int:
        """With how many pictures the network is to be called for these."""
        if self.options.filled:
            return self.options.batch
        return self._fills.count(len(crops), crops.shape[1:3]) if self._fills_up else len(crops)

    def called_with(self, crops: np.ndarray | Tensor) -> int:
        """How many pictures the network sees when it is called for these."""
        if self.options.filled:
            return self.options.batch
        return self._fills.now(len(crops), crops.shape[1:3]) if self._fills_up else len(crops)

    @property
    def _fills_up(self) -> bool:
        """Whether copies beside a picture cost less than new kernels, and change no map: sums of whole numbers are
        exact."""
        if self.device.type != "cpu" or not self.top_down or self._observer is not None or self._carrier is not None:
            return False
        return self.in_whole_numbers and may_fill()

    def _maps_in_parts(self, crops: np.ndarray | Tensor, mirror: Callable[[Tensor], Tensor] | None) -> Any:
        """As many together as there is memory for: where it runs out half as many, from then on.

        Raises:
            PoseError: there is none for a single one.
        """
        found, start = [], 0
        while start < len(crops):
            part = crops[start : start + (self._most or len(crops))]
            try:
                found.append(self._maps(part, mirror))
                start += len(part)
                continue
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            # Here the error, and what it kept alive, is gone.
            size = " x ".join(str(n) for n in (part.shape[:1:-1] if isinstance(part, Tensor) else part.shape[2:0:-1]))
            if self._replays is not None:
                self._replays.clear()
            if len(part) == 1 or self._carrier is not None:
                raise PoseError(f"out of memory, for {len(part)} of {size}", self.name, "choose a smaller network")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self._most = len(part) // 2
            self.warn(f"out of memory: {self._most} pictures at a time instead of {len(part)}")
        return found[0] if len(found) == 1 else _joined(found)

    def _maps(self, crops: np.ndarray | Tensor, mirror: Callable[[Tensor], Tensor] | None) -> Any:
        network = self._running() if self._observer is None else None
        if self.last_pose and crops.shape[1 if isinstance(crops, Tensor) else 3] == 3:
            crops = with_channel(crops, None)
        if isinstance(crops, Tensor):
            values = crops if mirror is None else mirror(crops)
        else:
            crops = np.ascontiguousarray(crops)
            table = self._table if self._observer is None and self._carrier is None else None
            if table is not None:
                crops = cv2.LUT(crops.reshape(-1, *crops.shape[2:]), table).reshape(crops.shape)
            batch = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2)
            if mirror is not None:
                batch = mirror(batch)
            values = self._normalised(batch) if table is None else batch
        if self.device.type != "mps":
            values = values.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), self._autocast():
            if self._observer is not None:
                return self._observer.run(values)
            assert network is not None
            if self._carrier is not None:
                return self._carrier.step(network, values, mirror is not None)
            return self._called(network, values if values.dtype == torch.uint8 else values.to(self._numbers()))

    def _normalised(self, batch: Tensor) -> Tensor:
        """Bytes (B, C, h, w) as the network wants them."""
        values = (batch.float() - self._mean) / self._std
        return values.flip(1) if self.meta.extra.get("channels") == "bgr" else values

    def _bytes_to(self, grid: Grid | None) -> np.ndarray | None:
        """(1, 256, C) what bytes become on a grid; None without one, or where channels change places."""
        if grid is None or self.meta.extra.get("channels") == "bgr":
            return None
        every = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 256).expand(1, self._mean.shape[1], 1, 256)
        return np.ascontiguousarray(quantised(self._normalised(every), *grid)[0].permute(1, 2, 0).numpy())

    def _called(self, network: nn.Module, values: Tensor) -> Any:
        """The network's output, by its recording where there are such; if none can be made, without from then on."""
        if self._replays is None:
            return network(values)
        try:
            return self._replays(network, values)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            self._replays = None
            self.warn(f"launches are not recorded, the network runs without: {str(error).splitlines()[0]}")
        return network(values)

    @property
    def is_small(self) -> bool:
        """Whether it takes a core some milliseconds for one picture of the input's size, so that threads within it
        don't pay: by its weights, each of which is used at about every sixteenth pixel across and down."""
        width, height = self.meta.input_size
        return sum(p.numel() for p in self.network.parameters()) * width * height / 16**2 < _SMALL

    @property
    def crops_on_device(self) -> bool:
        """Whether pictures go to the device whole and are cropped there."""
        return self.device.type == "cuda" and self.runs_as in ("fused", "compiled")

    @property
    def runs_as(self) -> str:
        """What ``speed`` comes to here: ``"plain"``, ``"folded"`` (norms only), ``"fused"`` or ``"compiled"``."""
        if self.speed == "plain" or self.network.training:
            return "plain"
        if self.device.type == "cuda" and self._carrier is None:
            if self.speed == "auto":
                return "compiled" if can_run_kernels(self.device) else "fused"
            return self.speed
        kinds = ("auto", "float32", "bfloat16", "int8") if self._carrier is None else ("auto", "float32")
        if self.device.type != "cpu" or self.options.precision not in kinds or not can_fuse():
            return "folded"
        if self.speed == "auto":
            return "fused" if find_compiler() is None else "compiled"
        return self.speed

    @property
    def in_whole_numbers(self) -> bool:
        """Whether it computes in 8 bits.

        Raises:
            PoseError: it was told to and can't.
        """
        if self.options.precision not in ("auto", "int8"):
            return False
        told = self.options.precision == "int8"
        why, hint = "", "choose --precision float32"
        if self.device.type != "cpu" or not can_quantise():
            why = "this processor has no products of 8 bits (VNNI)" if self.device.type == "cpu" else "only CPUs do"
        elif self.runs_as not in ("fused", "compiled"):
            why, hint = f"not with --speed {self.speed}", "choose --speed auto"
        elif RANGES not in self.meta.extra:
            why, hint = "the weights carry no ranges of its maps", "posecli export --format int8 adds them"
        elif self._carrier is not None or not self._one_graph():
            why = "it decides by what it sees"
        if told and why:
            raise PoseError(f"{self.meta.architecture} can't compute in int8: {why}", self.name, hint)
        return not why

    def _one_graph(self) -> bool:
        if self._is_graph is None or self._is_graph[0] is not self.network:
            self._graph = (self.network, traced(self.network))
            self._is_graph = (self.network, self._graph[1] is not None)
        return self._is_graph[1]

    def _ranges(self) -> dict[str, list[float]]:
        ranges = self.meta.extra[RANGES]
        fits = isinstance(ranges, dict) and all(
            isinstance(ends, list) and len(ends) == 2 and all(is_finite(v) for v in ends) for ends in ranges.values()
        )
        if not fits:
            raise PoseError("ranges of maps must be pairs of finite numbers, by name", self.name)
        return ranges

    def _numbers(self) -> torch.dtype:
        """What the running network itself computes with; autocast sees to halves elsewhere."""
        halves = {"bfloat16": torch.bfloat16, "float16": torch.float16}
        fused = self.runs_as in ("fused", "compiled")
        return halves.get(self.options.precision, torch.float32) if fused else torch.float32

    def make_ready(self) -> None:
        """Makes the quicker copy now, not at the first picture."""
        with stage(f"{self.role}network"):
            self._running()

    def try_out(self) -> None:
        """Looks at black pictures, also of the sizes for people who stand: what is made at the first is made then."""
        for width, height in dict.fromkeys((self.meta.input_size, *(size for size, _, _ in narrow_inputs(self.meta)))):
            self.maps(np.zeros((1, height, width, 3), np.uint8))

    def _running(self) -> nn.Module:
        """The network, or its quicker copy."""
        kind = self.runs_as
        if kind == "plain":
            return self.network
        whole = self.in_whole_numbers
        made_for = (self.network, kind, torch.uint8 if whole else self._numbers())
        copy = self._copy
        if copy is None or copy[0] != made_for:
            # Outside inference mode, so that the copy's tensors are ordinary ones.
            with _making, torch.inference_mode(False):
                copy = self._copy
                if copy is None or copy[0] != made_for:
                    self._copy = copy = (made_for, self._made_quicker(kind, made_for[2]))
        return copy[1]

    def _made_quicker(self, kind: str, numbers: torch.dtype) -> nn.Module:
        """The copy that computes in such numbers (uint8: whole ones); with what is kept beside it."""
        self._replays = self._table = None
        if kind == "folded":
            return fold_norms(self.network)
        if self.device.type == "cuda":
            self._tell_of_kernels()
            quick = quicken(self.network, numbers, kernels=kind == "compiled")
            if os.environ.get("POSECLI_GRAPHS") != "0" and is_one_graph(self.network):
                self._replays = Replays(CudaRecorder(self.device))
            return quick
        keep_memory()
        keep_kernels()
        fused = self._fuse(self._numbers(), kind == "compiled")
        if numbers is not torch.uint8:
            return fused
        assert isinstance(fused, fx.GraphModule)
        fused = quantise(fused, self._ranges())
        self._table = self._bytes_to(input_grid(fused))
        return in_one_call(fused)

    def _tell_of_kernels(self) -> None:
        """That Triton is there but does not run; PoseError where it is wanted in particular."""
        why = kernels_trouble(self.device) if has_triton() and self.speed in ("auto", "compiled") else ""
        if why and self.speed == "compiled":
            raise PoseError(f"Triton's kernels don't run here: {why}", self.name, "choose --speed fused")
        if why:
            self.warn(f"Triton's kernels don't run here, the network is slower without: {why}")

    def _fuse(self, numbers: torch.dtype, compiled: bool) -> nn.Module:
        """The fused copy; where nobody asked for compiled parts in particular it does without them if it must."""
        known, self._graph = self._graph, None
        graph = known[1] if known is not None and known[0] is self.network else None
        try:
            return fuse(self.network, numbers, compiled=compiled, graph=graph)
        except PoseError as error:
            if self.speed == "compiled":
                raise
            self.warn(f"nothing is compiled: {error}")
            return fuse(self.network, numbers)

    def _autocast(self) -> AbstractContextManager[Any]:
        kind = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.options.precision)
        if kind is None or (self.device.type == "cpu" and self._numbers() is kind):
            return nullcontext()
        # Converted weights are not to be remembered: what is recorded would read them where they no longer are.
        return torch.autocast(self.device.type, kind, cache_enabled=self.device.type != "cuda")


def with_channel(crops: np.ndarray | Tensor, more: np.ndarray | None) -> np.ndarray | Tensor:
    """Crops as `RunningNetwork.maps` takes them with a fourth channel (B, h, w) uint8; None: nothing is there."""
    if not isinstance(crops, Tensor):
        last = np.zeros(crops.shape[:3], np.uint8) if more is None else more
        joined = np.empty((*crops.shape[:3], 4), np.uint8)
        for colours, shown, both in zip(crops, last, joined, strict=True):  # numpy's own takes ten times as long
            cv2.mixChannels([colours, shown], [both], [0, 0, 1, 1, 2, 2, 3, 3])
        return joined
    if more is None:
        return torch.cat([crops, torch.zeros_like(crops[:, :1])], 1)
    return torch.cat([crops, torch.from_numpy(more)[:, None].to(crops) / 255], 1)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch says that memory is short, of the device or of the machine."""
    # By its name of before PyTorch 2.5, which later ones know too.
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _NO_MEMORY)


def _joined(outputs: Sequence[Any]) -> Any:
    """The outputs of a network for several parts of a batch as one."""
    first = outputs[0]
    if isinstance(first, tuple | list):
        rows = [_joined(column) for column in zip(*outputs, strict=True)]
        return type(first)(*rows) if hasattr(first, "_fields") else type(first)(rows)
    return torch.cat(list(outputs)) if isinstance(first, Tensor) else first


def rows_of(output: Any, start: int, stop: int) -> Any:
    """Some rows of every tensor of a network's output."""
    if isinstance(output, tuple | list):
        rows = [rows_of(v, start, stop) for v in output]
        return type(output)(*rows) if hasattr(output, "_fields") else type(output)(rows)
    return output[start:stop] if isinstance(output, Tensor) else output
