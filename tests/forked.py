"""Commands in children of a warm process: imports are there already, limits and kills concern the child alone.

One process, started by the first call, imports all of posecli once, computes nothing (threads of a pool don't survive a
fork) and forks for every command: a command that a shell would start in seconds runs in a fraction of one.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What commands import on the way, besides posecli.
WARM = (
    "numpy", "cv2", "av", "scipy.io", "scipy.optimize", "scipy.signal", "torch", "torch.utils.data", "torch.fx",
    "torch.distributed", "torch.nn.parallel", "torch.nn.functional", "safetensors.torch", "matplotlib.pyplot",
    "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "jinja2", "pycocotools.mask",
    "pycocotools.cocoeval", "h5py", "yaml", "pyarrow.parquet", "rich.console", "rich.progress", "rich.status",
    "rich.table", "rich.live", "concurrent.futures.process", "torch.utils.tensorboard",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: the signal that killed it, None: it hung), stderr, seconds, and the
    most memory that one process held, in bytes.

    Of several processes: the first code that is not 0, all that they said.
    """

    code: int | None
    err: str
    seconds: float
    memory: int = 0


class _Server:
    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "200"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._lock = threading.Lock()
        atexit.register(self.close)

    def ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the warm process has ended")
        return json.loads(answer)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


_server: _Server | None = None


def forked(
    arguments: Sequence[object],
    folder: Path,
    *,
    largest_file: int | None = None,
    kill_after: float | None = None,
    kill_once: str | None = None,
    limit: float = 240.0,
    processes: int = 1,
    memory: int | None = None,
) -> Ended:
    """Runs ``posecli ARGUMENTS`` in ``folder``.

    Args:
        largest_file: bytes that no file may grow beyond; writing on gives the error of a full disk's kind.
        kill_after: seconds after which the command and all its children get SIGKILL.
        kill_once: a file in ``folder`` with whose appearance they do.
        limit: seconds after which it counts as hanging.
        processes: that run it together, as torchrun would start them.
        memory: bytes of address space that each may take.
    """
    global _server
    _server = _server or _Server()
    asked = {
        "arguments": [str(a) for a in arguments], "folder": str(folder), "largest_file": largest_file,
        "kill_after": kill_after, "kill_once": kill_once, "limit": limit, "processes": processes, "memory": memory,
    }  # fmt: skip
    return Ended(**_server.ask(asked))


def _child(asked: dict[str, Any], said: str, environment: dict[str, str]) -> None:
    """Runs the command; never returns."""
    code = 70
    try:
        os.setsid()
        os.chdir(asked["folder"])
        os.environ.update(environment)
        for number, name in ((0, os.devnull), (1, os.devnull), (2, said)):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(name, flags, 0o644), number)
        sys.stdin, sys.stdout, sys.stderr = (open(n, "r" if n == 0 else "w") for n in range(3))  # noqa: SIM115
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if asked["largest_file"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (asked["largest_file"], resource.RLIM_INFINITY))
        if asked["memory"] is not None:
            resource.setrlimit(resource.RLIMIT_AS, (asked["memory"], asked["memory"]))
        from posecli.__main__ import main

        try:
            main(asked["arguments"])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        if asked["largest_file"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _run(asked: dict[str, Any]) -> dict[str, Any]:
    world = asked["processes"]
    environments: list[dict[str, str]] = [{}]
    if world > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environments = [{**common, "RANK": str(n), "LOCAL_RANK": str(n)} for n in range(world)]
    codes: dict[int, int] = {}
    most = 0
    with tempfile.TemporaryDirectory(prefix="forked") as folder:
        begin = time.monotonic()
        children = []
        for rank, environment in enumerate(environments):
            child = os.fork()
            if child == 0:
                _child(asked, f"{folder}/{rank}", environment)
            children.append(child)
        end = begin + (asked["limit"] if asked["kill_after"] is None else asked["kill_after"])
        sign = asked["kill_once"] and Path(asked["folder"], asked["kill_once"])
        while len(codes) < world and time.monotonic() < end and not (sign and sign.exists()):
            for child in (c for c in children if c not in codes):
                done, status, used = os.wait4(child, os.WNOHANG)
                if done:
                    codes[child] = os.waitstatus_to_exitcode(status)
                    most = max(most, used.ru_maxrss << 10)
            time.sleep(0.003)
        hung = len(codes) < world and asked["kill_after"] is None and not (sign and sign.exists())
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # also its own children
            if child not in codes:
                codes[child] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        seconds = time.monotonic() - begin
        err = "".join(p.read_text(errors="replace") for p in sorted(Path(folder).iterdir()))
    code = next((c for c in codes.values() if c), 0)
    return {"code": None if hung else code, "err": err, "seconds": seconds, "memory": most}


def _serve() -> None:
    import importlib
    import pkgutil

    import posecli

    for name in WARM:
        with contextlib.suppress(ImportError):  # what is not installed here is not used either
            importlib.import_module(name)
    for module in pkgutil.walk_packages(posecli.__path__, "posecli."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    import cv2
    import torch

    # What was imported may have started OpenCV's threads. 1 ends them, 0 would only leave them idle, and a child that
    # inherits them hangs when it ends them itself.
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    gc.collect()
    gc.freeze()  # a collection in the child would touch, and so copy, every page
    for line in sys.stdin:
        answers.write(json.dumps(_run(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
