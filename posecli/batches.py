"""How many pictures go through a network together, where every new number of them costs as much as many pictures.

oneDNN makes the kernels of a network anew for each number of pictures: of the shipped pose network in some 35
milliseconds, in which forty people more would go through it. Frames of a crowd show now five people, now nine, and a
folder's pictures any number of looks, so calls are filled up with copies to numbers that came before.
"""

from __future__ import annotations

import os
import threading
from collections import Counter

__all__ = ["Fills", "may_fill"]

_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_WORTH = 40  # copies after which a number gets kernels of its own
_MOST = 12  # numbers that have some, for one size of picture


def may_fill() -> bool:
    """Whether calls may be filled up; not with ``POSECLI_FILL=0``."""
    return os.environ.get("POSECLI_FILL") != "0"


class Fills:
    """Remembers for which numbers of pictures there are kernels. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[int, ...], set[int]] = {}
        self._copies: Counter[tuple[tuple[int, ...], int]] = Counter()

    def count(self, pictures: int, size: tuple[int, ...]) -> int:
        """To how many the next call with so many pictures of a size is to be filled up.

        To the next number that came before, else to one of a few; a number for which ever more copies are added gets
        its own, so that in the long run nothing is lost.
        """
        with self._lock:
            known = self._known.setdefault(size, set())
            found = self._next(pictures, known)
            if found is None:
                found = next((step for step in _STEPS if step >= pictures), pictures)
            elif found > pictures:
                self._copies[size, pictures] += found - pictures
                if self._copies[size, pictures] > _WORTH and len(known) < _MOST:
                    found = pictures
            known.add(found)
            return found

    def now(self, pictures: int, size: tuple[int, ...]) -> int:
        """To how many such a call would be filled up, without making it."""
        with self._lock:
            return self._next(pictures, self._known.get(size, set())) or pictures

    @staticmethod
    def _next(pictures: int, known: set[int]) -> int | None:
        return min((number for number in known if number >= pictures), default=None)
