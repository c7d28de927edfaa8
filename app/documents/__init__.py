"""Documents as text (PDF, Office, EPUB, web pages), and what a search of a folder finds.

What reads a file that came from anywhere runs in a child process with bounds (`extraction.py`,
`child.py`). PDF is read by PDFium through pypdfium2 (BSD-3-Clause and Apache-2.0, 4 MB, current):
Chrome's own reader, built without JavaScript and XFA. The other formats are a zip archive of XML,
of which text is a small part: some lines over `zipfile` and expat each. The libraries for them
(mammoth, python-pptx, openpyxl; markitdown around them) bring lxml and onnxruntime along, build
whole trees, and know no bounds.
"""
