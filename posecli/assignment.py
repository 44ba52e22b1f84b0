"""Who goes with whom: one to one pairs of least summed cost, by SciPy.

What SciPy asks for it is one small compiled module; importing it as `scipy.optimize` brings hundreds of others along
and takes half a second, as long as a short clip. So it is loaded by itself where it can be found.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

_OPTIMIZE = "scipy.optimize"


def assign(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (N,) int64 of the assignment of least summed cost, of a matrix (R, C): N is the smaller of them.

    Crouse, "On implementing 2D rectangular assignment algorithms", IEEE Transactions on Aerospace and Electronic
    Systems 52(4), 2016, as `scipy.optimize.linear_sum_assignment`.

    Raises:
        ValueError: costs that are no numbers.
    """
    rows, columns = _solver()(cost)
    return rows, columns


@cache
def _solver() -> Callable[[np.ndarray], Any]:
    found = None if _OPTIMIZE in sys.modules else _alone()
    if found is not None:
        return found
    from scipy.optimize import linear_sum_assignment

    whole: Callable[[np.ndarray], Any] = linear_sum_assignment
    return whole


def _alone() -> Callable[[np.ndarray], Any] | None:
    """SciPy's function without the rest of it; None where this SciPy keeps it elsewhere."""
    try:
        spec = find_spec("scipy")
        folders = [] if spec is None else list(spec.submodule_search_locations or [])
        places = [Path(f) / "optimize" / f"_lsap{ending}" for f in folders for ending in EXTENSION_SUFFIXES]
        place = str(next(p for p in places if p.is_file()))
        own = spec_from_file_location("_lsap", place, loader=ExtensionFileLoader("_lsap", place))
        assert own is not None and own.loader is not None
        module = module_from_spec(own)
        own.loader.exec_module(module)
        function: Callable[[np.ndarray], Any] = module.linear_sum_assignment
    except Exception:  # its own arrangement is no part of what it promises
        return None
    return function
