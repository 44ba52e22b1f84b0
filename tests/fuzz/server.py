"""A warm posecli: one process imports everything once and forks for each command, so that a case costs milliseconds.

The child runs in its own session with limits on memory, on the size of files and on its time; when that is up, it and
all it started are killed. Time is the processor's, so that a busy machine fails nothing; of the clock's it has a
multiple, for what waits without working. What runs is `posecli.__main__.main`, as the shell would.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import math
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MEMORY = 4 << 30
FILE_SIZE = 1 << 30
WAITING = 6  # clock time over processor time at which a command counts as hanging
# What verbs import on the way; torch is none of it.
WARM = (
    "numpy", "cv2", "av", "scipy.io", "scipy.optimize", "pycocotools.mask", "h5py", "typer._adapters", "rich.console",
    "rich._emoji_codes", "rich.live", "rich.progress", "rich.status", "rich.table", "posecli.cli.app",
    "posecli.convert", "posecli.exports", "posecli.predictions", "posecli.render_files", "posecli.metrics",
    "posecli.metrics.reading", "posecli.video", "posecli.reports.gallery", "posecli.checks", "posecli.stats",
    "yaml", "pyarrow.parquet", "posecli.metrics.foreign", "xml.etree.ElementTree",
)  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """What a command left.

    Attributes:
        code: as the shell reports it, negative for a signal; None: killed, its time was up.
        out, err: what it wrote.
        seconds, processor: that went by, and that it worked.
        memory: the most that it held, in bytes.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    processor: float = 0.0
    memory: int = 0


class Server:
    """`run` commands one after the other; `close` when done."""

    def __init__(self) -> None:
        here = Path(__file__).resolve().parent
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, str(here / "server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        self._left = tempfile.TemporaryDirectory(prefix="fuzz-server")

    def run(self, arguments: list[str], folder: Path, seconds: float = 20.0, stdin: Path | None = None) -> Ran:
        """One command in a folder."""
        asked = {
            "arguments": arguments, "folder": str(folder), "seconds": seconds, "stdin": stdin and str(stdin),
            "left": self._left.name,
        }  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the fuzz server has ended")
        # Through files: the result of a command may be larger than a pipe should carry.
        said = [Path(self._left.name, name).read_bytes().decode("utf-8", "replace") for name in ("out", "err")]
        return Ran(out=said[0], err=said[1], **json.loads(answer))

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        self._left.cleanup()


def _child(asked: dict, out: int, err: int) -> None:
    """Runs the command; never returns."""
    code = 70
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = math.ceil(asked["seconds"])
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        os.chdir(asked["folder"])
        source = os.open(asked["stdin"] or os.devnull, os.O_RDONLY)
        for number, descriptor in enumerate((source, out, err)):
            os.dup2(descriptor, number)
        # As Python opens them: what stderr cannot encode is escaped.
        kinds = ((0, "r", "strict"), (1, "w", "strict"), (2, "w", "backslashreplace"))
        sys.stdin, sys.stdout, sys.stderr = (open(n, how, errors=errors) for n, how, errors in kinds)  # noqa: SIM115
        from posecli.__main__ import main

        try:
            main(asked["arguments"])
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _serve() -> None:
    import importlib

    for name in WARM:
        importlib.import_module(name)
    import posecli.cli
    import posecli.formats

    for package in (posecli.formats, posecli.cli):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    import cv2
    import typer.main

    from posecli.cli.app import app

    cv2.setNumThreads(0)  # a started pool would not survive the fork
    # Built anew for every command it would take longer than most commands do.
    command = typer.main.get_command(app)
    typer.main.get_command = lambda _: command
    # Parsing an option imports more.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        app(args=["convert", "--help"])
    gc.collect()
    gc.freeze()  # a collection in the child would touch, and so copy, every page
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        asked = json.loads(line)
        with open(Path(asked["left"], "out"), "wb") as out, open(Path(asked["left"], "err"), "wb") as err:
            started = time.monotonic()
            child = os.fork()
            if not child:
                _child(asked, out.fileno(), err.fileno())
            code, pause = None, 0.001
            while True:
                done, status, used = os.wait4(child, os.WNOHANG)
                if done:
                    code = os.waitstatus_to_exitcode(status)
                    break
                if time.monotonic() - started > WAITING * asked["seconds"]:
                    break
                time.sleep(pause)
                pause = min(2 * pause, 0.02)
            if code in (-signal.SIGXCPU, -signal.SIGKILL):
                code = None
            # Also what a command that has ended may have left behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            if not done:
                _, _, used = os.wait4(child, 0)
            answer = {
                "code": code, "seconds": time.monotonic() - started,
                "processor": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss << 10,
            }  # fmt: skip
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
