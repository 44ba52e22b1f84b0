"""Fixtures that many tests share."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference cases and real data beside the checkout; tests that need it skip without it."""
    folder = Path(os.environ.get("POSECLI_SHARED", ROOT.parent / "shared"))
    if not (folder / "DESIGN.md").exists():
        pytest.skip("reference material (../shared) is not here; set POSECLI_SHARED to its folder")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``cuda`` skip where there is no such device."""
    marked = [item for item in items if "cuda" in item.keywords]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device; on a machine with one: make test-gpu"))


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli() -> Callable[..., Outcome]:
    """``cli("evaluate", gt, pred)``: runs a verb in this process as the shell would (pipes: use a subprocess)."""

    def run(*arguments: object) -> Outcome:
        from posecli.__main__ import main

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main([str(a) for a in arguments])
                code = 0
            except SystemExit as stop:
                code = int(stop.code or 0)
        return Outcome(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-stage model of random weights that "finds" people anywhere: for what does not depend on who is found."""
    import torch

    from posecli.checkpoint import ModelMeta, save_model
    from posecli.models import MODELS
    from posecli.skeletons import BODY19

    torch.manual_seed(5)
    small = {"widths": (16, 16, 32, 32), "blocks": (1, 1, 1, 1), "stem_channels": 16, "channels": 16}
    pose = ModelMeta(
        "pose-fpn", {"keypoints": 19, **small}, BODY19, (64, 64), codec="softmax", extra={"threshold": 0.0}
    )
    people = {"keypoints": 19, "heatmap_channels": 16, "joint_channels": 2, **small}
    finder = ModelMeta("dekr-finder", people, BODY19, (96, 96), codec="people", extra={"floor": 0.0, "overlap": 0.3})
    networks = [MODELS[m.architecture](**m.arguments) for m in (pose, finder)]
    torch.nn.init.normal_(networks[1].head_heatmap[1].bias)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, networks[0], pose, finder=(networks[1], finder))
    return path


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A server of moto on this machine; what is given is s3fs's file system, connected to it."""
    fsspec = pytest.importorskip("fsspec")
    server = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[s3]' flask flask-cors")
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'posecli[remote]'")
    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    files = fsspec.filesystem("s3")
    files.mkdir("lab")
    yield files
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    running.stop()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short H.264 clip (30 frames of 96 x 64 at 29.97 frames/s) in which shapes move."""
    import numpy as np

    from posecli.video import VideoWriter

    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    across, down = np.meshgrid(np.arange(96), np.arange(64))
    with VideoWriter(path, 96, 64, 29.97) as writer:
        for t in range(30):
            image = np.full((64, 96, 3), 60, np.uint8)
            image[..., 1] += (across + 3 * t).astype(np.uint8) % 97
            image[(across - 20 - t) ** 2 + (down - 30) ** 2 < 150] = (220, 180, 150)
            writer.write(image, t / 29.97)
    return path
