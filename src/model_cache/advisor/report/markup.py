"""Elements of HTML and SVG: every text is escaped here, so no caller can forget it."""

from __future__ import annotations

import html
import re

# Not allowed in HTML, not encodable, or able to reorder the text around them.
_STRANGE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_VOID = frozenset({"meta", "br"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """Return a text as markup; markup stays as it is."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_STRANGE.sub("\ufffd", text)))


def joined(*parts: str) -> Markup:
    """Return parts one after the other."""
    return Markup("".join(map(escaped, parts)))


def element(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """Return an element.

    Args:
        name: the element's name.
        children: texts, which are escaped, and markup.
        attributes: `class_` stands for class, `stroke_width` for stroke-width. None leaves an
            attribute out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{joined(*children)}</{name}>")


def _attribute(value: str | float) -> str:
    if isinstance(value, str):
        return escaped(value)
    return f"{value:.1f}".removesuffix(".0")
