"""Pulling from a hub that is well, that is not, and that lies."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from openchat_local.models.errors import ModelFileError, OpenChatError
from openchat_local.models.hub.client import Hub
from openchat_local.models.hub.download import Progress
from openchat_local.models.hub.faults import HubError, PullCancelled
from openchat_local.models.hub.pull import Chosen, Event, choose_file, pull
from openchat_local.models.hub.reference import parse_wanted
from openchat_local.models.library import InstalledModel, ModelLibrary
from openchat_local.models.library.found import FoundModel
from openchat_local.models.library.unfinished import part_path, unfinished
from openchat_local.models.memory import DEFAULT_CONTEXT, predict_from_shape
from openchat_local.models.system.network import OfflineError
from openchat_local.models.units import memory_in_words
from support.hub import FILE, REPOSITORY, REVISION, Answer, FakeHub
from support.openchat_gguf import openchat_vocabulary, write_model

Pull = Callable[..., InstalledModel]


def parts(library: ModelLibrary) -> list[int]:
    """The sizes of what is left of downloads."""
    return [path.stat().st_size for path in (library.folder / ".parts").glob("*.part")]


def refusal(pulling: Pull, name: str = "openchat-3.5") -> str:
    """The sentence that a pull ends in."""
    with pytest.raises(OpenChatError) as error:
        pulling(name)
    sentence = str(error.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_a_pull_ends_in_a_verified_model_of_that_name(
    pulling: Pull, hub: FakeHub, library: ModelLibrary, content: bytes, events: list[Event]
) -> None:
    model = pulling()
    assert model.path.read_bytes() == content
    card = model.card
    assert card.reference == "openchat-3.5:Q4_K_M"
    assert card.sha256 == hashlib.sha256(content).hexdigest()
    assert (card.origin, card.source) == ("hub", f"{REPOSITORY}/{FILE}")
    assert (card.revision, card.licence) == (REVISION, "apache-2.0")
    assert library.find("openchat-3.5") == library.find("openchat-3.5-0106:q4_k_m") == model
    assert parts(library) == []
    chosen, *progress = events
    assert isinstance(chosen, Chosen)
    assert chosen.reason
    last = progress[-1]
    assert isinstance(last, Progress)
    assert last.done == last.total == last.fetched == len(content)

    served = hub.served
    assert pulling() == model
    assert hub.served == served


def test_the_quantisation_has_to_fit_beside_the_kv_cache_that_is_set(
    hub: FakeHub,
) -> None:
    hub.repositories[REPOSITORY][FILE.replace("Q4_K_M", "Q2_K")] = b"another"
    wanted = parse_wanted("openchat-3.5")
    assert wanted.known is not None
    shape = wanted.known.memory_shape
    listing = Hub().listing(wanted.repository, wanted.revision, lambda _: None)

    def told(kv_type: str) -> str:
        _, reason = choose_file(listing, wanted, kv_type)
        return reason

    size = len(hub.repositories[REPOSITORY][FILE])
    for kv_type in ("f16", "q8_0"):
        need = predict_from_shape(shape, size, DEFAULT_CONTEXT, kv_type=kv_type).total
        assert f"{memory_in_words(need)} of memory" in told(kv_type)
    assert told("f16") != told("q8_0")


def test_a_token_goes_to_the_hub_and_not_where_it_redirects_to(
    pulling: Pull, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pulling()
    for request in hub.requests:
        assert ("authorization" in request.headers) != request.path.startswith("/content/")
    assert hub.requests[0].headers["authorization"] == "Bearer hf_secret"
    assert {request.path.split("/")[1] for request in hub.requests} == {
        "api",
        "TheBloke",
        "content",
    }


@pytest.mark.parametrize("how", [{"cut": True}, {"stall": True}])
def test_what_came_before_the_line_broke_is_not_fetched_twice(
    how: dict[str, bool], pulling: Pull, hub: FakeHub, content: bytes, events: list[Event]
) -> None:
    hub.content = [Answer(after=500_000, **how), Answer(after=700_000, **how)]
    assert pulling(stall=0.3).path.read_bytes() == content
    assert hub.served == len(content)
    ranges = [request.headers.get("range") for request in hub.content_requests()]
    assert ranges == [None, "bytes=500000-", "bytes=1200000-"]
    notes = [event.note for event in events if isinstance(event, Progress) and event.note]
    assert len(notes) == 2
    assert "trying again in" in notes[0]


def test_a_server_that_is_out_of_order_is_asked_again(
    pulling: Pull, hub: FakeHub, content: bytes
) -> None:
    hub.api = [Answer(503), Answer(429, {"Retry-After": "0"})]
    hub.content = [Answer(500), Answer(502)]
    assert pulling().path.read_bytes() == content


def test_patience_ends_and_the_part_is_kept(
    pulling: Pull, hub: FakeHub, library: ModelLibrary, content: bytes
) -> None:
    hub.content = [Answer(after=1_000_000, cut=True), *[Answer(503)] * 3]
    sentence = refusal(pulling)
    assert f"stopped at {1_000_000 / len(content):.0%}, since it is out of order" in sentence
    assert "the same command continues from there" in sentence
    assert parts(library) == [1_000_000]
    assert pulling().path.read_bytes() == content
    assert hub.served == len(content)


def test_a_wait_that_is_too_long_is_told_and_not_waited(pulling: Pull, hub: FakeHub) -> None:
    hub.api = [Answer(429, {"Retry-After": "600"})]
    assert "asks for patience (status 429): try again in 10 min" in refusal(pulling)


@pytest.mark.parametrize(
    ("answer", "token", "said"),
    [
        (Answer(401, {"X-Error-Code": "GatedRepo"}), "", "make a token at"),
        (Answer(403, {"X-Error-Code": "GatedRepo"}), "hf_x", "the account of your token has not"),
        (Answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"}), "hf_x",
         "does not accept your token"),
        (Answer(401, {"X-Error-Code": "RepoNotFound"}), "", "has no repository"),
        (Answer(404, {"X-Error-Code": "RepoNotFound"}), "", "has no repository"),
        (Answer(404, {"X-Error-Code": "RevisionNotFound"}), "", "no such revision"),
        (Answer(403, {"X-Error-Message": "Not from here."}), "", "(Not from here)"),
        (Answer(418), "", "with status 418"),
        (Answer(content=b"<html>Please log in to the hotel's network"), "", "does not answer as"),
    ],
)  # fmt: skip
def test_a_refusal_is_one_sentence_that_helps(
    answer: Answer, token: str, said: str, pulling: Pull, hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", token)
    hub.api = [answer]
    assert said in refusal(pulling)


def test_a_gated_repository_lists_its_files_and_gives_none(
    pulling: Pull, hub: FakeHub, library: ModelLibrary
) -> None:
    hub.resolve = [Answer(401, {"X-Error-Code": "GatedRepo"})]
    sentence = refusal(pulling)
    assert f"accept them at huggingface.co/{REPOSITORY}, make a token at" in sentence
    assert library.models() == []


def test_a_server_that_is_not_there_is_named(
    pulling: Pull, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.close()
    sentence = refusal(pulling)
    assert f"cannot be reached: Connection refused ({hub.endpoint})" in sentence
    assert "HF_ENDPOINT" in sentence


def test_a_file_that_is_not_what_was_announced_never_becomes_visible(
    pulling: Pull, hub: FakeHub, library: ModelLibrary, content: bytes
) -> None:
    wrong = content[:-1] + bytes([content[-1] ^ 1])
    hub.content = [Answer(content=wrong)]
    assert "is not what it announced (another SHA-256)" in refusal(pulling)
    assert parts(library) == []
    assert library.models() == []
    assert pulling().path.read_bytes() == content


def test_a_part_that_was_damaged_on_disk_is_fetched_once_more(
    pulling: Pull, hub: FakeHub, library: ModelLibrary, content: bytes
) -> None:
    part = library.folder / ".parts" / f"{hub.sha256(REPOSITORY, FILE)}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(1_000_000))
    assert pulling().path.read_bytes() == content
    assert hub.served == 2 * len(content) - 1_000_000


def test_a_part_that_is_complete_is_not_fetched_at_all(
    pulling: Pull, hub: FakeHub, library: ModelLibrary, content: bytes
) -> None:
    part = library.folder / ".parts" / f"{hub.sha256(REPOSITORY, FILE)}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    assert pulling().path.read_bytes() == content
    # So is one that was moved in by a process that died before it wrote the card.
    model = library.existing("openchat-3.5")
    (model.folder / "model.json").unlink()
    assert pulling().path.read_bytes() == content
    assert hub.served == 0


def test_a_server_without_ranges_and_one_with_too_much(
    pulling: Pull, hub: FakeHub, library: ModelLibrary, content: bytes
) -> None:
    hub.content = [Answer(after=100_000, cut=True), Answer(ranges=False)]
    assert pulling().path.read_bytes() == content
    library.remove(library.existing("openchat-3.5"))
    hub.content = [Answer(content=content + b"more")]
    assert "sends more of" in refusal(pulling)
    assert parts(library) == [0]


def test_a_file_without_a_hash_is_refused(pulling: Pull, hub: FakeHub) -> None:
    hub.announced[FILE] = None
    assert "gives no SHA-256" in refusal(pulling)


def test_a_whole_file_that_is_no_model_is_refused(
    pulling: Pull, hub: FakeHub, library: ModelLibrary
) -> None:
    hub.repositories[REPOSITORY][FILE] = b"GGUF but not really"
    sentence = refusal(pulling)
    assert "is not a model that can be used" in sentence
    assert ".part" not in sentence
    assert (parts(library), library.models()) == ([], [])


def test_a_full_disk_is_told_before_anything_is_fetched(
    pulling: Pull, hub: FakeHub, library: ModelLibrary, content: bytes
) -> None:
    listing = hub.listing(REPOSITORY).replace(str(len(content)).encode(), b"9" * 16)
    hub.api = [Answer(content=listing)]
    assert "B free and the model needs 10000000.0 GB: make room" in refusal(pulling)
    assert hub.served == 0


def test_two_pulls_of_one_file_do_not_meet(
    pulling: Pull, hub: FakeHub, library: ModelLibrary, content: bytes
) -> None:
    hub.content = [Answer(after=1_000_000, stall=True)]
    first = threading.Thread(target=pulling)
    first.start()
    assert hub.stalled.wait(10)
    assert "is being fetched by another openchat-local" in refusal(pulling)
    hub.may_go_on.set()
    first.join(30)
    assert library.existing("openchat-3.5").path.read_bytes() == content
    assert hub.served == len(content)


def test_a_pull_can_be_stopped_and_goes_on_later(
    hub: FakeHub, pulling: Pull, library: ModelLibrary, content: bytes
) -> None:
    stop = threading.Event()

    def tell(event: Event) -> None:
        if isinstance(event, Progress) and event.done:
            stop.set()

    with pytest.raises(PullCancelled, match="fetching it again continues from there"):
        pull(Hub(stop=stop), parse_wanted("openchat-3.5"), library, tell)
    (kept,) = parts(library)
    assert 0 < kept < len(content)
    pulling()
    # What was on its way when the client closed the connection may have been counted.
    assert hub.content_requests()[-1].headers["range"] == f"bytes={kept}-"


def test_a_wait_can_be_stopped_too(hub: FakeHub, library: ModelLibrary) -> None:
    hub.api = [Answer(503, {"Retry-After": "30"})]
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    # Nothing came, so nothing is said to be kept.
    with pytest.raises(PullCancelled, match=r"^Fetching [^:]* was stopped\.$"):
        pull(Hub(stop=stop), parse_wanted("openchat-3.5"), library, lambda _: None)


@pytest.mark.parametrize("honest", [True, False])
def test_a_file_that_another_program_has_is_linked_instead(
    honest: bool, pulling: Pull, hub: FakeHub, library: ModelLibrary, content: bytes,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    theirs = tmp_path / "hub/models--a--b/snapshots/c" / FILE
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(content if honest else content[:-1] + b"?")
    asked: list[FoundModel] = []

    def agree(found: FoundModel) -> bool:
        asked.append(found)
        return True

    wanted = parse_wanted("openchat-3.5")
    model = pull(Hub(), wanted, library, lambda _: None, link_instead=agree)
    assert [found.path for found in asked] == [theirs]
    assert model.card.reference == "openchat-3.5:Q4_K_M"
    assert model.path.read_bytes() == content
    assert model.is_link is honest
    assert hub.served == (0 if honest else len(content))


@pytest.mark.parametrize("variable", ["OPENCHAT_LOCAL_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_refuses_before_any_socket(
    variable: str, pulling: Pull, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(OfflineError, match=f"needs the network, which {variable} shuts off"):
        pulling()
    assert hub.requests == []
    monkeypatch.setenv(variable, "0")
    pulling()


def test_a_proxy_is_used_and_a_bad_one_named(
    pulling: Pull, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import close_session

    try:
        # The proxy is the fake hub itself, which is asked for whole addresses then.
        monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
        monkeypatch.setenv("HTTP_PROXY", hub.endpoint)
        close_session()
        hub.api = [Answer(403, {"X-Error-Message": "asked through the proxy"})]
        assert "asked through the proxy" in refusal(pulling)
        monkeypatch.setenv("HTTP_PROXY", "gopher://somewhere")
        close_session()
        assert "The proxy cannot be used" in refusal(pulling)
    finally:
        monkeypatch.undo()
        close_session()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "no known model named 'nonsense'"),
        ("starter", "does not come from the hub"),
        ("hf:nonsense", "is not a place on the hub"),
        ("hf:../..", "is not a place on the hub"),
        ("openchat-3.5:Q9_X", "has no Q9_X on the hub: there is Q4_K_M"),
        (f"hf:{REPOSITORY}/other.gguf", "has no file other.gguf"),
    ],
)
def test_what_cannot_be_pulled_is_told(text: str, said: str, pulling: Pull) -> None:
    assert said in refusal(pulling, text)


def test_any_repository_can_be_pulled_from_under_a_name_made_of_its_own(
    pulling: Pull, hub: FakeHub, content: bytes, library: ModelLibrary
) -> None:
    hub.repositories["Some.One/My-Model-GGUF"] = {
        "sub/my-model-Q8_0.gguf": content,
        "my-model-Q6_K.gguf": content + bytes(32),
        "big-Q4_K_M-00001-of-00002.gguf": b"x",
        "mmproj-f16.gguf": b"x",
    }
    assert pulling("hf:Some.One/My-Model-GGUF").card.reference == "My-Model:Q8_0"
    assert pulling("hf:Some.One/My-Model-GGUF:q6_k").card.quantisation == "Q6_K"
    named = pulling("hf:Some.One/My-Model-GGUF@main/sub/my-model-Q8_0.gguf")
    assert named.path == library.folder / "My-Model@Q8_0" / "my-model-Q8_0.gguf"
    hub.repositories["Some.One/My-Model-GGUF"]["sub/my-model-Q8_0.gguf"] = content + bytes(64)
    with pytest.raises(ModelFileError, match=r"There is a model My-Model:Q8_0 already"):
        pulling("hf:Some.One/My-Model-GGUF:Q8_0")


def test_a_type_that_llama_cpp_has_dropped_is_not_fetched(
    pulling: Pull, hub: FakeHub, content: bytes
) -> None:
    files = {"m-Q4_0_4_4.gguf": content, "m-Q8_0.gguf": content + bytes(32)}
    hub.repositories["a/b"] = files
    assert "no longer reads: ask for Q4_0," in refusal(pulling, "hf:a/b:q4_0_4_4")
    assert pulling("hf:a/b").card.quantisation == "Q8_0"
    del files["m-Q8_0.gguf"]
    assert "is quantised as Q4_0_4_4" in refusal(pulling, "hf:a/b")


def test_a_model_of_which_parts_are_missing_or_none_at_all(pulling: Pull, hub: FakeHub) -> None:
    hub.repositories["a/b"] = {"x-00001-of-00002.gguf": b"x"}
    hub.repositories["a/c"] = {"model.safetensors": b"x"}
    assert "no model of which every part is there" in refusal(pulling, "hf:a/b")
    assert "no GGUF file" in refusal(pulling, "hf:a/c")


SPLIT = "someone/Tiny-GGUF"


@pytest.fixture
def split(hub: FakeHub, tmp_path: Path) -> dict[str, bytes]:
    """A model in three files, in a folder of the repository, by their names in it."""
    tiny = {"blocks": 1, "embedding": 32, "heads": 2, "kv_heads": 1, "feed_forward": 64}
    (tmp_path / "made").mkdir()
    first = write_model(
        tmp_path / "made" / "tiny.Q8_0.gguf", openchat_vocabulary(), tensors_in_a_part=4, **tiny
    )  # type: ignore[arg-type]
    files = {f"Q8_0/{p.name}": p.read_bytes() for p in sorted(first.parent.iterdir())}
    assert len(files) == 3
    hub.repositories[SPLIT] = files
    return files


@pytest.mark.parametrize("asked", ["", ":Q8_0", "/Q8_0/tiny.Q8_0-00002-of-00003.gguf"])
def test_a_model_in_several_files_is_pulled_as_one(
    asked: str, pulling: Pull, split: dict[str, bytes], library: ModelLibrary, events: list[Event]
) -> None:
    model = pulling(f"hf:{SPLIT}{asked}")
    assert model.card.reference == "Tiny:Q8_0"
    names = [part.file for part in model.card.parts]
    assert names == [Path(name).name for name in split]
    assert [(model.folder / name).read_bytes() for name in names] == [*split.values()]
    chosen, *progress = events
    total = sum(map(len, split.values()))
    assert isinstance(chosen, Chosen)
    assert chosen.file.bytes == total
    done = [event.done for event in progress if isinstance(event, Progress) and event.total]
    assert done == sorted(done)
    assert done[-1] == total
    assert parts(library) == []
    assert pulling(f"hf:{SPLIT}") == model
    library.verify(model)


def test_a_model_in_several_files_goes_on_where_it_stopped_and_can_be_forgotten(
    pulling: Pull, hub: FakeHub, split: dict[str, bytes], library: ModelLibrary
) -> None:
    hub.content = [Answer(), Answer(after=1000, cut=True), *[Answer(503)] * 3]
    refusal(pulling, f"hf:{SPLIT}")
    (begun,) = unfinished(library.folder)
    first, second, third = map(len, split.values())
    assert (begun.done, begun.bytes) == (first + 1000, first + second + third)
    assert library.models() == []
    served = hub.served
    pulling(begun.pull)
    assert hub.served - served == second - 1000 + third
    assert unfinished(library.folder) == []

    library.remove(library.existing("Tiny"))
    hub.content = [Answer(), Answer(after=1000, cut=True), *[Answer(503)] * 3]
    refusal(pulling, f"hf:{SPLIT}")
    unfinished(library.folder)[0].forget()
    assert parts(library) == []


def test_a_kill_between_the_moves_of_parts_costs_no_byte(
    pulling: Pull, hub: FakeHub, split: dict[str, bytes], library: ModelLibrary
) -> None:
    model = pulling(f"hf:{SPLIT}")
    (model.folder / "model.json").unlink()
    last = model.card.parts[2]
    part_path(library.folder, last.sha256).write_bytes((model.folder / last.file).read_bytes())
    (model.folder / last.file).unlink()
    served = hub.served
    assert pulling(f"hf:{SPLIT}").card.parts == model.card.parts
    assert hub.served == served


def test_a_library_that_cannot_be_written_is_one_sentence(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(HubError, match="cannot be written to"):
        pull(Hub(), parse_wanted("openchat-3.5"), ModelLibrary(tmp_path / "models"), lambda _: None)
