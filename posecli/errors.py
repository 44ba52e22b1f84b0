"""One kind of error for everything a user can mend.

Library code raises `PoseError`; the command line prints it in one or two lines and exits with 1.
Anything else that escapes is a defect of posecli.
"""

from __future__ import annotations


class PoseError(Exception):
    """What went wrong, where, and what to try.

    Args:
        what: the problem in one sentence, e.g. ``"unknown joint 'left_tentacle'"``.
        where: the file and record it was met in, e.g. ``"labels/walk.csv, row 12"``; empty if there is none.
        hint: what to try next; empty if nothing sensible can be said.
    """

    def __init__(self, what: str, where: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} ({self.hint})" if self.hint else text


class UsageError(PoseError):
    """The command was asked wrongly (contradicting options, unknown names): exit code 2."""


class SourceError(PoseError):
    """A video or picture can't be opened: nothing of it can be had, others can."""


class MissingExtra(PoseError):
    """An optional package is not installed; the hint is the one-line remedy."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}", hint=f"pip install 'posecli[{extra}]'")


def reason(error: BaseException) -> str:
    """Why something failed, for a user: of an OSError what the system says, without Python's number and quotes."""
    return str((error.strerror if isinstance(error, OSError) else None) or error)
