"""Documents as text: what is read of each kind, what is refused, and that bounds hold."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from openchat_local.app.documents.document import Document, Page, Unreadable
from openchat_local.app.documents.extraction import Cancelled, extract
from openchat_local.app.documents.kinds import Kind, kind_of
from support import documents as made

# Seconds of work in some kilobytes.
SLOW = made.docx("<w:p/>" * 2_000_000)
LOCKED = '<e><EncryptionMethod Algorithm="aes"/></e>'
DATES = (
    '<numFmts><numFmt numFmtId="164" formatCode="[Red]0&quot;d&quot;"/></numFmts>'
    '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/></cellXfs>'
)


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    before = {child.pid for child in psutil.Process().children()}
    yield
    assert {child.pid for child in psutil.Process().children()} <= before


def read(data: bytes, kind: Kind = "packed", **bounds: float) -> Document:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        return extract(file, kind, **{"seconds": 120.0, **bounds})  # type: ignore[arg-type]


def test_a_pdf_has_its_pages_and_says_which_have_no_text() -> None:
    document = read(made.pdf(["Hello\nworld", "地球很大 🌍 ça", "", "\f"]), "pdf")
    assert (document.form, document.unit, document.total) == ("PDF", "page", 4)
    assert [page.text for page in document.pages] == ["Hello\nworld", "地球很大 🌍 ça", "", ""]
    assert document.without_text == (4,)  # the third is blank, as its maker left it
    assert document.text([2, 1]) == "[page 2]\n地球很大 🌍 ça\n\n[page 1]\nHello\nworld"


def test_a_word_document_keeps_headings_lists_tables_and_leaves_out_what_was_deleted() -> None:
    row = "<w:tr><w:tc>{}</w:tc><w:tc>{}</w:tc></w:tr>"
    document = read(
        made.docx(
            made.paragraph("标题 🌍", "Heading2"),
            "<w:p><w:pPr><w:tabs><w:tab/></w:tabs><w:numPr/></w:pPr><w:r><w:t>a</w:t><w:tab/>"
            "<w:t>b &lt;</w:t></w:r></w:p>",
            f"<w:tbl>{row.format(made.paragraph('x'), made.paragraph('y'))}</w:tbl>",
            "<w:p><w:del><w:r><w:t>gone</w:t></w:r></w:del><w:r><w:instrText>PAGE</w:instrText>"
            "</w:r><w:r><w:t>kept</w:t></w:r></w:p>",
        )
    )
    assert document.text() == "## 标题 🌍\n- a\tb <\n| x | y |\nkept"
    assert (document.form, document.unit) == ("Word document", "")


def test_slides_come_in_their_order_with_their_notes() -> None:
    document = read(made.pptx([["Seals", "两只"], ["谢谢 🙏"]], {1: "Slowly"}))
    assert document.pages == (Page("1", "Seals\n两只\n\nNotes: Slowly"), Page("2", "谢谢 🙏"))


def test_cells_are_what_the_sheet_shows() -> None:
    rows = (
        '<row><c r="A1" t="s"><v>0</v></c><c r="C1" s="1"><v>45000.5</v></c></row><row/>'
        '<row><c r="B3" s="2"><v>0.30000000000000004</v></c><c t="b"><v>1</v></c>'
        '<c r="XFD3" t="inlineStr"><is><t>far\naway</t></is></c><c t="s"><v>9</v></c></row>'
    )
    document = read(made.xlsx({"预算": rows, "Empty": ""}, ["Miete 🏠"], DATES))
    lines = "Miete 🏠\t\t2023-03-15 12:00:00\n\t0.3\tTRUE\tXFD3: far away"
    assert document.pages == (Page("预算", lines), Page("Empty", ""))


def test_an_epub_has_its_chapters_in_reading_order() -> None:
    document = read(made.epub(["<h1>一</h1><p>Night &amp; 🌍<br/>day</p>", "<p>two</p>"]))
    assert document.text() == "[chapter 1]\n# 一\n\nNight & 🌍\nday\n\n[chapter 2]\ntwo"


def test_what_libreoffice_writes_is_read_likewise() -> None:
    text = (
        "<text:tracked-changes><text:p>gone</text:p></text:tracked-changes>"
        '<text:h text:outline-level="2">标题</text:h>'
        "<text:list><text:list-item><text:p>a<text:s text:c='3'/>b</text:p></text:list-item>"
        "</text:list><text:p>One <text:span>🌍</text:span><text:line-break/>two</text:p>"
        "<table:table><table:table-row><table:table-cell><text:p>x</text:p></table:table-cell>"
        "<table:table-cell><text:p>y</text:p></table:table-cell></table:table-row></table:table>"
    )
    document = read(made.open_document("text", text))
    assert document.text() == "## 标题\n- a   b\nOne 🌍\ntwo\n| x | y |"
    cells = (
        '<table:table-cell/><table:table-cell table:number-columns-repeated="2">'
        "<text:p>1,5</text:p>"
        '</table:table-cell><table:table-cell table:number-columns-repeated="16000"/>'
    )
    sheet = (
        f'<table:table table:name="预算"><table:table-row>{cells}</table:table-row></table:table>'
    )
    assert read(made.open_document("spreadsheet", sheet)).pages == (Page("预算", "\t1,5\t1,5"),)
    slide = "<draw:page><text:p>Seals</text:p></draw:page>"
    document = read(made.open_document("presentation", slide + "<draw:page/>"))
    assert (document.unit, document.pages) == ("slide", (Page("1", "Seals"), Page("2", "")))
    with pytest.raises(Unreadable, match="password"):
        read(made.open_document("text", text, "<encryption-data/>"))


def test_a_web_page_is_what_one_reads_of_it() -> None:
    html = (
        "<html><head><meta charset=gb18030><style>p{}</style><title>标题</title></head><body>"
        "<script>alert('x')</script><p>One  <b>t</b>wo<ul><li>a<li>b</ul><pre>  x\n    y</pre>"
        "<img alt='a cat'><table><tr><td>1<td>2</table>"
    )
    text = read(html.encode("gb18030"), "html").text()
    assert text == "标题\n\nOne two\n- a\n- b\n  x\n    y\n[picture: a cat]\n1 | 2"


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (made.pdf(["x"], encrypted=True), "pdf", "is encrypted"),
        (made.pdf(["x"])[:120], "pdf", "is damaged"),
        (made.docx("x")[:-30], "packed", "is damaged"),
        (made.docx("<w:p>"), "packed", "is damaged"),
        (made.docx("<w:x>" * 500), "packed", "is damaged"),
        (made.packed({"a.txt": "x"}), "packed", "is an archive and no document"),
        (made.packed({"word/document.xml": '<!DOCTYPE w [<!ENTITY a "b">]><w>&a;</w>'}),
         "packed", "declares entities"),
        (made.epub(["x"], **{"META-INF/encryption.xml": LOCKED}), "packed", "locked by its seller"),
    ],
    ids=["encrypted", "cut-pdf", "cut-docx", "open", "deep", "archive", "entities", "drm"],
)  # fmt: skip
def test_what_cannot_be_read_is_said(data: bytes, kind: Kind, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        read(data, kind)


def test_a_bomb_ends_with_its_time_or_its_memory() -> None:
    with pytest.raises(Unreadable, match="it takes too long"):
        read(SLOW, seconds=0.3)
    with pytest.raises(Unreadable, match="it takes too much memory"):
        read(SLOW, memory=1 << 20)


def test_the_pages_that_came_before_the_trouble_are_kept() -> None:
    document = read(made.pptx([["fine"], ["\x00"]]))
    assert document.pages == (Page("1", "fine"),)
    assert document.notes == ("Reading stopped after slide 1 of 2: it is damaged.",)


def test_nobody_waits_for_what_is_not_wanted_any_more() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(SLOW)
        with pytest.raises(Cancelled):
            extract(file, "packed", wanted=lambda: False)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows none of these limits")
def test_where_documents_are_read_nothing_can_be_opened_or_begun(tmp_path: Path) -> None:
    code = (
        "import os, socket\n"
        "from openchat_local.app.documents.child import _close_doors\n"
        "_close_doors()\n"
        "for open_door in (lambda: open('x', 'w'), socket.socket, os.pipe):\n"
        "    try: open_door()\n"
        "    except OSError as error: print(error.strerror)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path)
    assert done.stdout.decode().splitlines() == ["Too many open files"] * 3


@pytest.mark.parametrize(
    ("data", "suffix", "kind"),
    [
        (b"\n%PDF-1.4", ".txt", "pdf"),
        (b"'%PDF-'", ".py", None),
        (b"junk %PDF-1.4", ".pdf", "pdf"),
        (b"PK\x03\x04", ".pdf", "packed"),
        (b"<p>", ".HTM", "html"),
        (b"<p>", ".md", None),
    ],
)
def test_the_first_bytes_say_what_a_file_is(data: bytes, suffix: str, kind: str | None) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        assert kind_of(file, suffix) == kind


@pytest.mark.parametrize(
    ("more", "says"), [("EncryptedPackage", "protected by a password"), ("", "of the old kind")]
)
def test_old_and_locked_office_files_are_told_apart(more: str, says: str) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 9000 + more.encode("utf-16-le"))
        with pytest.raises(Unreadable, match=says):
            kind_of(file, ".docx")
