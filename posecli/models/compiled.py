"""C++ beside the networks, compiled on this machine when first needed and kept in the user's cache.

The sources stand in this folder. They know nothing of Python or PyTorch, so that building takes two seconds and a C++
compiler (``CXX``, else c++, g++ or clang++) is all it takes. Everything that runs as C++ has a twin that does not.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from posecli.errors import PoseError
from posecli.files import replace_when_done
from posecli.zoo import cache_folder

#: Contraction to fused multiply-add is meant; no other liberty is taken with the arithmetic.
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-ffp-contract=fast", "-fopenmp", "-fPIC", "-shared", "-std=c++17")
_WIDE = "-mprefer-vector-width=512"
_PATIENCE = 120  # seconds


def find_compiler() -> str | None:
    """The C++ compiler of this machine, or None. ``POSECLI_COMPILE=0`` says that there is none."""
    if os.environ.get("POSECLI_COMPILE") == "0" or not sys.platform.startswith("linux"):
        return None
    return _found_compiler(os.environ.get("CXX"), os.environ.get("PATH"))


@cache
def _found_compiler(own: str | None, path: str | None) -> str | None:
    """Asked for several times in every frame, so the search is made once."""
    names = [own] if own else ["c++", "g++", "clang++"]
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def kernel_folder() -> Path:
    """Where built libraries are kept; it may not exist yet."""
    return cache_folder().parent / "kernels"


def build(source: str, **definitions: int) -> ctypes.CDLL:
    """The library of a source in this folder, built unless the cache has it.

    A library is known by its source, its definitions, compiler and processor, so none is used on a machine that it was
    not built for.

    Args:
        source: file name.
        definitions: what the source leaves open.

    Raises:
        PoseError: no compiler, or it refuses.
    """
    compiler = find_compiler()
    if compiler is None:
        raise PoseError("no C++ compiler", source, "install g++ or clang++, or choose --speed fused")
    return _built(compiler, source, tuple(sorted(definitions.items())), kernel_folder())


@cache
def _built(compiler: str, source: str, definitions: tuple[tuple[str, int], ...], folder: Path) -> ctypes.CDLL:
    text = Path(__file__).with_name(source)
    flags = [*_FLAGS, *([_WIDE] if platform.machine() == "x86_64" else [])]
    flags += [f"-D{name}={value}" for name, value in definitions]
    known_by = [text.read_bytes(), _version(compiler).encode(), _processor().encode(), " ".join(flags).encode()]
    digest = hashlib.sha256(b"\0".join(known_by)).hexdigest()[:24]
    library = folder / f"{text.stem}-{digest}.so"
    if not library.is_file():
        _compile(compiler, flags, text, library)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise PoseError(f"a compiled library cannot be loaded: {error}", str(library), "delete it") from None


def _compile(compiler: str, flags: list[str], text: Path, library: Path) -> None:
    try:
        library.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replace_when_done(library) as part:
            done = subprocess.run(
                [compiler, *flags, str(text), "-o", str(part)], capture_output=True, text=True, timeout=_PATIENCE
            )
            if done.returncode:
                raise PoseError(f"the C++ compiler refuses: {done.stderr.strip()[-500:]}", compiler, "--speed fused")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PoseError(f"C++ cannot be compiled: {error}", str(library), "choose --speed fused") from None


@cache
def _version(compiler: str) -> str:
    try:
        return subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=_PATIENCE).stdout
    except (OSError, subprocess.TimeoutExpired):
        return compiler


def _processor() -> str:
    """What the processor can do, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
