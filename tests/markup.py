"""HTML as tests look at it: whether it is well formed, and what it refers to."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "input"}


class Balance(HTMLParser):
    """Checks that tags are closed in order; keeps what they refer to.

    Attributes:
        open: tags that are not closed yet.
        addresses: values of ``href`` and ``src``.
        has_inline: whether a script, a style or a handler of events stands in the document itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.has_inline = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        named = dict(attrs)
        self.addresses += [str(named[name]) for name in ("href", "src") if name in named]
        self.has_inline |= tag == "style" or "style" in named or (tag == "script" and "src" not in named)
        self.has_inline |= any(name.startswith("on") for name in named)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
