"""Public weights: what there is, what of it our networks can read, and how a file comes to this machine.

`table` holds the facts of each file (``table.json``, package data), `fetch` brings a file into the user's cache.
"""

from __future__ import annotations

from posecli.zoo.fetch import cache_folder, fetch, local_file
from posecli.zoo.table import Entry, entries, find_entry, suggestions

__all__ = ["Entry", "cache_folder", "entries", "fetch", "find_entry", "local_file", "suggestions"]
