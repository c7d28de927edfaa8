"""The text of a PDF, by PDFium. In the child alone: it is native code, and the file anybody's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from openchat_local.app.documents.document import Page, Unreadable
from openchat_local.app.documents.markup import DAMAGED

# PDFium's mark of a hyphen that broke a word at the end of a line.
_BROKEN_WORD = re.compile("[\ufffe\x02]\\s*")
_NO_TEXT = re.compile("[\x00\ufeff\uffff]")


class Pages:
    """The pages of a PDF. Raises Unreadable."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import pypdfium2
            import pypdfium2.raw as pdfium
        except ImportError:
            raise Unreadable(
                "is a PDF, and PDFium is not installed here",
                "pip install pypdfium2, or convert it to text",
            ) from None

        self._pdfium = pdfium
        self._problem = pypdfium2.PdfiumError
        try:
            self._document = pypdfium2.PdfDocument(file)
            self.count = len(self._document)
        except pypdfium2.PdfiumError as error:
            if getattr(error, "err_code", 0) in (
                pdfium.FPDF_ERR_PASSWORD,
                pdfium.FPDF_ERR_SECURITY,
            ):
                raise Unreadable(
                    "is encrypted", "save a copy without a password, and attach that"
                ) from None
            raise DAMAGED from None

    def read(self) -> Iterator[Page]:
        """One after the other: a page that is damaged is one without text."""
        for number in range(self.count):
            try:
                page = self._document[number]
                try:
                    text = page.get_textpage().get_text_bounded()
                    objects = self._pdfium.FPDFPage_CountObjects(page)
                finally:
                    page.close()
            except self._problem:
                text, objects = "", 1
            yield Page(str(number + 1), _clean(text), pictured=objects > 0)


def _clean(text: str) -> str:
    text = _BROKEN_WORD.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "\n".join(line.rstrip() for line in _NO_TEXT.sub("", text).split("\n")).strip("\n")
