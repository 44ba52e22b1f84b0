"""MATLAB files of version 7.3 as MATLAB writes them, from what `scipy.io.savemat` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import savemat

Save = Callable[[Path, Mapping[str, Any]], None]


def save73(path: Path, values: Mapping[str, Any]) -> None:
    """Structs are dicts, struct arrays numpy arrays with fields, cells object arrays, text str or arrays of it."""
    with h5py.File(path, "w", userblock_size=512) as file:
        writer = _Writer(file)
        for name, value in values.items():
            writer.put(file, name, value)
    with open(path, "r+b") as handle:
        handle.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def save5(path: Path, values: Mapping[str, Any]) -> None:
    savemat(path, dict(values), do_compression=True)


class _Writer:
    def __init__(self, file: Any) -> None:
        self.file, self.count = file, 0

    def put(self, group: Any, name: str, value: Any) -> None:
        if isinstance(value, dict):
            inner = group.create_group(name)
            inner.attrs["MATLAB_class"] = np.bytes_("struct")
            for field, item in value.items():
                self.put(inner, field, item)
            return
        if isinstance(value, str):
            value = np.array([value])
        value = np.atleast_2d(np.asarray(value))
        if value.dtype.names and value.size == 1:
            self.put(group, name, {n: value.ravel()[0][n] for n in value.dtype.names})
            return
        if value.dtype.names and value.size:
            inner = group.create_group(name)
            inner.attrs["MATLAB_class"] = np.bytes_("struct")
            for field in value.dtype.names:
                self._references(inner, field, value[field])
            return
        kind = {"U": "char", "b": "logical", "O": "cell", "V": "struct"}.get(value.dtype.kind, value.dtype.name)
        kind = "double" if kind == "float64" else kind
        if not value.size or (kind == "char" and not any(value.ravel())):
            data = group.create_dataset(name, data=np.array([0, 0], dtype=np.uint64))
            data.attrs["MATLAB_empty"] = np.uint8(1)
        elif kind == "cell":
            data = self._references(group, name, value)
        elif kind == "char":
            rows = [str(v) for v in value.ravel()]
            width = max(map(len, rows))
            codes = np.array([[ord(c) for c in row.ljust(width)] for row in rows], dtype=np.uint16)
            data = group.create_dataset(name, data=codes.T)
            data.attrs["MATLAB_int_decode"] = np.int32(2)
        else:
            data = group.create_dataset(name, data=(value.astype(np.uint8) if kind == "logical" else value).T)
        data.attrs["MATLAB_class"] = np.bytes_(kind)

    def _references(self, group: Any, name: str, values: np.ndarray) -> Any:
        data = group.create_dataset(name, values.T.shape, h5py.ref_dtype)
        for place in np.ndindex(values.T.shape):
            self.count += 1
            number = str(self.count)
            self.put(self.file.require_group("#refs#"), number, values.T[place])
            data[place] = self.file["#refs#"][number].ref
        return data
