"""Pictures on their way to the device ahead of time: two page-locked buffers and a stream of their own.

While the network works on one group of pictures the next is copied into page-locked memory and sent. What was sent is
found again by the picture itself, as long as anybody holds it; who looks for a picture that was not sent sends it then.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_sent: dict[tuple[int, torch.device], tuple[weakref.ref, Tensor, torch.cuda.Event | None]] = {}
_lock = threading.Lock()


def on_device(image: np.ndarray, device: torch.device) -> Tensor:
    """The picture (H, W, 3) uint8 on the device: where it was sent ahead, else sent now."""
    with _lock:
        found = _sent.get((id(image), device))
    if found is not None and found[0]() is image:
        _, tensor, ready = found
        if ready is not None:
            stream = torch.cuda.current_stream(device)
            stream.wait_event(ready)
            tensor.record_stream(stream)
        return tensor
    return torch.from_numpy(np.ascontiguousarray(image)).to(device)


def _remember(image: np.ndarray, tensor: Tensor, ready: torch.cuda.Event | None) -> None:
    key = (id(image), tensor.device)

    def gone(_: object) -> None:
        # No lock: it may be this very thread that holds it when the picture goes.
        _sent.pop(key, None)

    with _lock:
        _sent[key] = (weakref.ref(image, gone), tensor, ready)


def sent_ahead() -> int:
    """How many pictures are on a device now."""
    return len(_sent)


class Uploader:
    """Sends groups of pictures to a device, ahead of those who need them.

    Args:
        device: where to; on a CPU nothing is page-locked and nothing runs beside.
        buffers: groups that may be on their way together.
    """

    def __init__(self, device: torch.device, buffers: int = 2) -> None:
        # With its number: tensors that were sent know theirs.
        self.device = torch.zeros(0, device=device).device
        self._cuda = self.device.type == "cuda"
        self._stream = torch.cuda.Stream(self.device) if self._cuda else None
        self._buffers: list[tuple[Tensor, torch.cuda.Event | None] | None] = [None] * buffers
        self._next = 0

    def send(self, images: Sequence[np.ndarray]) -> None:
        """Sends pictures (H, W, 3) uint8 of any sizes; returns when they are in page-locked memory."""
        size = sum(image.size for image in images)
        if not size:
            return
        buffer = self._free(size)
        views, start = [], 0
        for image in images:
            view = buffer[start : start + image.size].view(image.shape)
            view.numpy()[...] = image
            views.append(view)
            start += image.size
        if self._stream is None:
            for image, view in zip(images, views, strict=True):
                _remember(image, view.clone(), None)
            return
        with torch.cuda.stream(self._stream):
            whole = buffer[:size].to(self.device, non_blocking=True)
            ready = torch.cuda.Event()
            ready.record(self._stream)
        start = 0
        for image in images:
            _remember(image, whole[start : start + image.size].view(image.shape), ready)
            start += image.size
        self._buffers[self._next - 1] = (buffer, ready)

    def _free(self, size: int) -> Tensor:
        """The buffer whose group has arrived longest ago, of at least that many bytes."""
        slot, self._next = self._next, (self._next + 1) % len(self._buffers)
        kept = self._buffers[slot]
        if kept is not None and kept[1] is not None:
            kept[1].synchronize()
        if kept is not None and kept[0].numel() >= size:
            return kept[0]
        buffer = torch.empty(size, dtype=torch.uint8, pin_memory=self._cuda)
        self._buffers[slot] = (buffer, None)
        return buffer
