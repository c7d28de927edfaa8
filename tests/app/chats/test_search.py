"""Search finds what a person remembers of a chat, in any script."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.app.chats import ChatStore
from openchat_local.app.chats.search import Query, excerpt
from openchat_local.app.chats.segment import tokens

TEXTS = {
    "english": "The quick brown fox jumps over the lazy dog; don't ask why.",
    "code": "def parse_json_file(path): return HTTPServer(parseJsonFile).serve_forever()",
    "chinese": "我想去北京看长城,然后去上海。",
    "japanese": "東京都に住んでいます。ｶﾞﾗｽのコップとコーヒー。",
    "korean": "서울에서 부산까지 기차를 탑니다.",
    "thai": "ฉันอยากไปเที่ยวกรุงเทพมหานคร",
    "khmer": "ខ្ញុំចង់ទៅភ្នំពេញ",
    "lao": "ຂ້ອຍຢາກໄປວຽງຈັນ",
    "burmese": "ရန်ကုန်မြို့သို့သွားချင်သည်",
    "hindi": "मैं हिन्दी में लिखता हूँ",
    "arabic": "أُحِبُّ القَهْوَةَ العَرَبِيَّة",
    "hebrew": "שָׁלוֹם עוֹלָם",
    "russian": "Съешь ещё этих мягких французских булок",
    "greek": "Η Αθήνα είναι όμορφη",
    "german": "Die Straße nach Köln ist GROSS",
    "emoji": "well done 🎉👩‍👩‍👧 → next",
    "width": "ＦＵＬＬ ｗｉｄｔｈ １２３",
}

FOUND = [
    ("quick", "english"),
    ("QUI", "english"),
    ("dog quick", "english"),
    ("don't", "english"),
    ("json", "code"),
    ("parse_json", "code"),
    ("parseJson", "code"),
    ("JsonFile", "code"),
    ("parsejsonfile", "code"),
    ("server", "code"),
    ("httpserver", "code"),
    ("forever", "code"),
    ("京", "chinese"),
    ("。", None),
    ("海", "chinese"),
    ("北京", "chinese"),
    ("看长城", "chinese"),
    ("北京 上海", "chinese"),
    ("東京", "japanese"),
    ("す", "japanese"),
    ("ガラス", "japanese"),
    ("ｺｰﾋｰ", "japanese"),
    ("서울", "korean"),
    ("기차", "korean"),
    ("เที่ยว", "thai"),
    ("ท", "thai"),
    ("กรุงเทพ", "thai"),
    ("ភ្នំពេញ", "khmer"),
    ("ວຽງ", "lao"),
    ("ရန်ကုန်", "burmese"),
    ("हिन्दी", "hindi"),
    ("हिन्", "hindi"),
    ("القهوة", "arabic"),
    ("שלום", "hebrew"),
    ("еще", "russian"),
    ("съешь", "russian"),
    ("αθηνα", "greek"),
    ("strasse", "german"),
    ("STRASSE", "german"),
    ("koln", "german"),
    ("groß", "german"),
    ("🎉", "emoji"),
    ("👧", "emoji"),
    ("→", "emoji"),
    ("full", "width"),
    ("123", "width"),
]

NOT_FOUND = [
    "uick",
    "quick zebra",
    "jsonparse",
    "pars_filet",
    "京北",
    "上北京",
    "กรุงไทย",
    "北京 東京",
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatStore]:
    store = ChatStore.open(tmp_path_factory.mktemp("library") / "home")
    for name, text in TEXTS.items():
        store.add_message(store.new_chat(title=f"chat-{name}", tags=[name]).id, None, "user", text)
    yield store
    store.close()


def found(store: ChatStore, query: str) -> list[str]:
    return [hit.title.removeprefix("chat-") for hit in store.search(query) if hit.message_id]


@pytest.mark.parametrize(("query", "name"), FOUND)
def test_a_part_that_is_remembered_finds_the_message(
    library: ChatStore, query: str, name: str | None
) -> None:
    names = found(library, query)
    assert (name in names) if name else names == []
    for hit in library.search(query):
        if hit.message_id and hit.title == f"chat-{name}":
            assert hit.matches, "what was found is marked"


@pytest.mark.parametrize("query", NOT_FOUND)
def test_what_was_not_said_is_not_found(library: ChatStore, query: str) -> None:
    assert found(library, query) == []


@pytest.mark.parametrize(
    "query",
    [
        "fox AND",
        "fox OR zebra",
        "fox NOT dog",
        '"quick',
        "qu* (",
        "words : fox",
        "NEAR(fox dog)",
        "-fox",
        "fox^2",
    ],
)
def test_no_character_of_a_query_is_syntax(library: ChatStore, query: str) -> None:
    plain = {"qu* (": ["english"], '"quick': ["english"], "-fox": ["english"]}
    assert found(library, query) == plain.get(query, [])


@given(st.text(max_size=40))
def test_no_query_fails(library: ChatStore, query: str) -> None:
    for hit in library.search(query):
        assert all(0 <= start < end <= len(hit.snippet) for start, end in hit.matches)


UNSPACED = st.text(
    st.sampled_from("東京都大阪府我们在这里ひらがなカタカナーกขคงจฉไใ្កខគរือลမျ"),
    min_size=1,
    max_size=12,
)


@given(before=UNSPACED, part=UNSPACED, after=UNSPACED)
def test_any_stretch_of_unspaced_script_is_found(before: str, part: str, after: str) -> None:
    assert _matches(before + part + after, part)


@given(st.lists(st.from_regex(r"[a-zA-Z0-9_äöüßéçñ]{1,10}", fullmatch=True), min_size=1), st.data())
def test_any_beginning_of_a_word_is_found_in_any_case(
    words: list[str], data: st.DataObject
) -> None:
    word = data.draw(st.sampled_from(words)).casefold()
    beginning = word[: data.draw(st.integers(1, len(word)))]
    assert _matches(" ".join(words).lower(), beginning) or not Query.parse(beginning).terms


@given(st.text(max_size=60), st.text(max_size=10))
def test_an_excerpt_marks_real_places(text: str, query: str) -> None:
    snippet, matches = excerpt(text, Query.parse(query))
    ends = [0, *(end for _, end in matches)]
    assert all(
        previous <= start < end for previous, (start, end) in zip(ends, matches, strict=False)
    )
    assert (
        snippet.strip("…").replace(" ", "") in "".join(text.split()).replace("…", "") or "…" in text
    )


@given(st.text(max_size=60))
def test_tokens_are_what_the_index_can_hold(text: str) -> None:
    for token in tokens(text):
        assert token
        assert not any(c.isspace() or unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in token)
        assert not any(c.isascii() and not c.isalnum() for c in token)


@given(st.from_regex(r"[A-Za-z0-9_ .]{0,60}", fullmatch=True))
def test_plain_text_is_indexed_as_it_is_beside_other_scripts(text: str) -> None:
    assert list(tokens(f"{text} é")) == [*tokens(text), "e"]


def _matches(text: str, query: str) -> bool:
    """Whether SQLite finds `query` in `text`: through the index, as the store does."""
    import sqlite3

    from openchat_local.app.chats import index

    connection = sqlite3.connect(":memory:")
    connection.execute(index.CREATE)
    index.add_message(connection, 1, text)
    expression = Query.parse(query).expression()
    sql = "SELECT count(*) FROM search_index WHERE words MATCH ?"
    count: int = connection.execute(sql, (expression,)).fetchone()[0] if expression else 0
    connection.close()
    return count == 1


def test_the_excerpt_is_one_line_around_the_match() -> None:
    text = "first line\n" * 50 + "here is the\tneedle, look!\r\n" + "last line\n" * 50
    snippet, matches = excerpt(text, Query.parse("NEEDLE"))
    assert [snippet[start:end] for start, end in matches] == ["needle"]
    assert "here is the needle, look!" in snippet
    assert (snippet[0], snippet[-1], "\n" in snippet) == ("…", "…", False)
    assert len(snippet) <= 162


def test_titles_come_first_then_messages_newest_first(store: ChatStore) -> None:
    old = store.new_chat(title="Lisbon")
    first = store.add_message(old.id, None, "user", "lisbon in spring")
    second = store.add_message(old.id, first.id, "user", "LISBON in autumn")
    hits = store.search("lisbon")
    assert [hit.message_id for hit in hits] == [None, second.id, first.id]
    assert [len(store.search("lisbon", limit=n)) for n in (1, 2, 3)] == [1, 2, 3]
    store.update_chat(old.id, title="Porto")
    assert [hit.message_id for hit in store.search("lisbon")] == [second.id, first.id]
    assert [hit.title for hit in store.search("porto")] == ["Porto"]


def test_private_chats_can_be_left_out(store: ChatStore) -> None:
    chat = store.new_chat(title="diary", private=True)
    store.add_message(chat.id, None, "user", "dear diary")
    assert len(store.search("diary")) == 2
    assert store.search("diary", include_private=False) == []
    store.set_private(chat.id, False)
    assert len(store.search("diary", include_private=False)) == 2


def test_a_reply_can_be_found_when_it_is_finished(store: ChatStore) -> None:
    reply = store.begin_reply(store.new_chat().id, None, model=None)
    store.flush_reply(reply.id, "an unfinished symphony")
    assert store.search("symphony") == []
    store.finish_reply(reply.id, "a finished symphony", "stop")
    assert [hit.role for hit in store.search("symphony")] == ["assistant"]


def test_a_huge_word_is_found_by_its_beginning(home: Path, store: ChatStore) -> None:
    blob = "aGVsbG8" * 20_000
    store.add_message(store.new_chat(title="blob").id, None, "user", blob)
    assert len(store.search(blob)) == 1
    assert len(store.search("aGVsbG8aGV")) == 1


def test_tags_are_looked_for_before_the_newest_hits_are_cut_off(store: ChatStore) -> None:
    work = store.new_chat(title="plans", tags=["Work", "2026"])
    wanted = store.add_message(work.id, None, "user", "the budget of the house")
    other = store.new_chat(title="others", tags=["fun"])
    for _ in range(60):
        store.add_message(other.id, None, "user", "another budget")
    assert [hit.message_id for hit in store.search("#work budget")] == [wanted.id]
    assert [hit.message_id for hit in store.search("budget #wo #20")] == [wanted.id]
    assert store.search("#work #fun budget") == []
    assert len(store.search("#fun budget", limit=7)) == 7


def test_tags_alone_give_their_chats_with_their_tags(store: ChatStore) -> None:
    first = store.new_chat(title="first", tags=["fun", "sea"])
    second = store.new_chat(title="second", tags=["funny"], private=True)
    store.new_chat(title="fun")
    hits = store.search("#fun")
    assert [(hit.chat_id, hit.message_id, hit.snippet) for hit in hits] == [
        (second.id, None, "#funny"),
        (first.id, None, "#fun #sea"),
    ]
    assert [hit.chat_id for hit in store.search("#FUN", include_private=False)] == [first.id]
    assert len(store.search("#fun", limit=1)) == 1
    store.hide_chat(first.id)
    assert [hit.chat_id for hit in store.search("#fun")] == [second.id]


def test_a_word_that_no_tag_begins_with_is_a_word(store: ChatStore) -> None:
    chat = store.new_chat(title="a listing", tags=["work"])
    store.add_message(chat.id, None, "user", "#include <stdio.h> in C#")
    assert len(store.search("#include stdio")) == 1
    assert len(store.search("C#")) == 1
    assert store.search("#") == []
