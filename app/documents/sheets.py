"""The cells of a workbook (.xlsx): a page a sheet, a line a row."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator

from openchat_local.app.documents.document import LARGEST_TEXT, Page
from openchat_local.app.documents.markup import End, Start
from openchat_local.app.documents.packed import Packed

MAIN = "xl/workbook.xml"
WIDEST_GAP = 20
"""Empty cells that are written as such; what stands further right says where."""

_DATES = frozenset({*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)})
"""The number formats of ECMA-376 (part 1, 18.8.30) that are dates and times."""
_LITERAL = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]')


def sheet_names(packed: Packed) -> list[tuple[str, str]]:
    """The name and the member of each sheet."""
    related = packed.related(MAIN)
    return [
        (event.attributes.get("name", ""), related[event.attributes["id"]][1])
        for event in packed.events(MAIN)
        if isinstance(event, Start)
        and event.name == "sheet"
        and event.attributes.get("id") in related
    ]


def read(packed: Packed) -> Iterator[Page]:
    """Cells as the file holds them: a formula's result, dates as dates, tabs between them. A
    sheet is left where it is longer than all that a document may say."""
    strings = list(_strings(packed))
    dates = _date_styles(packed)
    since_1904 = any(
        isinstance(event, Start)
        and event.name == "workbookPr"
        and event.attributes.get("date1904") in ("1", "true")
        for event in packed.events(MAIN)
    )
    for name, sheet in sheet_names(packed):
        lines, size = [], 0
        for line in _rows(packed, sheet, strings, dates, since_1904):
            lines.append(line)
            size += len(line) + 1
            if size > LARGEST_TEXT:  # whoever counts the text will say so
                break
        yield Page(name, "\n".join(lines))


def _strings(packed: Packed) -> Iterator[str]:
    """The texts that cells refer to by number."""
    parts: list[str] = []
    in_text = phonetic = False
    for event in packed.events("xl/sharedStrings.xml"):
        if isinstance(event, str):
            if in_text and not phonetic:
                parts.append(event)
        elif event.name == "t":
            in_text = isinstance(event, Start)
        elif event.name == "rPh":  # how Japanese is read aloud
            phonetic = isinstance(event, Start)
        elif event.name == "si" and isinstance(event, End):
            yield "".join(parts)
            parts = []


def _date_styles(packed: Packed) -> list[bool]:
    """For each cell style whether its numbers are dates."""
    custom: dict[str, bool] = {}
    styles: list[bool] = []
    in_cells = False
    for event in packed.events("xl/styles.xml"):
        if not isinstance(event, str) and event.name == "cellXfs":
            in_cells = isinstance(event, Start)
        elif isinstance(event, Start) and event.name == "numFmt":
            code = _LITERAL.sub("", event.attributes.get("formatCode", ""))
            custom[event.attributes.get("numFmtId", "")] = bool(re.search("[ymdhs]", code.lower()))
        elif isinstance(event, Start) and event.name == "xf" and in_cells:
            number = event.attributes.get("numFmtId", "0")
            known = number.isdigit() and int(number) in _DATES
            styles.append(custom.get(number, known))
    return styles


def _rows(
    packed: Packed, sheet: str, strings: list[str], dates: list[bool], since_1904: bool
) -> Iterator[str]:
    row: list[tuple[int, str, str]] = []  # column, reference, value
    kind = style = place = ""
    value: list[str] = []
    column = 0
    in_value = False
    for event in packed.events(sheet):
        if isinstance(event, str):
            if in_value:
                value.append(event)
        elif event.name == "c" and isinstance(event, Start):
            given = event.attributes
            kind, style = given.get("t", "n"), given.get("s", "")
            place = given.get("r", "")
            column = _column(place) if place else column + 1
            value = []
        elif event.name in ("v", "t"):
            in_value = isinstance(event, Start)
        elif event.name == "c":
            is_date = style.isdigit() and int(style) < len(dates) and dates[int(style)]
            text = _shown("".join(value), kind, strings, is_date, since_1904)
            if text:
                row.append((column, place, " ".join(text.split())))
        elif event.name == "row" and isinstance(event, End):
            if row:
                yield _line(row)
            row, column = [], 0


def _line(row: list[tuple[int, str, str]]) -> str:
    text, at = "", 1
    for column, place, value in row:
        gap = column - at
        far = gap > WIDEST_GAP
        text += ("\t" if far and text else "\t" * max(0, gap)) + (f"{place}: " if far else "")
        text += value
        at = column
    return text


def _column(place: str) -> int:
    """ "B3" is in column 2."""
    number = 0
    for letter in place[:3]:
        if not "A" <= letter <= "Z":
            break
        number = number * 26 + ord(letter) - 64
    return number or 1


def _shown(value: str, kind: str, strings: list[str], is_date: bool, since_1904: bool) -> str:
    if kind == "s":
        return strings[int(value)] if value.isdigit() and int(value) < len(strings) else ""
    if kind == "b":
        return {"1": "TRUE", "0": "FALSE"}.get(value, value)
    if kind == "n" and value:
        try:
            number = float(value)
        except ValueError:
            return value
        if is_date:
            return _date(number, since_1904) or value
        # Binary fractions: Excel itself shows fifteen digits.
        return f"{number:.15g}" if "." in value and "e" not in value.lower() else value
    return value


def _date(number: float, since_1904: bool) -> str:
    """A date of Excel's, days since the end of 1899, or since 1904; "" for one that is none."""
    # Excel believes, as Lotus did, that 1900 was a leap year: before March it is a day behind.
    first = dt.datetime.fromisoformat("1904-01-01" if since_1904 else "1899-12-30")
    try:
        moment = first + dt.timedelta(seconds=round(number * 86400))
    except (OverflowError, ValueError):
        return ""
    if 0 <= number < 1:
        return f"{moment:%H:%M:%S}"
    return f"{moment:%Y-%m-%d}" if number == int(number) else f"{moment:%Y-%m-%d %H:%M:%S}"
