"""What goes along with a prompt: documents, pages of them, folders; and what holds it back."""

from __future__ import annotations

from pathlib import Path

import pytest

from openchat_local.app.replies.attachments import Attachment, attachments
from openchat_local.app.replies.fitting import described
from openchat_local.app.replies.gathering import Gathered, gather, missing, room_in
from openchat_local.app.replies.mentions import in_ranges, numbers
from openchat_local.app.replies.reading import Shelf
from support import documents as made

PDF = made.pdf(["The first page.", "Die zweite 🌍.", "\f", "第四页。"])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my report.pdf").write_bytes(PDF)
    (tmp_path / "a.pdf").write_bytes(PDF)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "sea.md").write_text("The sea is deep.\n\n" + "Sand. " * 3000)
    (tmp_path / "notes" / "sky.md").write_text("The sky is high.\n")
    return tmp_path


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf()


@pytest.mark.parametrize(
    ("mention", "header", "text"),
    [
        ("@a.pdf:1", "a.pdf:1 (PDF, page 1 of 4)", "[page 1]\nThe first page."),
        ("@a.pdf:4,2-2.", "a.pdf:4,2-2 (PDF, pages 2, 4 of 4)",
         "[page 2]\nDie zweite 🌍.\n\n[page 4]\n第四页。"),
        ('@"my report.pdf":4-', "my report.pdf:4- (PDF, page 4 of 4)", "[page 4]\n第四页。"),
    ],
    ids=["one", "several", "quoted"],
)  # fmt: skip
def test_pages_are_chosen(shelf: Shelf, mention: str, header: str, text: str) -> None:
    whole = gather(f"Read {mention}", shelf).text
    assert whole == f"Read {mention}\n\nFile {header}:\n```\n{text}\n```"
    assert attachments(whole) == (f"Read {mention}", [Attachment(header, text)])


def test_pages_without_text_and_a_wrong_name_are_said(folder: Path, shelf: Shelf) -> None:
    (folder / "b.docx").write_bytes(PDF)
    (attached,) = gather("@b.docx", shelf).attached
    assert attached.about == "PDF, 4 pages"
    assert attached.notes == (
        "It is a PDF, whatever its name says.",
        "1 of 4 pages has no text (scanned?).",
    )


def test_lines_of_a_text_and_the_source_of_a_page_are_chosen(folder: Path, shelf: Shelf) -> None:
    (folder / "x.py").write_text("one\ntwo\nthree\n")
    (folder / "x.html").write_text("<b>x</b>")
    assert gather("@x.py:2-", shelf).text.endswith(
        "File x.py:2- (lines 2-3 of 3):\n```py\ntwo\nthree\n```"
    )
    assert gather("@x.html:source", shelf).text.endswith("```html\n<b>x</b>\n```")
    assert gather("@x.html", shelf).text.endswith("File x.html (web page):\n```\nx\n```")


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("@locked.pdf", "@locked.pdf is encrypted: save"),
        ("@scan.pdf", "has no text on its 1 page (scanned, or pictures)"),
        ("@a.pdf:9", "a.pdf has 4 pages: write @a.pdf:1-2"),
        ("@a.pdf:0", "a.pdf has 4 pages"),
        ("@noise.pdf", "is no PDF, whatever its name says"),
        ("@cat.pdf", "is a picture"),
        ("zebra @notes/", "has none of the prompt's words in its 2 files"),
        ("x @empty/", "has no text that could be searched"),
        ("x @~/", "is all that you have here"),
    ],
)
def test_a_document_or_folder_that_cannot_be_had_holds_the_prompt_back(
    folder: Path, shelf: Shelf, prompt: str, says: str
) -> None:
    (folder / "locked.pdf").write_bytes(made.pdf(["x"], encrypted=True))
    (folder / "scan.pdf").write_bytes(made.pdf(["\f"]))
    (folder / "noise.pdf").write_bytes(b"\0\1\2")
    (folder / "cat.pdf").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (folder / "empty").mkdir()
    problem = gather(prompt, shelf).held_back_by
    assert says in str(problem)
    assert "stays a word" not in str(problem)


def test_of_a_folder_goes_along_what_suits_the_prompt(shelf: Shelf) -> None:
    gathered = gather("How deep is the sea? @notes/", shelf, room=500)
    (attached,) = gathered.attached
    assert gathered.searched
    assert attached.about == "1 passage of 1 of 2 files"
    header = "notes/sea.md (line 1; found in notes/)"
    assert attached.parts == (Attachment(header, "The sea is deep.", "md"),)
    assert described(attached) == "@notes/  1 passage of 1 of 2 files, 16 characters: sea.md"
    (attached,) = gather("Sum up @notes/", shelf, room=10_000).attached
    assert attached.about == "all of its 2 files"


def test_of_a_long_document_goes_along_what_suits_the_prompt(folder: Path, shelf: Shelf) -> None:
    pages = ["\n".join([f"Nothing on day {n}."] * 40) for n in range(9)]
    (folder / "log.pdf").write_bytes(made.pdf([*pages, "Eleven seals. 十一只海豹。"]))
    for question in ("How many seals?", "几只海豹？"):
        gathered = gather(f"{question} @log.pdf:best", shelf, room=100)
        (attached,) = gathered.attached
        assert gathered.searched
        assert attached.about == "1 passage of it"
        header = "log.pdf (page 10; found in log.pdf:best)"
        assert attached.parts == (Attachment(header, "Eleven seals. 十一只海豹。"),)
    assert "none of the prompt's words" in str(gather("zebra @log.pdf:best", shelf).held_back_by)
    (folder / "locked.pdf").write_bytes(made.pdf(["x"], encrypted=True))
    assert "is encrypted" in str(gather("x @locked.pdf:best", shelf).held_back_by)


def test_a_folder_without_a_slash_is_a_word(shelf: Shelf) -> None:
    gathered = gather("What is @notes?", shelf)
    assert gathered.held_back_by is None
    assert "@notes/ attaches what suits the prompt" in str(gathered.problems[0])


def test_nothing_that_takes_long_is_read_before_it_is_wanted() -> None:
    shelf = Shelf()
    prompt = "How deep is the sea? @notes/ @a.pdf"
    gathered = gather(prompt, shelf, read=False)
    assert (gathered.text, len(gathered.pending)) == (prompt, 2)
    assert gather(prompt, shelf).pending == ()
    assert gather(prompt, shelf, read=False) == gather(prompt, shelf)


def test_a_new_version_of_a_prompt_keeps_its_files_as_they_were_sent(
    folder: Path, shelf: Shelf
) -> None:
    (folder / "a.txt").write_text("old")
    stored = attachments(gather("Read @a.txt, @a.pdf:1 and @notes/", shelf).text)[1]
    (folder / "a.txt").write_text("new")
    (folder / "a.pdf").unlink()

    def texts(gathered: Gathered) -> list[str]:
        return [part.text for each in gathered.attached for part in each.parts]

    again = gather("Do read @a.txt and @a.pdf:1", shelf, stored=stored)
    assert texts(again) == ["old", "[page 1]\nThe first page."]
    assert {each.about for each in again.attached} == {"as it was sent"}
    assert texts(gather("Read @a.txt", shelf)) == ["new"]
    # Other words find other passages, as long as there is something to search.
    searched = gather("sky @notes/", shelf, stored=stored, room=100)
    assert texts(searched) == ["The sky is high."]
    for file in (folder / "notes").iterdir():
        file.unlink()
    (folder / "notes").rmdir()
    assert texts(gather("sky @notes/", shelf, stored=stored)) == [
        each.text for each in stored if "found in notes/" in each.name
    ]


def test_what_stands_below_a_prompt_already_is_not_put_there_twice(shelf: Shelf) -> None:
    whole = gather("Read @a.pdf", shelf).text
    assert gather(whole, shelf).text == whole


def test_which_of_the_pages_would_fit_is_said(folder: Path, shelf: Shelf) -> None:
    (folder / "my book.pdf").write_bytes(made.pdf(["x" * 90] * 9))
    (attached,) = gather('@"my book.pdf":2-', shelf).attached

    def count(text: str) -> int:
        return len(text)

    line = described(attached, count, 420)
    assert 'tokens, and 420 fit: pages 2-5 would, as @"my book.pdf":2-5' in line
    assert count(attached.document.text((2, 3, 4, 5))) <= 420  # type: ignore[union-attr]
    assert count(attached.document.text((2, 3, 4, 5, 6))) > 420  # type: ignore[union-attr]
    best = '@"my book.pdf":best is what suits the prompt'
    assert line.endswith(f'as @"my book.pdf":2-5; {best}')
    assert described(attached, count, 50).endswith(f", and 50 fit: {best}")
    assert "fit" not in described(attached, count, 5000)


def test_a_file_that_is_not_there_is_a_word_and_said() -> None:
    assert missing("@gone.txt and @decorator, @gone/?") == [
        "@gone.txt is not there, so it stays a word of the prompt.",
        "@gone/ is not there, so it stays a word of the prompt.",
    ]


@pytest.mark.parametrize(
    ("part", "chosen"),
    [("3", "3"), ("3-5", "3-5"), ("-2", "1-2"), ("8-", "8-9"), ("7,1-2,2-3", "1-3, 7"),
     ("4-99", "4-9"), ("10", ""), ("5-3", ""), ("-", ""), ("1-2-3", ""), ("x", ""), ("", "")],
)  # fmt: skip
def test_ranges(part: str, chosen: str) -> None:
    if chosen:
        assert in_ranges(numbers(part, 9)) == chosen
    else:
        with pytest.raises(ValueError, match="none of these"):
            numbers(part, 9)


def test_a_folder_fills_no_more_than_a_third_of_the_context() -> None:
    assert [room_in(context) for context in (None, 3000, 100_000)] == [2000, 1000, 4000]
