"""Checks of labels, poses and their pictures: what is broken, what looks wrong, what can safely be repaired.

`run.check` looks at files and gives `Finding`s; `repair` mends a copy. One module for each family of checks.
"""

from __future__ import annotations

from posecli.checks.findings import KINDS, Finding, Kind, by_kind, gravities
from posecli.checks.repair import repaired, write
from posecli.checks.run import Options, Outcome, check

__all__ = ["KINDS", "Finding", "Kind", "Options", "Outcome", "by_kind", "check", "gravities", "repaired", "write"]
