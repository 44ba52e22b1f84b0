"""Small files that hold, or say they hold, very much: what a reader must refuse, or survive."""

from __future__ import annotations

import base64
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

ENTITIES = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">'
    b'<!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;"><!ENTITY f "&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;">'
    b'<!ENTITY g "&f;&f;&f;&f;&f;&f;&f;&f;&f;&f;"><!ENTITY x SYSTEM "file:///etc/passwd">]>'
    b"<annotations><version>1.1</version><meta>&g;&x;</meta></annotations>"
)
LONG_NUMBER = "9" * 5000  # more digits than Python turns into a whole number
DEEP = 100_000


def yaml_aliases(key: str = "names") -> str:
    """Lines for a data.yaml: lists of lists of the same list, 10^12 names when they are written out."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join([*lines, f"{key}: *a11", ""])


def yaml_merges() -> str:
    """Lines for a data.yaml: tables merged from tables, each ten times."""
    lines = ["m0: &m0 {a: 1, b: 2, c: 3}"]
    lines += [f"m{n}: &m{n}\n  <<: [{', '.join([f'*m{n - 1}'] * 10)}]\n  k{n}: 1" for n in range(1, 12)]
    return "\n".join([*lines, ""])


def zlib_of_zeros(head: bytes, zeros: int) -> bytes:
    """A zlib stream of ``head`` and so many zeros (a multiple of a mebibyte): one packed block, repeated."""
    packer = zlib.compressobj(9)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(_BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, zlib.DEFLATED, -15)
    low, high = zlib.adler32(head) & 0xFFFF, zlib.adler32(head) >> 16
    checksum = struct.pack(">HH", (high + zeros * low) % 65521, low)  # RFC 1950, section 8.2
    return start + block * (zeros // _BLOCK) + end.flush() + checksum


_BLOCK = 1 << 20


@lru_cache
def zip_bomb(blocks: int = 200) -> bytes:
    """An .npz with one array of zeros."""
    array, archive = io.BytesIO(), io.BytesIO()
    size = blocks * _BLOCK
    header = {"descr": "|u1", "fortran_order": False, "shape": (size // 8, 4, 2)}
    np.lib.format.write_array_header_1_0(array, header)  # type: ignore[arg-type]
    array.write(bytes(size))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        packed.writestr("keypoints.npy", array.getvalue())
    return archive.getvalue()


@lru_cache
def mat_bomb(blocks: int = 512) -> bytes:
    """A MATLAB 5 file with one compressed element of zeros."""
    packed = zlib_of_zeros(np.array([14, blocks * _BLOCK], "<u4").tobytes(), blocks * _BLOCK)
    head = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + b"\x00\x01IM"
    return head + np.array([15, len(packed)], "<u4").tobytes() + packed


@lru_cache
def npy_claim() -> bytes:
    """An .npy of eighty bytes that says it holds terabytes."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 5, 3), }"
    return b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n" + bytes(80)


def hdf5_bomb(path: Path, names: dict[str, tuple[int, ...]], attributes: dict[str, dict[str, str]]) -> None:
    """An HDF5 file whose data sets were never written: any shape in a few bytes, read as zeros.

    Args:
        path: the file. names: path in it to shape. attributes: path in it to attributes.
    """
    import h5py

    with h5py.File(path, "w") as file:
        for name, shape in names.items():
            file.create_dataset(name, shape=shape, dtype="f8", chunks=(*[1] * (len(shape) - 1), min(shape[-1], 4096)))
        for name, values in attributes.items():
            for key, value in values.items():
                file[name].attrs[key] = np.bytes_(value)


def parquet_bomb(path: Path, like: Path, groups: int = 3) -> None:
    """A table like that of another file, of a million equal rows a group, which run lengths make small."""
    import pyarrow as pa
    import pyarrow.parquet

    first = pa.parquet.read_table(like).slice(0, 1)
    block = first.take(pa.array(np.zeros(100_000, np.int64)))
    group = pa.concat_tables([block] * 10)
    with pa.parquet.ParquetWriter(path, first.schema, compression="zstd") as writer:
        for _ in range(groups):
            writer.write_table(group, row_group_size=len(group))


@lru_cache
def png_bomb(side: int = 1 << 15) -> bytes:
    """A PNG of one colour: 3.2 GB as RGB, a megabyte as a file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib_of_zeros(bytes(side), side * side)  # a row is its filter, 0, and its pixels
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def nested(key: str = "unknown") -> str:
    """A key with lists in lists, as part of an object's text."""
    return f'"{key}": {"[" * DEEP}{"]" * DEEP}'


def deep_within(text: str) -> str:
    """A JSON object or list with something very deep in its first object."""
    return text.replace("{", "{" + nested() + ", ", 1)


def long_number_within(text: str, number: str = LONG_NUMBER) -> str:
    """A JSON object or list with a whole number of thousands of digits under a key nobody knows."""
    return text.replace("{", f'{{"unknown": {number}, ', 1)


def picture_in_json(text: str) -> str:
    """labelme's JSON with a very large picture inside, as labelme itself stores small ones."""
    value = json.loads(text)
    value["imageData"] = base64.b64encode(png_bomb()).decode("ascii")
    value.pop("imageWidth", None)
    value.pop("imageHeight", None)
    return json.dumps(value)


JSON_DANGERS: dict[str, Callable[[str], str]] = {"deep": deep_within, "long number": long_number_within}
