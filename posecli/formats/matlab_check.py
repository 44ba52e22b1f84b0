"""A walk over a MATLAB 5 file before anything is built from it: how large it unpacks, how deep it nests.

Format: MathWorks, "MAT-File Format" (versions 5 to 7). A header of 128 bytes (byte 124: version, 126: ``IM`` or
``MI`` for the byte order), then elements of a tag (type, bytes) and data; type 15 is a zlib stream that holds one
element, type 14 a matrix: array flags (the lowest byte is the class), dimensions, name, then what its class asks for.
Cells and structs hold further matrices.

scipy's reader believes the declared dimensions and the nesting: a file of some kilobytes can ask for terabytes, or for
more calls within calls than the C stack holds. Nothing is read by it that has not passed here.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

from posecli.errors import PoseError

HEADER = 128
MAX_BYTES = 2 << 30
"""What one file may unpack to."""
MAX_RATIO = 200
"""How much larger than itself it may unpack, beyond `SMALL`."""
SMALL = 64 << 20
MAX_DEPTH = 32
MAX_VALUES = 20_000_000
"""Matrices within one file; the release of MPII has about 4 million."""

_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _SPARSE = 1, 2, 4, 5
_NUMERIC = range(6, 16)
_KINDS = {3: "an object", 5: "a sparse matrix", 16: "a function", 17: "an object (string, table, ...)"}


def byte_order(header: bytes, where: str) -> str:
    """``"<"`` or ``">"`` of a MATLAB 5 header; PoseError when it is none."""
    order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
    if len(header) < HEADER or order is None:
        raise PoseError("not a MATLAB file of version 5 to 7.3", where, "save it in MATLAB with -v7")
    version = struct.unpack_from(order + "H", header, 124)[0]
    if version != 0x0100:
        raise PoseError(f"a MATLAB header of version {version >> 8}.{version & 255} without what it announces", where)
    return order


def names_of(path: Path) -> tuple[str, ...]:
    """The names of a MATLAB 5 file's variables, from the first bytes of each; PoseError when it is no such file."""
    names: list[str] = []
    size = path.stat().st_size
    with open(path, "rb") as handle:
        order = byte_order(handle.read(HEADER), str(path))
        at = HEADER
        while at + 8 <= size and len(names) < 10_000:
            handle.seek(at)
            kind, count = struct.unpack(order + "II", handle.read(8))
            head = handle.read(min(count, 4096))
            if kind == _COMPRESSED:
                head = _inflate_some(head)[8:]
            if kind not in (_MATRIX, _COMPRESSED):
                raise PoseError(f"element of type {kind} at byte {at}", str(path), "a damaged MATLAB file")
            names.append(_name(head, order))
            at += 8 + count
    return tuple(n for n in names if n)


def _inflate_some(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, 4096)
    except zlib.error:
        return b""


def _name(matrix: bytes, order: str) -> str:
    """The name in a matrix's first bytes; empty when it has none."""
    at = 0
    try:
        for _ in range(2):  # array flags, dimensions
            at = _tag(matrix, at, order)[3]
        kind, count, start, _ = _tag(matrix, at, order)
    except struct.error:
        return ""
    return matrix[start : start + count].decode("latin1") if kind == 1 and count <= 64 else ""


def check(path: Path) -> tuple[str, ...]:
    """Looks through a MATLAB 5 file; the names of its variables that hold plain values (numbers, text, cells, structs).

    Raises:
        PoseError: it is cut off or damaged, unpacks to too much, nests too deeply, declares more values than it has,
            or has an object within a plain variable.
    """
    where, size = str(path), path.stat().st_size
    plain, total, values = [], 0, 0
    with open(path, "rb") as handle:
        order = byte_order(handle.read(HEADER), where)
        at = HEADER
        while at + 8 <= size:
            handle.seek(at)
            kind, count = struct.unpack(order + "II", handle.read(8))
            if at + 8 + count > size:
                raise PoseError(f"cut off: the value at byte {at} would end at {at + 8 + count} of {size}", where)
            if total + count > MAX_BYTES:
                raise PoseError(f"it holds more than {MAX_BYTES >> 30} GiB", where)
            data, stored = handle.read(count), count
            if kind == _COMPRESSED:
                data = _inflate(data, MAX_BYTES - total, where)
                kind, count = struct.unpack_from(order + "II", data) if len(data) >= 8 else (0, 0)
                if count != len(data) - 8:
                    raise PoseError(f"cut off: the value at byte {at} has {len(data) - 8} of {count} bytes", where)
                data = data[8:]
            if kind != _MATRIX:
                raise PoseError(f"element of type {kind} at byte {at}", where, "a damaged MATLAB file")
            total += len(data)
            name, found = _walk(data, order, where, MAX_VALUES - values)
            values += found
            if found:
                plain.append(name)
            at += 8 + stored
    return tuple(plain)


def _inflate(data: bytes, limit: int, where: str) -> bytes:
    limit = min(limit, max(SMALL, MAX_RATIO * len(data)))
    try:
        stream = zlib.decompressobj()
        whole = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise PoseError(f"damaged: {error}", where) from None
    if len(whole) > limit:
        hint = "save it without compression (-v6) if that is meant"
        raise PoseError(f"a compressed value of {len(data)} bytes unpacks to more than {limit}", where, hint)
    return whole


def _tag(data: bytes, at: int, order: str) -> tuple[int, int, int, int]:
    """Type, bytes, where the data starts, where the next element starts; struct.error beyond the end."""
    kind, count = struct.unpack_from(order + "II", data, at)
    if kind >> 16:  # a small element: bytes, type and up to four bytes of data in eight
        return kind & 0xFFFF, kind >> 16, at + 4, at + 8
    return kind, count, at + 8, at + 8 + count + -count % 8


def _walk(data: bytes, order: str, where: str, limit: int) -> tuple[str, int]:
    """The variable's name and how many values it holds, 0 when it is not plain."""
    try:
        name, inner, fault = _matrix(data, 0, len(data), order, where)
        if fault:
            return name, 0
        count = 1
        stack = [(*region, 1) for region in inner]
        while stack:
            at, end, depth = stack.pop()
            if depth > MAX_DEPTH:
                raise PoseError(f"{name!r} nests deeper than {MAX_DEPTH}", where)
            while at < end:
                kind, size, start, following = _tag(data, at, order)
                if kind != _MATRIX or start + size > end:
                    raise PoseError(f"{name!r} is damaged at byte {at} of its value", where)
                if size:  # an empty value has none
                    _, regions, fault = _matrix(data, start, start + size, order, where)
                    if fault:
                        raise PoseError(f"{name!r} holds {fault}", where, "save plain arrays, text, cells and structs")
                    stack += [(*region, depth + 1) for region in regions]
                count += 1
                at = following
            if count > limit:
                raise PoseError(f"more than {MAX_VALUES} values", where)
    except struct.error:
        raise PoseError("a value ends before its parts do", where, "a damaged MATLAB file") from None
    return name, count


def _matrix(data: bytes, at: int, end: int, order: str, where: str) -> tuple[str, list[tuple[int, int]], str]:
    """A matrix's name, the regions of further matrices in it, and what it is when it is not plain."""
    _, _, start, at = _tag(data, at, order)
    kind = struct.unpack_from(order + "I", data, start)[0] & 0xFF
    if kind in _KINDS:
        return "", [], _KINDS[kind]
    _, size, start, at = _tag(data, at, order)
    if at > end or size % 4 or not 8 <= size <= 128:
        raise PoseError("a value has no dimensions", where, "a damaged MATLAB file")
    dims = struct.unpack_from(f"{order}{size // 4}i", data, start)
    if min(dims) < 0:
        raise PoseError(f"a value of {' x '.join(map(str, dims))}", where, "a damaged MATLAB file")
    cells = math.prod(dims)
    _, size, start, at = _tag(data, at, order)
    name = bytes(data[start : start + size]).decode("latin1")
    rest = end - at
    if kind in _NUMERIC or kind == _CHAR:
        if cells > max(rest, 0):
            what = f"a value of {' x '.join(map(str, dims))} in {max(rest, 0)} bytes"
            raise PoseError(what, where, "a damaged MATLAB file")
        return name, [], ""
    if kind not in (_CELL, _STRUCT):
        raise PoseError(f"a value of the unknown class {kind}", where, "a damaged MATLAB file")
    if kind == _STRUCT:
        _, _, start, at = _tag(data, at, order)
        length = struct.unpack_from(order + "i", data, start)[0]
        _, size, _, at = _tag(data, at, order)
        fields = size // length if length > 0 else 0
        cells = cells * fields if fields else cells * 8
        rest = end - at
    if cells * 8 > max(rest, 0) and cells:
        what = f"cells or structs of {' x '.join(map(str, dims))} in {max(rest, 0)} bytes"
        raise PoseError(what, where, "a damaged MATLAB file")
    return name, [(at, end)], ""
