"""Templates to pages: everything escaped, nothing loaded from elsewhere, odd file names made visible.

A page states in its content security policy that it may load nothing from the network, and, where it has a script, the
hash of that script: text from data files that slipped through as markup could neither run nor send anything.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from posecli import __version__


def visible(text: str) -> str:
    """The text with characters that do not print (line breaks in file names, bytes that are not UTF-8, marks that turn
    the direction of writing) as escapes: ``a\\nb`` shows its ``\\n``, byte 0xff of a name its ``\\xff``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(c) for c in text)


def _visible(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    return character


def _finalize(value: Any) -> Any:
    return visible(value) if type(value) is str else value


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("posecli.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def source(name: str) -> Markup:
    """The text of a style sheet or script of ours, as it is."""
    loader = _environment().loader
    assert loader is not None
    return Markup(loader.get_source(_environment(), name)[0])


def render_page(template: str, *, styles: tuple[str, ...], scripts: tuple[str, ...] = (), **values: Any) -> str:
    """The page of a template.

    Args:
        template: file below ``templates/``.
        styles: style sheets below ``templates/`` that the page carries; scripts: likewise.
        values: for the template; strings are escaped, `Markup` is not.
    """
    texts = [source(name) for name in scripts]
    hashes = [base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in texts]
    policy = {
        "default-src": "'none'",
        "img-src": "data: 'self' file:" if texts else "data:",
        "style-src": "'unsafe-inline'",
        "script-src": " ".join(f"'sha256-{h}'" for h in hashes) or "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return (
        _environment()
        .get_template(template)
        .render(
            styles=[source(name) for name in styles],
            scripts=texts,
            policy=Markup("; ".join(f"{k} {v}" for k, v in policy.items())),
            version=__version__,
            **values,
        )
    )
