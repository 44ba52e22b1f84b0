"""A walk over a MATLAB 5 file before anything is built from it: how large it unpacks, how deep it nests.

Format: MathWorks, "MAT-File Format" (versions 5 to 7). A header of 128 bytes (byte 124: version, 126: ``IM`` or
``MI`` for the byte order), then elements of a tag (type, bytes) and data; type 15 is a zlib stream that holds one
element, type 14 a matrix: array flags (the lowest byte is the class), dimensions, name, then what its class asks for.
Cells and structs hold further matrices.

scipy's reader believes the declared types, dimensions and nesting: a file of some kilobytes can ask for terabytes, for
more calls within calls than the C stack holds, or crash the interpreter with a type that does not exist. Nothing is
read by it that has not passed here.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
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
_INT8, _INT32, _UINT32, _UTF8 = 1, 5, 6, 16
_NUMBER_CODES = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13}
_TEXT_CODES = {1, 2, 4, 16, 17, 18}
_DAMAGED = "a damaged MATLAB file"
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
                raise PoseError(f"element of type {kind} at byte {at}", str(path), _DAMAGED)
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
                raise PoseError(f"element of type {kind} at byte {at}", where, _DAMAGED)
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
        if kind >> 16 > 4:
            raise struct.error("a small element of more than four bytes")
        return kind & 0xFFFF, kind >> 16, at + 4, at + 8
    return kind, count, at + 8, at + 8 + count + -count % 8


@dataclass(frozen=True)
class _Matrix:
    """A matrix's name, where further matrices in it start, how many these are, and what it is when it is not plain."""

    name: str
    start: int = 0
    inner: int = 0
    fault: str = ""


def _walk(data: bytes, order: str, where: str, limit: int) -> tuple[str, int]:
    """The variable's name and how many values it holds, 0 when it is not plain."""
    try:
        top = _matrix(data, 0, len(data), order, where)
        if top.fault:
            return top.name, 0
        count = 1
        stack = [(top.start, len(data), top.inner, 1)]
        while stack:
            at, end, left, depth = stack.pop()
            if depth > MAX_DEPTH and left:
                raise PoseError(f"{top.name!r} nests deeper than {MAX_DEPTH}", where)
            for _ in range(left):
                kind, size, start, following = _tag(data, at, order)
                if kind != _MATRIX or start != at + 8 or start + size > end:
                    raise PoseError(f"{top.name!r} is damaged at byte {at} of its value", where)
                if size:  # an empty value has none
                    found = _matrix(data, start, start + size, order, where)
                    if found.fault:
                        hint = "save plain arrays, text, cells and structs"
                        raise PoseError(f"{top.name!r} holds {found.fault}", where, hint)
                    if found.inner:
                        stack.append((found.start, start + size, found.inner, depth + 1))
                count += 1
                at = following
            if left and at != end:
                raise PoseError(f"{top.name!r} has more values than it declares", where, _DAMAGED)
            if count > limit:
                raise PoseError(f"more than {MAX_VALUES} values", where)
    except struct.error:
        raise PoseError("a value ends before its parts do", where, _DAMAGED) from None
    return top.name, count


def _matrix(data: bytes, at: int, end: int, order: str, where: str) -> _Matrix:
    """Looks at a matrix without those within it: every type and size that scipy takes on trust is checked here."""
    kind, size, start, at = _tag(data, at, order)
    if (kind, size) != (_UINT32, 8) or start + 8 != at:
        raise PoseError("a value has no flags", where, _DAMAGED)
    flags = struct.unpack_from(order + "I", data, start)[0]
    kind = flags & 0xFF
    if kind in _KINDS:
        return _Matrix("", fault=_KINDS[kind])
    coded, size, start, at = _tag(data, at, order)
    if coded not in (_INT32, _UINT32) or size % 4 or not 8 <= size <= 128:
        raise PoseError("a value has no dimensions", where, _DAMAGED)
    dims = struct.unpack_from(f"{order}{size // 4}i", data, start)
    shape = " x ".join(map(str, dims))
    if min(dims) < 0:
        raise PoseError(f"a value of {shape}", where, _DAMAGED)
    cells = math.prod(dims)
    coded, size, start, at = _tag(data, at, order)
    if coded not in (_INT8, _UTF8) or at > end:
        raise PoseError("a value has no name", where, _DAMAGED)
    name = bytes(data[start : start + size]).decode("latin1")
    if kind in _NUMERIC or kind == _CHAR:
        if cells > end - at:
            raise PoseError(f"a value of {shape} in {max(end - at, 0)} bytes", where, _DAMAGED)
        for _ in range(2 if flags >> 11 & 1 and kind != _CHAR else 1):
            coded, _, _, at = _tag(data, at, order)
            if coded not in (_TEXT_CODES if kind == _CHAR else _NUMBER_CODES):
                raise PoseError(f"numbers or text of the unknown type {coded}", where, _DAMAGED)
        # A last element without its padding is met at the top; within others everything has to fit.
        if not (at == end or (end == len(data) and abs(at - end) < 8)):
            raise PoseError(f"a value of {end - at} bytes more than it declares", where, _DAMAGED)
        return _Matrix(name)
    if kind not in (_CELL, _STRUCT):
        raise PoseError(f"a value of the unknown class {kind}", where, _DAMAGED)
    if kind == _STRUCT:
        coded, size, start, at = _tag(data, at, order)
        length = struct.unpack_from(order + "i", data, start)[0] if size == 4 else 0
        coded, size, _, at = _tag(data, at, order)
        if length < 1 or coded not in (_INT8, _UTF8) or size % length:
            raise PoseError("a struct has no field names", where, _DAMAGED)
        fields = size // length
        if not fields and cells > MAX_VALUES:
            raise PoseError(f"structs of {shape} without fields", where, _DAMAGED)
        cells *= fields
    if cells * 8 > end - at:
        raise PoseError(f"cells or structs of {shape} in {max(end - at, 0)} bytes", where, _DAMAGED)
    return _Matrix(name, at, cells)
