"""NVIDIA's video decoder, through PyAV: one CUDA context a device for all videos that are opened.

By itself FFmpeg makes a context for every file that it opens, which takes a part of a second and hundreds of megabytes
of the device, and a video is opened two or three times. It can be lent one instead, that of the thread which opens
(`current_ctx` of its `libavutil/hwcontext_cuda.c`). Here that is one made for decoding, the first time, and kept until
the process ends.

It isn't PyTorch's, the device's primary context. FFmpeg refuses that one (`primary_ctx`) wherever PyTorch was there
first, since it has other flags; and lent it, FFmpeg copies each frame on the very stream on which PyTorch computes, so
that every frame would wait for the network.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import av

from posecli.errors import PoseError

#: From this libavutil on (FFmpeg 8.1) closing a file leaves a context that was lent as it is; before it was destroyed.
_LENDABLE = (60, 26)
#: CU_CTX_SCHED_BLOCKING_SYNC, as FFmpeg makes its own: a thread that waits for the device sleeps.
_SLEEP = 4
_lock = threading.Lock()


@contextlib.contextmanager
def decoder_of(gpu: str) -> Iterator[Any]:
    """What `av.open` takes as ``hwaccel``, while it lasts: the decoder of an NVIDIA device (``""``: the first), frames
    of which come back to the host's memory.

    Raises:
        PoseError: this PyAV or its FFmpeg knows no such decoder.
    """
    try:
        from av.codec.hwaccel import HWAccel, hwdevices_available
    except ImportError:
        raise PoseError("this PyAV knows no hardware decoders", hint="pip install 'av>=14'") from None
    if "cuda" not in hwdevices_available():
        raise PoseError("this build of FFmpeg knows no NVIDIA decoder")
    known: dict[str, Any] = {"device_type": "cuda", "device": gpu or None, "allow_software_fallback": False}
    with _lock:
        context = _context(int(gpu or 0))
    driver = _driver()
    if context is None or driver is None or driver.cuCtxPushCurrent_v2(context):
        yield HWAccel(**known)
        return
    try:
        yield HWAccel(**known, options={"current_ctx": "1"})
    finally:
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


@cache
def _context(number: int) -> ctypes.c_void_p | None:
    """The context that decodes on a device; None where FFmpeg is to make its own."""
    driver = _driver()
    if driver is None or av.library_versions["libavutil"] < _LENDABLE:
        return None
    context, device = ctypes.c_void_p(), ctypes.c_int()
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), number)
        or driver.cuCtxCreate_v2(ctypes.byref(context), _SLEEP, device)
        or driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))  # who makes one has it as the current one
    )
    return None if failed else context


@cache
def _driver() -> Any:
    """CUDA's driver, as a library; None where there is none."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
