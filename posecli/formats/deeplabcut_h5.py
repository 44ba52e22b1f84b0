"""DeepLabCut's H5 tables, as pandas lays them out in HDF5 (PyTables), read with h5py alone.

Two layouts. *Fixed* (labelled pictures): the group has ``axis0_level<i>`` and ``axis0_label<i>`` for each level of
the columns (values, and where they stand), ``axis1...`` likewise or plain for the rows, and the numbers in blocks
(``block0_values`` with ``block0_items_level<i>``, ``..._label<i>``). *Table* (results of videos): a dataset ``table``
of ``index`` and ``values_block_0``; the columns' names stand only in the attribute ``values_block_0_kind``, a pickle.

Nothing is unpickled: the opcodes of plain lists, tuples, texts and numbers are read one by one (`pickletools`), and
any other one, such as those that name a class or call something, is refused.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import MissingExtra, PoseError, reason
from posecli.formats.matlab_check import MAX_RATIO, SMALL
from posecli.formats.tables import Lines

_LARGEST = 200_000_000  # numbers in a table: 1.6 GB
_LEVELS = {3: ("scorer", "bodyparts", "coords"), 4: ("scorer", "individuals", "bodyparts", "coords")}


def is_deeplabcut(path: Path) -> bool:
    """Whether the HDF5 file has a group as pandas writes it; True too when h5py is not there to look."""
    try:
        import h5py
    except ImportError:
        return True
    try:
        with h5py.File(path, "r") as file:
            return any(isinstance(g, h5py.Group) and "pandas_type" in g.attrs for g in file.values())
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError):  # h5py's, for damaged files
        return False


def h5_lines(path: Path) -> Lines:
    """The table as the lines of the CSV that DeepLabCut writes beside it, for `tables.read_deeplabcut`.

    Raises:
        PoseError: not HDF5, not such a table, other levels, a pickle of other things than names.
        MissingExtra: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise MissingExtra("h5py", "hdf5", "reading DeepLabCut's .h5") from None
    try:
        with h5py.File(path, "r") as file:
            groups = [g for g in file.values() if isinstance(g, h5py.Group) and "pandas_type" in g.attrs]
            if len(groups) != 1:
                raise PoseError(f"{len(groups)} tables of pandas in it", str(path), "DeepLabCut writes one")
            group = groups[0]
            where = f"{path}, {group.name}"
            read = _read_table if isinstance(group.get("table"), h5py.Dataset) else _read_fixed
            columns, index, values = read(group, where)
    except (OSError, KeyError, IndexError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError) as error:
        hint = "the .csv that DeepLabCut writes beside it can be read in its place"
        raise PoseError(f"not a DeepLabCut table: {reason(error)}", str(path), hint) from None
    return _lines(columns, index, values, where)


def _lines(columns: list[tuple[str, ...]], index: list[tuple[str, ...]], values: np.ndarray, where: str) -> Lines:
    depth = len(columns[0]) if columns else 0
    if depth not in _LEVELS or any(len(c) != depth for c in columns):
        raise PoseError(f"columns of {depth} levels, not 3 or 4", where, "scorer, individuals, bodyparts, coords")
    if values.shape != (len(index), len(columns)):
        raise PoseError(f"{values.shape} numbers for {len(index)} rows and {len(columns)} columns", where)
    width = len(index[0]) if index else 1
    lines: Lines = []
    for level, name in enumerate(_LEVELS[depth]):
        lines.append((level + 1, [name, *([""] * (width - 1)), *(c[level] for c in columns)]))
    for number, (row, numbers) in enumerate(zip(index, values.tolist(), strict=True), depth + 1):
        lines.append((number, [*row, *("" if v != v else repr(v) for v in numbers)]))
    return lines


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _array(group: Any, name: str) -> np.ndarray:
    dataset = _dataset(group, name)
    if dataset.dtype.kind == "O":
        raise ValueError(f"{name} holds objects, not numbers or texts")
    return np.asarray(dataset[()])


def _dataset(group: Any, name: str) -> Any:
    """A member that lies in this file, and is not much larger than what is stored of it (what was never written reads
    as zeros); ValueError otherwise."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink) or not isinstance(group[name], h5py.Dataset):
        raise ValueError(f"{name} is no data set of this file")
    dataset = group[name]
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} lies in other files")
    size, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if size > max(SMALL, MAX_RATIO * stored) or size > 8 * _LARGEST:
        raise ValueError(f"{name} unpacks from {stored} bytes to {size}")
    return dataset


def _axis(group: Any, name: str) -> list[tuple[str, ...]]:
    """The labels along an axis, each with its levels."""
    count = int(group.attrs.get(f"{name}_nlevels", 0))
    if not count:
        return [(_text(v),) for v in _array(group, name).ravel().tolist()]
    if count > 8:
        raise ValueError(f"{count} levels")
    parts = []
    for level in range(count):
        texts = [_text(v) for v in _array(group, f"{name}_level{level}").ravel().tolist()]
        places = _array(group, f"{name}_label{level}").ravel()
        if len(places) and (places.min() < 0 or places.max() >= len(texts)):
            raise ValueError(f"{name}_label{level} points outside its level")
        parts.append([texts[i] for i in places.tolist()])
    return list(zip(*parts, strict=True))


def _read_fixed(group: Any, where: str) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]], np.ndarray]:
    columns, index = _axis(group, "axis0"), _axis(group, "axis1")
    place = {c: i for i, c in enumerate(columns)}
    if len(place) < len(columns):
        raise ValueError("a column stands twice")
    if len(columns) * len(index) > _LARGEST:
        raise ValueError(f"{len(index)} rows of {len(columns)} columns")
    values = np.full((len(index), len(columns)), np.nan)
    for block in range(int(group.attrs["nblocks"])):
        numbers = _array(group, f"block{block}_values").astype(np.float64)
        values[:, [place[c] for c in _axis(group, f"block{block}_items")]] = numbers
    return columns, index, values


def _read_table(group: Any, where: str) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]], np.ndarray]:
    dataset = _dataset(group, "table")
    fields = [n for n in dataset.dtype.names or () if n.startswith("values_block_")]
    if not fields or "index" not in (dataset.dtype.names or ()):
        raise ValueError("no columns 'index' and 'values_block_0'")
    rows = dataset[()]
    columns: list[tuple[str, ...]] = []
    for name in fields:
        kind = dataset.attrs[f"{name}_kind"]
        columns += _names(kind if isinstance(kind, bytes) else bytes(kind), f"{where}, {name}_kind")
    values = np.concatenate([rows[n].reshape(len(rows), -1) for n in fields], axis=1).astype(np.float64)
    return columns, [(_text(v),) for v in rows["index"].tolist()], values


def _names(pickled: bytes, where: str) -> list[tuple[str, ...]]:
    """The list of tuples of texts that a pickle says, without unpickling it."""
    value = plain_values(pickled, where)
    if not isinstance(value, list) or not all(
        isinstance(c, tuple) and all(isinstance(p, str) for p in c) for c in value
    ):
        raise PoseError("its columns are not named by texts", where)
    return value


def plain_values(pickled: bytes, where: str) -> Any:
    """The lists, tuples, texts and numbers in a pickle; PoseError for any opcode that does more than these."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            name = opcode.name
            if name in ("PROTO", "FRAME"):
                continue
            if name == "STOP":
                return stack[-1]
            if name == "MARK":
                marks.append(len(stack))
            elif name in ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "INT", "BININT", "BININT1", "BININT2", "LONG1"):
                stack.append(argument)
            elif name == "NONE":
                stack.append(None)
            elif name in ("EMPTY_LIST", "EMPTY_TUPLE"):
                stack.append([] if name == "EMPTY_LIST" else ())
            elif name in ("LIST", "TUPLE", "APPENDS"):
                start = marks.pop()
                items, stack = stack[start:], stack[:start]
                if name == "APPENDS":
                    stack[-1].extend(items)
                else:
                    stack.append(items if name == "LIST" else tuple(items))
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                count = int(name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            elif name == "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            else:
                raise PoseError(f"a pickle with {name} is refused: only names are wanted", where)
    except (ValueError, IndexError, KeyError, AttributeError) as error:
        raise PoseError(f"a damaged pickle: {error}", where) from None
    raise PoseError("a pickle without an end", where)
