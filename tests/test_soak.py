"""Minutes of video at full speed, and pictures as large as cameras make them; `make soak` takes half an hour."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from forked import forked

from posecli.video import VideoWriter, open_source

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux' /proc")]


def test_memory_and_descriptors_stay_flat_over_three_minutes(tmp_path: Path, tiny_model: Path) -> None:
    place = Path(__file__).resolve().parent.parent / "benchmarks/soak.py"
    specification = importlib.util.spec_from_file_location("soak", place)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    result = module.soak(3.0, str(tiny_model), tmp_path, every=0.25)
    print(result)
    assert result["frames"] == 4500 and result["flat"], result


@pytest.mark.parametrize("model", ["tiny", "dekr-tiny", "hrnet-tiny", "default"])
def test_a_4k_clip(tmp_path: Path, tiny_model: Path, model: str) -> None:
    """3840 x 2160, with an overlay; top-down models find people first."""
    from posecli.checkpoint import ModelMeta, save_model
    from posecli.models import MODELS
    from posecli.skeletons import COCO17

    frames = 3
    rows, columns = np.mgrid[:2160, :3840]
    with VideoWriter(tmp_path / "big.mp4", 3840, 2160, 25) as writer:
        for n in range(frames):
            image = np.stack([(columns // 8 + n) % 256, (rows // 8) % 256, (rows + columns) // 16 % 256], 2)
            writer.write(image.astype(np.uint8), n / 25)
    given: list[object] = ["--weights", tiny_model]
    if model == "default":
        given = []
    elif model != "tiny":
        place = tmp_path / f"{model}.safetensors"
        codec, size = ("dekr", (256, 256)) if model.startswith("dekr") else ("gaussian", (64, 64))
        save_model(place, MODELS[model](keypoints=17), ModelMeta(model, {"keypoints": 17}, COCO17, size, codec=codec))
        given = ["--weights", place]
        if model == "hrnet-tiny":
            given += ["--boxes", "full"]
    command = ["infer", "big.mp4", *given, "--out", "a.jsonl", "--render", "--device", "cpu", "--json"]
    ended = forked(command, tmp_path, limit=600, memory=24 << 30)
    assert ended.code == 0, ended.err
    lines = [json.loads(x) for x in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert (lines[0]["width"], lines[0]["height"]) == (3840, 2160) and len(lines) == frames + 1
    with open_source(tmp_path / "big.overlay.mp4") as source:
        assert (source.width, source.height, sum(1 for _ in source.frames())) == (3840, 2160, frames)
    assert 0 < ended.memory < 24 << 30
