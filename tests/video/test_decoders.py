"""Who decodes: what is asked for and not there is an error, ``auto`` does without."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from posecli.errors import PoseError, UsageError
from posecli.inference import load_model
from posecli.pipeline import decoder_for
from posecli.video import VideoSource, nvidia, reader

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@no_gpu
def test_without_a_gpu(clip: Path) -> None:
    with pytest.raises(PoseError, match=r"no GPU decodes this video here.*--decode cpu"):
        VideoSource(clip, decode="gpu")
    with VideoSource(clip, decode="auto") as source, VideoSource(clip) as plain:
        assert not source.hardware
        for a, b in zip(source.frames(), plain.frames(), strict=True):
            assert np.array_equal(a.image, b.image)


def test_no_such_decoder(clip: Path) -> None:
    with pytest.raises(PoseError, match="no decoder 'quick'"):
        VideoSource(clip, decode="quick")


def test_a_build_that_knows_no_nvidia(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av.codec.hwaccel

    monkeypatch.setattr(av.codec.hwaccel, "hwdevices_available", lambda: ["vaapi"])
    with pytest.raises(PoseError, match="knows no NVIDIA decoder"):
        VideoSource(clip, decode="gpu")
    assert not VideoSource(clip, decode="auto").hardware


def test_what_the_device_decodes_is_read_by_the_same_code(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a decoder that opens, every pass of the source goes through it."""
    asked = []

    @contextlib.contextmanager
    def pretended(gpu: str) -> Iterator[None]:
        asked.append(gpu)
        yield

    monkeypatch.setattr(reader, "decoder_of", pretended)
    with VideoSource(clip, decode="gpu:1") as source, VideoSource(clip) as plain:
        assert source.hardware
        for a, b in zip(source.frames(3, 9), plain.frames(3, 9), strict=True):
            assert a.index == b.index and np.array_equal(a.image, b.image)
        assert np.array_equal(source.read_at(2).image, plain.read_at(2).image)
    assert set(asked) == {"1"} and len(asked) >= 3


class Driver:
    """Of CUDA's driver what is asked: each thread's stack of contexts, of which the last is the current one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: str = "") -> None:
        self.made: list[int] = []
        self.refused = refused
        self._threads = threading.local()
        nvidia._context.cache_clear()
        monkeypatch.setattr(nvidia, "_driver", lambda: self)
        monkeypatch.setitem(av.library_versions, "libavutil", (60, 26, 102))

    @property
    def current(self) -> list[int]:
        if not hasattr(self._threads, "stack"):
            self._threads.stack = []
        return self._threads.stack

    def cuInit(self, flags: int) -> int:
        return 100 if self.refused == "cuInit" else 0

    def cuDeviceGet(self, device: Any, number: int) -> int:
        device._obj.value = number
        return 0

    def cuCtxCreate_v2(self, context: Any, flags: int, device: ctypes.c_int) -> int:
        if self.refused == "cuCtxCreate_v2":
            return 2  # CUDA_ERROR_OUT_OF_MEMORY
        self.made.append(device.value)
        context._obj.value = 1000 + device.value
        self.current.append(1000 + device.value)
        return 0

    def cuCtxPushCurrent_v2(self, context: ctypes.c_void_p) -> int:
        self.current.append(context.value or 0)
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        context._obj.value = self.current.pop()
        return 0


def test_all_videos_are_decoded_in_one_context(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch)
    seen: list[tuple[str, list[int], dict[str, str]]] = []

    def opened(gpu: str) -> None:
        with nvidia.decoder_of(gpu) as decoder:
            seen.append((gpu, [*driver.current], decoder.options))
        assert driver.current == []

    threads = [threading.Thread(target=opened, args=(gpu,)) for gpu in ("", "1", "0", "1")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opened("")
    with pytest.raises(ValueError), nvidia.decoder_of("0"):
        raise ValueError  # what cannot be opened
    assert driver.current == []
    assert sorted(driver.made) == [0, 1]
    lent = {"current_ctx": "1"}
    assert sorted(seen) == sorted(
        [("", [1000], lent), ("1", [1001], lent), ("0", [1000], lent), ("1", [1001], lent), ("", [1000], lent)]
    )
    nvidia._context.cache_clear()


@pytest.mark.parametrize("why", ["cuInit", "cuCtxCreate_v2", "an FFmpeg that destroys it", "no driver"])
def test_where_none_can_be_lent_each_video_has_its_own(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch, refused=why)
    if "FFmpeg" in why:
        monkeypatch.setitem(av.library_versions, "libavutil", (59, 39, 100))
    if why == "no driver":
        monkeypatch.setattr(nvidia, "_driver", lambda: None)
    with nvidia.decoder_of("0") as decoder:
        assert decoder.options == {} and driver.current == []
    assert driver.made == [] and driver.current == []
    nvidia._context.cache_clear()


def test_whose_decoder(tiny_model: Path) -> None:
    model = load_model(tiny_model, "cpu")
    assert decoder_for("auto", model) == decoder_for("cpu", model) == "cpu"
    assert decoder_for("gpu", model) == "gpu"
    model.device = torch.device("cuda", 1)
    assert decoder_for("auto", model) == "auto:1"
    assert decoder_for("gpu", model) == "gpu:1"
    assert decoder_for("cpu", model) == "cpu"
    with pytest.raises(UsageError, match="unknown decoder"):
        decoder_for("fast", model)


@no_gpu
def test_asked_for_on_the_command_line(cli: Callable[..., Any], tiny_model: Path, clip: Path, tmp_path: Path) -> None:
    common = ("infer", clip, "--weights", tiny_model, "--end", 2, "--device", "cpu", "--quiet")
    ran = cli(*common, "--decode", "gpu", "--out", tmp_path / "a.jsonl")
    assert ran.code == 1 and "--decode cpu" in ran.err
    assert not (tmp_path / "a.jsonl").exists()
    assert cli(*common, "--decode", "auto", "--out", tmp_path / "b.jsonl").code == 0
    assert cli(*common, "--decode", "other").code == 2


@pytest.mark.cuda
def test_the_device_decodes_the_same_pictures(clip: Path) -> None:
    with VideoSource(clip, decode="auto") as source, VideoSource(clip) as plain:
        if not source.hardware:
            pytest.skip("this machine's GPU has no decoder that FFmpeg can use")
        for a, b in zip(source.frames(), plain.frames(), strict=True):
            assert a.index == b.index and a.time == b.time
            # Planes are the same; the conversion of NV12 and of planar YUV may round differently.
            assert np.abs(a.image.astype(int) - b.image).max() <= 2


@pytest.mark.cuda
def test_further_videos_take_no_further_context(clip: Path) -> None:
    """Of the device a context takes some hundred megabytes, a decoder some ten."""
    with VideoSource(clip, decode="auto") as source:
        if not source.hardware or nvidia._context(0) is None:
            pytest.skip("this machine's FFmpeg decodes on the CPU, or makes its own contexts")
        list(source.frames())
    network = torch.nn.Conv2d(3, 8, 3).cuda()
    image = torch.randn(1, 3, 64, 64, device="cuda")
    expected = network(image)
    before, _ = torch.cuda.mem_get_info()
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(VideoSource(clip, decode="gpu")) for _ in range(4)]
        for source in sources:
            source.read_at(3)
        assert before - torch.cuda.mem_get_info()[0] < 600 << 20
    # PyTorch's own goes on.
    assert torch.equal(network(image), expected)
