"""MATLAB files, version 5 to 7 (scipy) and 7.3 (HDF5, through h5py), as plain Python values.

    numbers and logicals   array of at least two axes, as MATLAB shows it
    text                   str; a matrix of characters: list of str, one a row, trailing blanks cut
    cell array             list, column by column (MATLAB's order)
    struct                 dict
    struct array           list of dict, column by column; none: []

Version 7.3 is HDF5 behind 512 bytes of header: arrays with their axes reversed, classes in the attribute
``MATLAB_class``, text as numbers of its characters, cells and struct arrays as references to values in ``#refs#``, and
``MATLAB_empty`` where a value has no elements (what is stored then are its dimensions).

Nothing is unpickled or run, no link to another file is followed, and what a file unpacks to is looked at before it is
unpacked (`matlab_check`). Objects (``table``, ``string``, functions) and sparse matrices are left out where they are
variables of their own, and are an error within others.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import MissingExtra, PoseError, reason
from posecli.formats import matlab_check
from posecli.formats.matlab_check import MAX_BYTES, MAX_DEPTH, MAX_RATIO, SMALL

_HDF5 = b"\x89HDF\r\n\x1a\n"


def read_mat(path: str | Path) -> dict[str, Any]:
    """Variable name to plain value (see the module's table) of a ``.mat`` file.

    Raises:
        PoseError: no MATLAB file, damaged, cut off, unpacking to more than 2 GiB or 200 times its size, nested deeper
            than 32, or holding objects within other values.
        MissingExtra: a 7.3 file and no h5py.
    """
    path = Path(path)
    if is_hdf5(path):
        return _read_hdf5(path)
    plain = matlab_check.check(path)
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of variables that stand twice: the last one counts, as in MATLAB
            loaded = loadmat(path, variable_names=list(plain), mat_dtype=True)
    except (MatReadError, OSError, ValueError, TypeError, IndexError, KeyError, NotImplementedError) as error:
        raise PoseError(f"not a MATLAB file that can be read: {reason(error)}", str(path)) from None
    except (MemoryError, RecursionError, OverflowError):
        raise PoseError("it unpacks to more than there is memory for", str(path)) from None
    return {n: _plain(a) for n, a in loaded.items() if n in plain}


def variable_names(path: str | Path) -> tuple[str, ...]:
    """The names of a file's variables without reading them; none when it is no MATLAB file.

    Raises:
        MissingExtra: a 7.3 file and no h5py.
    """
    path = Path(path)
    try:
        if is_hdf5(path):
            with _open(path) as file:
                return tuple(n for n in file if not n.startswith("#"))
        return matlab_check.names_of(path)
    except MissingExtra:
        raise
    except (PoseError, RuntimeError, OSError, KeyError, ValueError, TypeError):
        return ()


def is_hdf5(path: Path) -> bool:
    """Whether the file is HDF5: its signature stands at the start or behind MATLAB's 512 bytes."""
    try:
        with open(path, "rb") as handle:
            head = handle.read(520)
    except OSError as error:
        raise PoseError(f"cannot read: {error.strerror or error}", str(path)) from None
    return head[:8] == _HDF5 or head[512:] == _HDF5


def _plain(value: Any) -> Any:
    """A value as scipy gives it, in the module's terms."""
    if value.dtype.names:
        names = value.dtype.names
        rows = [{n: _plain(row[n]) for n in names} for row in value.ravel(order="F")]
        return rows[0] if len(rows) == 1 else rows
    if value.dtype == object:
        return [_plain(v) if isinstance(v, np.ndarray) else v for v in value.ravel(order="F")]
    if value.dtype.kind in "US":
        lines = [str(line).rstrip() for line in value.ravel(order="F")]
        return lines[0] if len(lines) == 1 else lines or ""
    return value


# --- version 7.3 ---


def _open(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise MissingExtra("h5py", "hdf5", f"reading {path.name}, a MATLAB 7.3 (HDF5) file,") from None
    try:
        return h5py.File(path, "r")
    except (OSError, ValueError, RuntimeError) as error:
        raise PoseError(f"not an HDF5 file that can be read: {reason(error)}", str(path)) from None


def _read_hdf5(path: Path) -> dict[str, Any]:
    try:
        with _open(path) as file:
            reader = _Hdf5Reader(file, path)
            return {n: reader.value(file, n, 0) for n in file if not n.startswith("#") and not reader.is_object(n)}
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise PoseError(f"not a MATLAB file that can be read: {reason(error)}", str(path)) from None
    except MemoryError:
        raise PoseError("it unpacks to more than there is memory for", str(path)) from None


class _Hdf5Reader:
    """Reads one open file, counting bytes and values."""

    def __init__(self, file: Any, path: Path) -> None:
        self.file, self.where = file, str(path)
        self.bytes = 0
        # A genuine value takes more than 16 bytes of the file: only references in circles pass this.
        self.left = 1000 + path.stat().st_size // 16

    def is_object(self, name: str) -> bool:
        """Whether a variable is an object or sparse: no plain value."""
        attributes = self._linked(self.file, name).attrs
        return bool({"MATLAB_object_decode", "MATLAB_sparse"} & set(attributes)) or _class(attributes) in (
            "function_handle",
            "table",
        )

    def _linked(self, group: Any, name: str) -> Any:
        import h5py

        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise PoseError(f"{name!r} is a link to somewhere else", self.where, "only values in the file are read")
        return group[name]

    def value(self, group: Any, name: str, depth: int) -> Any:
        """The plain value of a member of a group."""
        return self._node(self._linked(group, name), depth)

    def _node(self, node: Any, depth: int) -> Any:
        import h5py

        self.left -= 1
        if depth > MAX_DEPTH or self.left < 0:
            raise PoseError(f"{node.name!r} nests deeper than {MAX_DEPTH} or in circles", self.where)
        kind = _class(node.attrs)
        if {"MATLAB_object_decode", "MATLAB_sparse"} & set(node.attrs):
            hint = "save plain arrays, text, cells and structs"
            raise PoseError(f"{node.name!r} is an object or sparse", self.where, hint)
        if isinstance(node, h5py.Group):
            return self._struct(node, depth)
        if not isinstance(node, h5py.Dataset):
            raise PoseError(f"{node.name!r} is neither values nor a struct", self.where)
        if node.attrs.get("MATLAB_empty", 0):
            return "" if kind == "char" else [] if kind in ("cell", "struct") else np.empty((0, 0))
        if node.dtype == h5py.ref_dtype:
            return self._cell(node, depth)
        return self._array(node, kind)

    def _struct(self, group: Any, depth: int) -> Any:
        import h5py

        fields = {name: self._linked(group, name) for name in group}
        many = [
            isinstance(f, h5py.Dataset) and f.dtype == h5py.ref_dtype and _class(f.attrs) is None
            for f in fields.values()
        ]
        if not fields or not all(many):
            return {name: self._node(field, depth + 1) for name, field in fields.items()}
        columns = {name: self._cell(field, depth) for name, field in fields.items()}
        if len({len(c) for c in columns.values()}) > 1:
            raise PoseError(f"{group.name!r}: fields of different lengths", self.where)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _cell(self, dataset: Any, depth: int) -> list[Any]:
        # HDF5's order with the axes reversed is MATLAB's column by column.
        references = self._values(dataset).ravel()
        return [self._node(self.file[r], depth + 1) if r else np.empty((0, 0)) for r in references]

    def _array(self, dataset: Any, kind: str | None) -> Any:
        import h5py

        if h5py.check_string_dtype(dataset.dtype) is not None:  # not MATLAB's own way, but that of other writers
            text = [str(t) for t in np.ravel(self._check(dataset).asstr()[()])]
            return text[0] if len(text) == 1 else text
        if dataset.dtype.kind not in "fiub":
            raise PoseError(f"{dataset.name!r} is of {dataset.dtype}, not numbers", self.where)
        values = self._values(dataset).T
        if kind == "char":
            rows = ["".join(map(chr, row)).rstrip() for row in np.atleast_2d(values)]
            return rows[0] if len(rows) == 1 else rows
        values = values.astype(bool) if kind == "logical" else values
        return np.atleast_2d(values) if values.ndim < 2 else values

    def _values(self, dataset: Any) -> np.ndarray:
        return np.asarray(self._check(dataset)[()])

    def _check(self, dataset: Any) -> Any:
        if dataset.external or dataset.is_virtual:
            raise PoseError(f"{dataset.name!r} lies in other files", self.where, "only values in the file are read")
        size = dataset.size * dataset.dtype.itemsize
        self.bytes += size
        stored = dataset.id.get_storage_size()
        if self.bytes > MAX_BYTES or size > max(SMALL, MAX_RATIO * stored):
            raise PoseError(f"{dataset.name!r} unpacks from {stored} bytes to {size}", self.where)
        return dataset


def _class(attributes: Any) -> str | None:
    value = attributes.get("MATLAB_class")
    return None if value is None else value.decode() if isinstance(value, bytes) else str(value)


# --- what readers ask of a value ---


def structs(value: Any, where: str) -> list[dict[str, Any]]:
    """A struct or struct array as a list; ``[]`` for an empty value. PoseError for anything else."""
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list) and all(isinstance(v, dict) for v in value):
        return value
    if is_empty(value):
        return []
    raise PoseError(f"{describe(value)} where a struct array is due", where)


def cells(value: Any, where: str) -> list[Any]:
    """A cell array (or a single value in its place) as a list; ``[]`` for an empty value."""
    if isinstance(value, list):
        return value
    return [] if is_empty(value) else [value]


def field(value: dict[str, Any], name: str, where: str) -> Any:
    """A struct's field; PoseError names those it has."""
    if name not in value:
        raise PoseError(f"no field {name!r}", where, f"it has {', '.join(value) or 'none'}")
    return value[name]


def is_empty(value: Any) -> bool:
    """Whether a value is MATLAB's ``[]``, ``''`` or ``{}``."""
    return value is None or (isinstance(value, (str, list, dict)) and not value) or np.size(value) == 0


def number(value: Any, where: str) -> float:
    """A single finite number; also text that is one (MPII has ``'1'``). PoseError for anything else."""
    if isinstance(value, str):
        try:
            value = np.array([[float(value)]])
        except ValueError:
            raise PoseError(f"{value!r} is not a number", where) from None
    if not isinstance(value, np.ndarray) or value.size != 1 or value.dtype.kind not in "fiub":
        raise PoseError(f"{describe(value)} where one number is due", where)
    single = float(value.ravel()[0])
    if not np.isfinite(single):
        raise PoseError("a number that is not finite", where)
    return single


def text(value: Any, where: str) -> str:
    """A text, also in a cell; PoseError for anything else."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return value
    if is_empty(value):
        return ""
    raise PoseError(f"{describe(value)} where text is due", where)


def array(value: Any, shape: Sequence[int | None], where: str) -> np.ndarray:
    """Numbers as float64 of that shape (None: any length); PoseError for anything else. NaN passes."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        raise PoseError(f"{describe(value)} where numbers are due", where)
    fits = value.ndim == len(shape) and all(b is None or a == b for a, b in zip(value.shape, shape, strict=True))
    if not fits:
        due = " x ".join("n" if s is None else str(s) for s in shape)
        raise PoseError(f"{describe(value)} where numbers of {due} are due", where)
    return value.astype(np.float64)


def describe(value: Any) -> str:
    """A value in words, for messages."""
    if isinstance(value, np.ndarray):
        return f"an array of {' x '.join(map(str, value.shape))}"
    if isinstance(value, dict):
        return f"a struct with {', '.join(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"the text {value!r}" if isinstance(value, str) else repr(value)
