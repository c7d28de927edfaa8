"""`ask` as a shell sees it: output, exit codes, and what is kept."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore, StoredMessage
from openchat_local.app.cli import standard_input
from openchat_local.app.cli.main import main
from openchat_local.app.engine import local_engine
from openchat_local.app.settings.model import load_settings
from support.programs import PROGRAM, run_program
from support.wiretap import Wiretap


def ask(*arguments: str, stdin: str | bytes = "", **environment: str):  # type: ignore[no-untyped-def]
    return run_program("ask", "--temperature", "0", *arguments, stdin=stdin, **environment)


def newest_branch(home: Path) -> list[StoredMessage]:
    store = ChatStore.open(home)
    try:
        chat = store.latest_chat()
        assert chat is not None
        return store.branch(chat.id)
    finally:
        store.close()


def chats_in(home: Path) -> list[str]:
    store = ChatStore.open(home)
    try:
        return [chat.title for chat in store.chats()]
    finally:
        store.close()


def test_the_reply_is_printed_and_kept_with_what_made_it(home: Path) -> None:
    done = ask("Name three animals.", "--max-tokens", "8", "--seed", "7")
    assert (done.returncode, done.stderr) == (0, "")
    prompt, reply = newest_branch(home)
    assert prompt.content == "Name three animals."
    assert done.stdout.rstrip("\n") == reply.content.rstrip("\n")
    assert reply.content
    assert (reply.model, reply.template) == ("starter", "chatml")
    assert reply.sampling is not None
    assert (reply.sampling["seed"], reply.sampling["max_tokens"]) == (7, 8)
    assert reply.usage is not None
    assert reply.usage["generated_tokens"] == 8
    assert reply.finish_reason == "length"


def test_a_limit_that_nobody_asked_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCHAT_LOCAL_SAMPLING__MAX_TOKENS", "3")
    done = ask("Name three animals.")
    assert done.returncode == 0
    assert done.stderr.startswith("The reply stopped at 3 tokens: ask -c continues the chat")


def test_standard_input_is_appended(home: Path) -> None:
    assert ask("Summarise:", "--max-tokens", "2", stdin="A text.\n").returncode == 0
    assert newest_branch(home)[0].content == "Summarise:\n\nA text."


def test_standard_input_alone_is_a_prompt(home: Path) -> None:
    assert ask("--max-tokens", "2", stdin="Hello there\n").returncode == 0
    assert newest_branch(home)[0].content == "Hello there"


def left_in_the_pipe(script: str, folder: Path) -> tuple[str, str]:
    """What `cat` finds on standard input behind `$ask`, which needs no model to have decided
    what it reads; and what was said on standard error."""
    program = " ".join([*PROGRAM, "ask", "-m", "no-such-model"])
    done = subprocess.run(
        ["sh", "-c", script.replace("$ask", program)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
    )
    assert "There is no model named 'no-such-model'" in done.stderr
    return done.stdout, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who shares a pipe")
@pytest.mark.parametrize("input", ["printf 'one\\ntwo\\n' |", ""], ids=["pipe", "file"])
def test_the_lines_of_a_loop_are_left_to_it(tmp_path: Path, input: str) -> None:
    (tmp_path / "lines").write_text("one\ntwo\n")
    loop = 'while read line; do $ask "$line"; cat; done'
    left, said = left_in_the_pipe(f"{input} {loop} {'' if input else '< lines'}", tmp_path)
    assert left == "two\n"
    assert "was left to it; - reads it" in said


@pytest.mark.parametrize(
    "script",
    ["{ $ask Read:; cat; } < lines", "(sleep 0.5; cat lines) | $ask Read:",
     "cat lines | { $ask Read: -; cat; }", "cat lines | { $ask; cat; }"],
)  # fmt: skip
def test_what_is_meant_for_the_command_is_read(tmp_path: Path, script: str) -> None:
    (tmp_path / "lines").write_text("one\ntwo\n")
    left, said = left_in_the_pipe(script, tmp_path)
    assert left == ""
    assert "Standard input" not in said


@pytest.mark.skipif(os.name == "nt", reason="select takes no pipes on Windows")
def test_a_pipe_that_stays_silent_is_not_waited_for_unless_asked_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(standard_input, "_STDIN", reading)
    monkeypatch.setattr(standard_input, "PATIENCE", 0.01)
    assert standard_input.unread_because() == standard_input.SILENT
    os.write(writing, b"A text.")
    assert standard_input.unread_because() is None
    os.close(writing)
    os.read(reading, 100)
    assert standard_input.unread_because() is None  # its end is something to read
    os.close(reading)
    assert standard_input.unread_because() == ""


@pytest.mark.skipif(os.name == "nt", reason="the shell is a POSIX one")
def test_a_pipeline_that_is_at_work_is_waited_for_however_long_it_is_silent() -> None:
    code = (
        "from openchat_local.app.cli import standard_input; standard_input.PATIENCE = 0.05; "
        "print(standard_input.whole_prompt(('Explain.',)))"
    )
    script = f"(sleep 1.5; echo late) | {sys.executable} -c {shlex.quote(code)}"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, timeout=60, start_new_session=True
    )
    assert (done.stdout, done.stderr) == ("Explain.\n\nlate\n", "")


def test_two_prompts_are_a_usage_error() -> None:
    done = ask("Why", "not?")
    assert done.returncode == 2
    assert "quotation marks" in done.stderr


def test_continue_goes_on_with_the_last_chat_and_its_system_prompt(home: Path) -> None:
    ask("Name an animal.", "-s", "Be brief.", "--max-tokens", "4")
    assert ask("-c", "Another.", "--max-tokens", "4").returncode == 0
    assert [message.role for message in newest_branch(home)] == [
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    store = ChatStore.open(home)
    assert [chat.system_prompt for chat in store.chats()] == ["Be brief."]
    store.close()


def test_continue_without_a_chat_says_what_to_do() -> None:
    done = ask("-c", "Another.")
    assert done.returncode == 1
    assert done.stderr == ("openchat-local: There is no chat to continue: ask without -c first.\n")


def test_not_streaming_prints_the_same() -> None:
    streamed = ask("Name three animals.", "--max-tokens", "12")
    whole = ask("Name three animals.", "--max-tokens", "12", "--no-stream")
    assert streamed.stdout == whole.stdout != "\n"


@pytest.mark.parametrize("in_a_file", [True, False])
def test_a_json_schema_as_text_or_file(tmp_path: Path, in_a_file: bool) -> None:
    schema = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}},
                         "required": ["n"], "additionalProperties": False})  # fmt: skip
    given = schema
    if in_a_file:
        file = tmp_path / "schema.json"
        file.write_text(schema)
        given = str(file)
    done = ask("A number, please.", "--json-schema", given, "--max-tokens", "60")
    assert done.returncode == 0
    assert isinstance(json.loads(done.stdout)["n"], int)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("{broken", "--json-schema is not JSON"),
        ("/no/such/schema.json", "/no/such/schema.json cannot be read"),
    ],
)
def test_a_schema_that_cannot_be_used_is_an_error(given: str, says: str) -> None:
    done = ask("Hi", "--json-schema", given)
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "says"),
    [(("--max-tokens", "4"), "it was cut after 4 tokens; raise --max-tokens"),
     (("--stop", ":"), "--stop ended it after")],
)  # fmt: skip
def test_a_reply_that_is_no_whole_json_exits_1_and_says_so(
    flags: tuple[str, ...], says: str
) -> None:
    schema = '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}'
    done = ask("Who are you?", "--json-schema", schema, *flags)
    assert done.returncode == 1
    assert done.stdout.startswith('{"')
    assert done.stderr.startswith("openchat-local: The reply is not complete JSON: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_prompt_is_a_usage_error() -> None:
    done = ask()
    assert done.returncode == 2
    assert "There is no prompt" in done.stderr


def test_input_that_is_not_utf8_names_the_byte() -> None:
    done = ask("Read:", stdin=b"caf\xe9")
    assert done.returncode == 1
    assert "byte 4 is 0xe9" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-m", "no-such-model"), "There is no model named 'no-such-model'"),
        (("-m", "/no/such/file.gguf"), "/no/such/file.gguf"),
        (("--template", "nonsense"), "chatml"),
        (("--context", "99999999"), "--context"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_sentence_and_leaves_no_chat(
    home: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = ask("Hi", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert chats_in(home) == []
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_ctrl_c_stops_with_130_and_keeps_what_came(home: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "ask", "Write a very long essay about rivers.", "--seed", "1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 10)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.strip()) == (130, b"")
    reply = newest_branch(home)[-1]
    assert reply.finish_reason == "cancelled"
    assert (first + rest).decode().rstrip("\n") == reply.content.rstrip("\n") != ""


def test_a_closed_pipe_ends_quietly(home: Path) -> None:
    done = subprocess.run(
        f"{' '.join(PROGRAM)} ask 'Write a very long essay.' --max-tokens 600 | head -c 1",
        shell=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert len(done.stdout) == 1
    assert done.stderr == b""


def test_killed_while_streaming_nothing_that_was_shown_for_a_second_is_lost(home: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "ask", "Write a very long essay about rivers.", "--seed", "1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    shown = second_before_death = os.read(process.stdout.fileno(), 4096)
    deadline = time.monotonic() + 2.0  # from the first word on: a busy machine starts late
    while time.monotonic() < deadline:
        shown += os.read(process.stdout.fileno(), 4096)
        if time.monotonic() < deadline - 1:
            second_before_death = shown
    process.kill()
    process.communicate()
    reply = newest_branch(home)[-1]
    assert reply.finish_reason == "interrupted"
    assert second_before_death
    assert reply.content.encode().startswith(second_before_death)


def test_a_refused_prompt_prints_nothing_and_leaves_no_chat(home: Path) -> None:
    done = ask("Hi", "--json-schema", '{"type": "nonsense"}')
    assert (done.returncode, done.stdout) == (1, "")
    assert "nonsense" in done.stderr
    assert chats_in(home) == []


def test_a_prompt_that_does_not_fit_is_never_stored(home: Path) -> None:
    done = ask("Summarise:", stdin="lorem ipsum dolor " * 20_000)
    assert (done.returncode, done.stdout) == (1, "")
    assert "tokens long" in done.stderr
    assert chats_in(home) == []
    assert sum(path.stat().st_size for path in home.glob("chats.db*")) < 200_000


def test_a_model_that_could_not_be_loaded_does_not_stay_with_the_chat(home: Path) -> None:
    assert ask("Hi", "--max-tokens", "2").returncode == 0
    assert ask("-c", "Hi", "-m", "/no/such/file.gguf").returncode == 1
    assert len(newest_branch(home)) == 2
    assert ask("-c", "Hi", "--max-tokens", "2").returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="arguments are Unicode on Windows")
def test_a_prompt_that_is_not_utf8_leaves_no_chat(home: Path) -> None:
    done = subprocess.run([*PROGRAM, "ask", b"caf\xe9"], input=b"", capture_output=True, timeout=60)
    assert done.returncode == 1
    assert b"not UTF-8" in done.stderr
    assert not home.exists()


def kept_states(home: Path) -> set[str]:
    """The chats with a KV state, once the engine that outlives the command has ended."""
    time.sleep(1.5)
    return {path.name.split(".")[0] for path in (home / "states").glob("*")}


def test_a_chat_made_private_loses_the_state_that_was_kept(home: Path) -> None:
    ask("Summarise:", "--max-tokens", "2", stdin="A long text. " * 60)
    assert len(kept_states(home)) == 1
    assert ask("-c", "--private", "More.", "--max-tokens", "2").returncode == 0
    assert kept_states(home) == set()


def test_a_chat_deleted_while_it_is_answered_leaves_no_state(home: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "ask", "A long text. " * 60 + "Write a very long essay.", "--seed", "1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    os.read(process.stdout.fileno(), 10)
    store = ChatStore.open(home)
    (chat,) = store.chats()
    store.delete_chat(chat.id)
    store.close()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"deleted" in errors
    assert kept_states(home) == set()


def test_verbose_tells_the_cost_on_stderr() -> None:
    done = ask("Hi", "-v", "--max-tokens", "3")
    assert "reply 3 tokens" in done.stderr
    assert "tokens/s" in done.stderr


def test_a_fallback_template_is_said_aloud() -> None:
    done = ask("Hi", "--template", "jinja", "--max-tokens", "3")
    assert done.returncode == 0
    assert "Jinja" in done.stderr


def test_forgetting_removes_old_states_also_where_none_are_kept(home: Path) -> None:
    state = home / "states" / "chat-1.0123abcd.kv"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"tokens")
    local_engine(load_settings({"kv": {"enabled": False}})).forget("chat-1")
    assert not state.exists()


def test_a_chat_that_outgrew_the_context_goes_on_and_says_so_or_is_refused(home: Path) -> None:
    store = ChatStore.open(home)
    chat = store.new_chat(system_prompt="Be brief.")
    for _ in range(20):
        store.add_message(chat.id, store.chat(chat.id).leaf_id, "user", "word " * 40)
        store.add_message(chat.id, store.chat(chat.id).leaf_id, "assistant", "reply " * 10)
    store.close()
    small = ("-c", "Say hello.", "--max-tokens", "4")
    done = ask(*small, OPENCHAT_LOCAL_CONTEXT="512")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert "messages do not fit into the context of 512 tokens" in done.stderr
    policy = {"OPENCHAT_LOCAL_CONTEXT": "512", "OPENCHAT_LOCAL_CONTEXT_OVERFLOW": "refuse"}
    done = ask(*small, **policy)
    assert (done.returncode, done.stdout) == (1, "")
    assert "drop-oldest" in done.stderr
    assert len(newest_branch(home)) == 42  # the refused prompt is not among them


def test_continue_is_held_with_what_the_chat_is_held_with(home: Path) -> None:
    ask("Name an animal.", "--max-tokens", "2", "--temperature", "0", "--condition", "Code")
    store = ChatStore.open(home)
    chat = store.chats()[0]
    assert chat.sampling == {"temperature": 0.0}  # how long a reply may be is no such thing
    store.update_chat(chat.id, sampling={"temperature": 0.0, "top_k": 3, "max_tokens": 2})
    store.close()
    assert ask("-c", "Another.").returncode == 0
    reply = newest_branch(home)[-1]
    assert reply.sampling is not None
    assert (reply.sampling["temperature"], reply.sampling["top_k"]) == (0.0, 3)
    assert (reply.usage or {})["generated_tokens"] <= 2

    done = ask("-c", "Another.", "--top-k", "5", "-v")
    reply = newest_branch(home)[-1]
    assert reply.sampling is not None
    assert (reply.sampling["temperature"], reply.sampling["top_k"]) == (0.0, 5)
    assert reply.condition == "Code"
    said, figures = done.stderr.splitlines()
    assert said.startswith("The reply stopped at 2 tokens")
    assert figures.startswith("starter · Code · prompt ")


@pytest.mark.skipif(os.name == "nt", reason="a shell stands in between")
def test_what_is_asked_goes_to_the_engine_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tap = Wiretap(tmp_path, monkeypatch)
    for arguments in (["Hello!"], ["-c", "And again?"]):
        assert main(["ask", *arguments, "--max-tokens", "2"]) == 0
        sent = [frame["do"] for frame in tap.frames()]
        assert sent == ["load", "generate"]
