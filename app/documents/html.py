"""The text of a web page: what a reader sees, without what the page is made of."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import BinaryIO

from openchat_local.app.documents.document import Page, Unreadable

LARGEST = 50 << 20  # bytes

_SKIPPED = frozenset({"script", "style", "template", "noscript", "svg", "math", "iframe", "object"})
_BLOCK_NAMES = """
    address article aside blockquote body caption dd details div dl dt fieldset figcaption figure
    footer form h1 h2 h3 h4 h5 h6 header hr html legend li main nav ol option p pre section summary
    table tbody tfoot thead title tr ul
"""
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_CHARSET = re.compile(rb"""(?i)(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""")
ENCODINGS = (
    *("utf-8", "utf-16-le", "utf-16-be", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr"),
    *("koi8_r", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "iso8859_2"),
    *("iso8859_15", "latin_1", "ascii", "gb2312", "gbk", "iso2022_jp", "cp866", "iso8859_5"),
)
"""What pages are written in. Looked up before the child's files are closed to it."""


def read(file: BinaryIO) -> Page:
    """A web page. Raises Unreadable."""
    data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise Unreadable(f"has more than {LARGEST >> 20} MiB", "attach the part that matters")
    return Page("1", *text_of(data))


def text_of(data: bytes) -> tuple[str, bool]:
    """The text of a page, and whether there is a picture on it."""
    reader = _Reader()
    reader.feed(decoded(data))
    reader.close()
    return reader.text(), reader.pictures > 0


def decoded(data: bytes) -> str:
    """A page as text: as its first bytes say, as it says itself, as UTF-8, as Western Europe."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"),
                           (b"\xfe\xff", "utf-16-be")):  # fmt: skip
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    said = _CHARSET.search(data[:4096])
    for encoding in ([said[1].decode("ascii", "replace")] if said else []) + ["utf-8"]:
        try:
            return data.decode(encoding)
        except (LookupError, UnicodeDecodeError, OSError):
            continue
    return data.decode("cp1252", "replace")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._skipping = 0
        self._as_written = 0
        self.pictures = 0

    def text(self) -> str:
        lines = (line.strip(" ") for line in "".join(self._parts).split("\n"))
        text = "\n".join(line.removeprefix("\x00").replace("\x00", " ") for line in lines)
        return re.sub(r"\n{3,}", "\n\n", text).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SKIPPED:
            self._skipping += 1
        elif not self._skipping:
            if tag in _BLOCKS:
                self._line()
            if tag == "pre":
                self._as_written += 1
            if tag == "li":
                self._parts.append("- ")
            elif tag in ("td", "th") and self._parts and not self._parts[-1].endswith("\n"):
                self._parts.append(" | ")
            elif tag == "br":
                self._parts.append("\n")
            elif re.fullmatch("h[1-6]", tag):
                self._parts.append("\n" + "#" * int(tag[1]) + " ")
            elif tag == "img":
                self._picture(dict(attrs).get("alt") or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _SKIPPED:  # <script/> of XHTML has no end of its own
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SKIPPED:
            self._skipping = max(0, self._skipping - 1)
        elif not self._skipping:
            if tag == "pre":
                self._as_written = max(0, self._as_written - 1)
            if tag in _BLOCKS:
                self._line(2 if tag in ("p", "h1", "h2", "h3", "title") else 1)

    def handle_data(self, data: str) -> None:
        if self._skipping:
            return
        if self._as_written:
            self._parts.append(re.sub("(?m)^(?=[ \t])", "\x00", data))
            return
        text = re.sub(r"[ \t\r\n\f]+", " ", data.replace("\x00", ""))
        at_start = not self._parts or self._parts[-1].endswith(("\n", " "))
        if text := text.lstrip(" ") if at_start else text:
            self._parts.append(text)

    def _line(self, ends: int = 1) -> None:
        if self._parts and (ends > 1 or not self._parts[-1].endswith("\n")):
            self._parts.append("\n" * ends)

    def _picture(self, words: str) -> None:
        self.pictures += 1
        if words.strip():
            self._parts.append(f"[picture: {' '.join(words.split())}]")
