"""Small documents of every kind, made by hand: bytes of a PDF, and zip archives of XML."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_A = (
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
)
_S = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
_FONT = (
    b"<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H "
    b"/DescendantFonts [4 0 R] /ToUnicode 5 0 R >>"
)
_GLYPHS = (
    b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /X /DW 600 /CIDSystemInfo "
    b"<< /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>"
)
_RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def pdf(pages: Sequence[str], *, encrypted: bool = False) -> bytes:
    """A PDF with a page for each text, its lines one below the other; a page of "" is blank, one
    of "\\f" has a rectangle and no text, as a scan has a picture."""
    letters = sorted({letter for page in pages for letter in page if letter not in "\n\f"})
    codes = {letter: number for number, letter in enumerate(letters, 1)}
    mapped = "\n".join(
        f"<{code:04x}> <{letter.encode('utf-16-be').hex()}>" for letter, code in codes.items()
    )
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def\n"
        "1 begincodespacerange <0000> <ffff> endcodespacerange\n"
        f"{len(codes)} beginbfchar\n{mapped}\nendbfchar\nendcmap end end"
    )
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        _FONT,
        _GLYPHS,
        _stream(cmap.encode()),
    ]
    kids = []
    for page in pages:
        lines = [
            f"<{''.join(f'{codes[letter]:04x}' for letter in line)}> Tj 0 -14 Td"
            for line in page.strip("\f").split("\n")
        ]
        content = "BT /F 12 Tf 50 750 Td " + "\n".join(lines) + " ET"
        if page in ("", "\f"):
            content = "0 0 100 100 re f" if page else ""
        objects.append(_stream(content.encode()))
        kids.append(len(objects) + 1)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F 3 0 R >> >> >>" % (len(objects))
        )
    listed = " ".join(f"{number} 0 R" for number in kids).encode()
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (listed, len(kids))
    extra = b""
    if encrypted:  # of a password that nobody knows
        objects.append(
            b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (b"41" * 32, b"42" * 32)
        )
        extra = b" /Encrypt %d 0 R /ID [<00> <00>]" % len(objects)
    return _file(objects, extra)


def _stream(data: bytes) -> bytes:
    return b"<< /Length %d >>\nstream\n%s\nendstream" % (len(data), data)


def _file(objects: Sequence[bytes], extra: bytes = b"") -> bytes:
    out, places = b"%PDF-1.7\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    out += b"trailer << /Size %d /Root 1 0 R%s >>\nstartxref\n%d\n%%%%EOF" % (size, extra, start)
    return out


def packed(members: Mapping[str, str | bytes]) -> bytes:
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def paragraph(text: str, style: str = "") -> str:
    """A paragraph of a Word document."""
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{escape(text)}</w:t></w:r></w:p>"


def docx(*parts: str) -> bytes:
    """A Word document of these parts: XML as it stands, or else the text of a paragraph."""
    body = "".join(each if each.startswith("<") else paragraph(each) for each in parts)
    return packed({"word/document.xml": f"<w:document {_W}><w:body>{body}</w:body></w:document>"})


def relations(targets: Mapping[str, tuple[str, str]]) -> str:
    """The kind and the target of each relation, by its id."""
    inside = "".join(
        f'<Relationship Id="{id}" Type="{_RELATION}/{kind}" Target={quoteattr(target)}/>'
        for id, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="urn:r">{inside}</Relationships>'


def pptx(slides: Sequence[Sequence[str]], notes: Mapping[int, str] | None = None) -> bytes:
    """A presentation: a slide for each list of paragraphs, and notes by the slide's number. The
    members are named in another order than the slides come in."""
    count = len(slides)
    ids = "".join(f'<p:sldId id="{n}" r:id="r{n}"/>' for n in range(1, count + 1))
    members: dict[str, str | bytes] = {
        "ppt/presentation.xml": f"<p:presentation {_A} {_R}><p:sldIdLst>{ids}</p:sldIdLst>"
        "</p:presentation>",
        "ppt/_rels/presentation.xml.rels": relations(
            {f"r{n}": ("slide", f"slides/slide{count - n}.xml") for n in range(1, count + 1)}
        ),
    }
    for number, texts in enumerate(slides, 1):
        name = f"slide{count - number}.xml"
        members[f"ppt/slides/{name}"] = _drawing("p:sld", texts)
        if note := (notes or {}).get(number):
            members[f"ppt/slides/_rels/{name}.rels"] = relations(
                {"n": ("notesSlide", f"../notesSlides/n{number}.xml")}
            )
            members[f"ppt/notesSlides/n{number}.xml"] = _drawing("p:notes", [note])
    return packed(members)


def _drawing(element: str, texts: Sequence[str]) -> str:
    inside = "".join(f"<a:p><a:r><a:t>{escape(each)}</a:t></a:r></a:p>" for each in texts)
    number = '<a:p><a:fld type="slidenum"><a:t>99</a:t></a:fld></a:p>'
    return f"<{element} {_A}><p:txBody>{inside}{number}</p:txBody></{element}>"


def xlsx(sheets: Mapping[str, str], strings: Sequence[str] = (), styles: str = "") -> bytes:
    """A workbook: the XML of each sheet's rows by its name, and the strings they refer to."""
    listed = "".join(
        f'<sheet name={quoteattr(name)} sheetId="{n}" r:id="s{n}"/>'
        for n, name in enumerate(sheets, 1)
    )
    shared = "".join(f"<si><t>{escape(each)}</t></si>" for each in strings)
    members: dict[str, str | bytes] = {
        "xl/workbook.xml": f"<workbook {_S} {_R}><sheets>{listed}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": relations(
            {f"s{n}": ("worksheet", f"/xl/worksheets/{n}.xml") for n in range(1, len(sheets) + 1)}
        ),
        "xl/sharedStrings.xml": f"<sst {_S}>{shared}</sst>",
        "xl/styles.xml": f"<styleSheet {_S}>{styles}</styleSheet>",
    }
    for number, rows in enumerate(sheets.values(), 1):
        members[f"xl/worksheets/{number}.xml"] = (
            f"<worksheet {_S}><sheetData>{rows}</sheetData></worksheet>"
        )
    return packed(members)


def epub(chapters: Sequence[str], **more: str) -> bytes:
    """A book: the XHTML within the body of each chapter."""
    items = "".join(f'<item id="c{n}" href="c%20{n}.xhtml"/>' for n in range(len(chapters)))
    order = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    return packed(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container><rootfiles><rootfile full-path="OPS/book.opf"/>'
            "</rootfiles></container>",
            "OPS/book.opf": f"<package><manifest>{items}</manifest><spine>{order}</spine>"
            "</package>",
            **{
                f"OPS/c {n}.xhtml": '<?xml version="1.0"?><!DOCTYPE html><html><head><style>p{}'
                f"</style></head><body>{body}</body></html>"
                for n, body in enumerate(chapters)
            },
            **more,
        }
    )


def open_document(kind: str, body: str, manifest: str = "") -> bytes:
    """A file of LibreOffice's: "text", "spreadsheet" or "presentation"."""
    spaces = " ".join(f'xmlns:{each}="urn:{each}"' for each in ("office", "text", "table", "draw"))
    return packed(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": f"<office:body {spaces}>{body}</office:body>",
            "META-INF/manifest.xml": f"<m>{manifest}</m>",
        }
    )
