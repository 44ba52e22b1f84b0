"""Who decodes: what is asked for and not there is an error, ``auto`` does without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posecli.errors import PoseError, UsageError
from posecli.inference import load_model
from posecli.pipeline import decoder_for
from posecli.video import VideoSource, reader

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

    def pretended(gpu: str) -> None:
        asked.append(gpu)

    monkeypatch.setattr(reader, "_hardware", pretended)
    with VideoSource(clip, decode="gpu:1") as source, VideoSource(clip) as plain:
        assert source.hardware
        for a, b in zip(source.frames(3, 9), plain.frames(3, 9), strict=True):
            assert a.index == b.index and np.array_equal(a.image, b.image)
        assert np.array_equal(source.read_at(2).image, plain.read_at(2).image)
    assert set(asked) == {"1"} and len(asked) >= 3


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
