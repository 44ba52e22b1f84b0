"""What counts as a number in a file that may hold anything."""

from __future__ import annotations

from typing import Any, TypeGuard

LARGEST = 2**53  # numbers beyond are no frame numbers, sizes or pixels, and no float holds such integers
_PLAIN = frozenset((int, float))


def is_number(value: Any) -> TypeGuard[float]:
    """A number below `LARGEST`, as readers take them."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def is_whole(value: Any) -> TypeGuard[int]:
    """An integer of at most `LARGEST`."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def are_numbers(value: Any, count: int) -> bool:
    """A list of that many numbers, NaN and infinities among them (those are another finding)."""
    if not isinstance(value, list) or len(value) != count:
        return False
    # The usual case without a step of Python for each number; anything odd is looked at one by one.
    if count and _PLAIN.issuperset(map(type, value)) and min(value) >= -LARGEST and max(value) <= LARGEST:
        return True
    return all(isinstance(v, float) or is_whole(v) for v in value)


def printable(text: str) -> str:
    """The text with everything that does not print as escapes: names in data files are other people's words."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
