"""`finetune` as a person runs it: a real process, a tiny model, the example's data."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import PROGRAM, run_here, run_program

EXAMPLE = Path(__file__).parents[3] / "examples" / "commit-messages"
SUBJECT = re.compile(r"(fix|feat|docs|refactor|test|perf)\(")
# Where little is computed, MLX, which a process imports in a tenth of torch's time.
MLX = ("--backend", "mlx")
LONG = ("--steps", "100000", "--tokens-per-step", "128", "--max-length", "128", *MLX)
SHORT = ("--steps", "3", *LONG[2:])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in OpenChat's shape, with its vocabulary."""
    path = tmp_path_factory.mktemp("models") / "tiny-openchat-3.5.gguf"
    return write_model(
        path, openchat_vocabulary("control"), name="tiny openchat-3.5", context=512, blocks=2,
        embedding=128, heads=4, kv_heads=2, feed_forward=256,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained_home(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the example was trained as its README does it, on the tiny model."""
    home = tmp_path_factory.mktemp("home")
    done = run_program(
        "finetune", EXAMPLE / "train.jsonl", "-m", model, "--name", "commits", "--steps", "32",
        "--rank", "16", "--learning-rate", "2e-2", "--tokens-per-step", "512",
        OPENCHAT_LOCAL_HOME=str(home),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"openchat-local chat -m {model} --adapter commits" in done.stderr
    assert "The held-out loss fell" in done.stderr
    return home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "my home"  # what is advised has to be quoted


@pytest.fixture
def finetune(model: Path, home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        told = {"OPENCHAT_LOCAL_HOME": str(home), "OPENCHAT_LOCAL_MODEL": str(model)}
        return run_here("finetune", *arguments, **told | environment)

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A few lines of the example, short ones."""
    path = tmp_path / "my data.jsonl"
    lines = (EXAMPLE / "train.jsonl").read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:20], *lines[-20:]]), "utf-8")
    return path


@contextmanager
def running(
    model: Path, home: Path, data: Path, *flags: str, until: Callable[[Path], bool]
) -> Iterator[subprocess.Popen[str]]:
    """A run named `mine` in a process group of its own, once `until` is true of its folder."""
    environment = os.environ | {"OPENCHAT_LOCAL_HOME": str(home)}
    process = subprocess.Popen(
        [*PROGRAM, "finetune", str(data), "-m", str(model), "--name", "mine", *flags],
        env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not until(home / "runs" / "mine"):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with process:
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def training(model: Path, home: Path, data: Path) -> Iterator[subprocess.Popen[str]]:
    """A long run, a few steps into it."""

    def three_steps(run: Path) -> bool:
        metrics = run / "metrics.jsonl"
        return metrics.is_file() and metrics.read_text().count('"kind": "step"') >= 3

    with running(model, home, data, *LONG, until=three_steps) as process:
        yield process


def in_a_shell(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """What the program advised, as it stands there."""
    return subprocess.run(
        f"{shlex.join(PROGRAM)} {command}", shell=True, capture_output=True, text=True, check=False,
        env=os.environ | {"OPENCHAT_LOCAL_HOME": str(home)},
    )  # fmt: skip


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def adapters(home: Path) -> list[str]:
    done = run_here("adapters", "list", OPENCHAT_LOCAL_HOME=str(home))
    assert done.returncode == 0
    return [line.split()[0] for line in done.stdout.splitlines() if line.strip()]


def nothing_left(home: Path) -> bool:
    runs = home / "runs"
    return not runs.exists() or not any(runs.iterdir())


def ask(home: Path, model: Path, *options: str) -> str:
    prompt = json.loads((EXAMPLE / "held-out.jsonl").read_text("utf-8").splitlines()[0])
    done = run_here(
        "ask", prompt["messages"][0]["content"], "-m", model, "--temperature", "0",
        "--max-tokens", "12", *options, OPENCHAT_LOCAL_HOME=str(home),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_example_changes_the_answers_to_held_out_questions(
    trained_home: Path, model: Path
) -> None:
    tuned = ask(trained_home, model, "--adapter", "commits")
    other = ask(trained_home, model, "--adapter", "commits", "--condition", "GPT3")
    plain = ask(trained_home, model)
    assert SUBJECT.match(tuned), tuned
    assert not SUBJECT.match(plain), plain
    # Two blocks of random numbers do not learn what each class says, but that they differ.
    assert other != tuned


def test_the_run_leaves_an_adapter_a_report_and_metrics(trained_home: Path) -> None:
    assert any("commits" in line for line in adapters(trained_home))
    run = trained_home / "runs" / "commits"
    report = (run / "report.html").read_text("utf-8")
    assert "GPT4 Correct" in report
    assert "<svg" in report
    assert not re.search(r"""(src|href)\s*=\s*["']https?:""", report)  # nothing to fetch
    answers = json.loads((run / "run.json").read_text("utf-8"))["answers"]
    assert answers[0]["conditions"][0]["before"] != answers[0]["conditions"][0]["after"]


def test_the_run_is_listed_and_belongs_to_its_adapter(trained_home: Path) -> None:
    listed = run_here("finetune", "runs", "--json", OPENCHAT_LOCAL_HOME=str(trained_home))
    (row,) = [json.loads(line) for line in listed.stdout.splitlines()]
    assert (row["name"], row["state"]) == ("commits", "finished")
    asked = run_here(
        "adapters", "remove", "commits", stdin="n\n", OPENCHAT_LOCAL_HOME=str(trained_home)
    )
    assert f"its training run in {trained_home / 'runs' / 'commits'}" in asked.stderr


def test_the_example_is_checked_with_any_python(trained_home: Path, model: Path) -> None:
    other = os.path.realpath(sys.executable)
    if other == sys.executable:
        pytest.skip("there is no other Python here")
    command = [other, "-S", EXAMPLE / "check.py", "--adapter", "commits", "--model", model]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"OPENCHAT_LOCAL_HOME": str(trained_home), "PATH": path}
    done = subprocess.run(
        [*command, "--count", "1"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["before", "before", "after", "after"]


def test_without_the_program_the_example_says_so(tmp_path: Path) -> None:
    script = tmp_path / "a" / "b" / "check.py"
    script.parent.mkdir(parents=True)
    script.write_bytes((EXAMPLE / "check.py").read_bytes())
    done = subprocess.run(
        [os.path.realpath(sys.executable), "-S", script], env={"PATH": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is not installed for this Python" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_is_taken_is_refused_until_it_may_be_replaced(
    trained_home: Path, model: Path, data: Path
) -> None:
    told = {"OPENCHAT_LOCAL_HOME": str(trained_home)}
    command = ("finetune", data, "-m", model, "--name", "commits", "--dry-run")
    assert run_here(*command, *SHORT, **told).returncode == 0
    refused = run_here(*command[:-1], *SHORT, **told)
    assert refused.returncode == 1
    assert "--replace" in refused.stderr


def test_a_dry_run_shows_data_and_plan_and_leaves_nothing(
    finetune: Callable[..., subprocess.CompletedProcess[str]], data: Path, home: Path
) -> None:
    done = finetune(data, "--dry-run", "--epochs", "2", *LONG[2:])
    assert done.returncode == 0, done.stderr
    for text in ("GPT4 Correct", "95th percentile", "Backend", "measured", "steps (2.0 epochs)"):
        assert text in done.stderr
    assert nothing_left(home)
    assert adapters(home) == adapters(home / "nowhere")


def test_help_shows_the_options_of_training() -> None:
    done = run_here("finetune", "--help")
    assert done.returncode == 0
    shown = " ".join(done.stdout.split())
    assert "FILE | COMMAND" in shown
    for option in ("--learning-rate", "--reward CLASS=NUMBER", "--resume", "--dry-run", "preview"):
        assert option in shown


def test_minutes_plan_the_number_of_steps(
    finetune: Callable[..., subprocess.CompletedProcess[str]], data: Path
) -> None:
    done = finetune(data, "--dry-run", "--minutes", "0.0001", *LONG[2:])
    assert done.returncode == 0, done.stderr
    assert re.search(r"^1 steps? \(", done.stderr, re.MULTILINE), done.stderr


def test_all_problems_of_the_data_are_told_at_once_and_nothing_is_left(
    finetune: Callable[..., subprocess.CompletedProcess[str]], data: Path, home: Path
) -> None:
    with data.open("ab") as file:
        file.write(b'{"messages": [{"role": "ghost", "content": "x"}]}\n')
        file.write(b"not json\n")
        file.write(b'{"messages": [{"role": "user", "content": "\xff"}]}\n')
    done = finetune(data, *SHORT)
    assert done.returncode == 1
    for line in ("line 41", "line 42", "line 43"):
        assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert nothing_left(home)
    assert not (home / "adapters" / "my-data").exists()
    skipped = finetune(data, *SHORT, "--skip-bad", "--dry-run")
    assert skipped.returncode == 0, skipped.stderr
    assert "line 42" in skipped.stderr


def test_unknown_classes_are_refused_with_the_flags_to_add(
    finetune: Callable[..., subprocess.CompletedProcess[str]], data: Path
) -> None:
    data.write_text(data.read_text("utf-8").replace('"gpt35"', '"aunt"'), "utf-8")
    refused = finetune(data, *SHORT)
    assert refused.returncode == 1
    assert "--reward aunt=NUMBER" in refused.stderr
    flags = ("--reward", "aunt=0.2", "--condition", "aunt=Aunt")
    done = finetune(data, *SHORT, "--dry-run", *flags)
    assert done.returncode == 0, done.stderr
    assert "Aunt" in done.stderr


def test_ctrl_c_keeps_the_adapter_of_what_was_learned(
    training: subprocess.Popen[str], home: Path
) -> None:
    os.killpg(training.pid, signal.SIGINT)
    assert training.stderr is not None
    said = training.stderr.read()
    assert training.wait(120) == 0, said
    assert "Stopping after this step" in said
    assert "--adapter mine" in said
    assert any("mine" in line for line in adapters(home))


def test_ctrl_c_twice_ends_the_child_and_what_is_advised_goes_on(
    model: Path, home: Path, data: Path
) -> None:
    def a_step_is_kept(run: Path) -> bool:
        kept = {path.name for path in run.glob("checkpoints/step-*") if "." not in path.name}
        return bool(kept - {"step-000000"})

    flags = ("--steps", "40", *LONG[2:])
    with running(model, home, data, *flags, until=a_step_is_kept) as process:
        (child,) = psutil.Process(process.pid).children()
        child.suspend()  # a step that takes long
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr is not None
        while "Stopping after this step" not in (line := process.stderr.readline()):
            assert line
        os.kill(process.pid, signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(60) == 130
    assert not child.is_running()
    assert adapters(home) == []
    advice = re.search("Continue with: openchat-local (.*)", said)
    assert advice is not None, said
    # It runs as it is, in a shell; only to show the plan, which is enough.
    done = in_a_shell(f"{advice[1]} --dry-run", home)
    assert done.returncode == 0, done.stderr
    assert "40 steps" in done.stderr


def test_ctrl_c_while_planning_keeps_nothing_and_says_so(
    model: Path, home: Path, data: Path
) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "finetune", str(data), "-m", str(model), *LONG],
        env=os.environ | {"OPENCHAT_LOCAL_HOME": str(home)},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    with process:
        assert process.stderr is not None
        assert process.stderr.readline() == "Reading the model …\n"  # in a pipe, and at once
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(60) == 130
    assert "nothing was learned, and nothing is kept" in said
    assert "the adapter is kept" not in said
    assert not any(child.is_running() for child in children)
    assert nothing_left(home)


def test_killed_it_goes_on_with_resume(
    training: subprocess.Popen[str],
    finetune: Callable[..., subprocess.CompletedProcess[str]],
    home: Path,
) -> None:
    run = home / "runs" / "mine"
    children = psutil.Process(training.pid).children(recursive=True)
    os.killpg(training.pid, signal.SIGKILL)
    training.wait()
    psutil.wait_procs(children, timeout=60)
    # Of so long a run nobody would wait for the end: two more steps will do.
    settings = json.loads((run / "run.json").read_text("utf-8"))
    reached = (run / "metrics.jsonl").read_text().count('"kind": "step"')
    settings["plan"]["steps"] = reached + 2
    (run / "run.json").write_text(json.dumps(settings), "utf-8")
    done = finetune("--resume", "mine")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [record["step"] for record in records if record["kind"] == "step"]
    assert steps == list(range(1, reached + 3))
    assert any("mine" in line for line in adapters(home))


def test_a_run_that_is_gone_on_with_refuses_what_contradicts_it_and_shows_what_changes(
    trained_home: Path,
) -> None:
    before = hashes(trained_home)
    told = {"OPENCHAT_LOCAL_HOME": str(trained_home)}
    flags = (
        "--rank", "8", "--name", "other", "--no-packing", "--learning-rate", "2e-2",
        "--betas", "0.9", "0.95", "--weight-decay", "0.1", "--loss", "per-conversation",
    )  # fmt: skip
    refused = run_here("finetune", "--resume", "commits", *flags, **told)
    assert refused.returncode == 1
    for text in ("--rank (16 in the run)", "--name (commits in the run)", "--no-packing"):
        assert text in refused.stderr
    for text in ("--weight-decay (0.0 in the run)", "--loss (per-token in the run)"):
        assert text in refused.stderr
    for as_it_was in ("--learning-rate (", "--betas ("):
        assert as_it_was not in refused.stderr
    changes = ("--steps", "40", "--device", "cpu", "--dry-run")
    longer = run_here("finetune", "--resume", "commits", *changes, **told)
    assert longer.returncode == 0, longer.stderr
    assert "Extended from 32 to 40 steps, of which 32 are made" in longer.stderr
    assert "Continues with --device cpu, auto before." in longer.stderr
    assert "40 steps (" in longer.stderr
    assert hashes(trained_home) == before


def test_without_a_backend_it_says_what_to_install_and_how_big_it_is(data: Path) -> None:
    blocked = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('mlx', 'mlx_lm', 'torch')))  # as if not installed\n"
        "from openchat_local.app.cli.main import main\n"
        "sys.argv = ['openchat-local', 'finetune', *sys.argv[1:]]\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked, str(data)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "openchat-local[mlx]" in done.stderr
    assert "MB" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_or_a_run_that_is_not_there(
    finetune: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    missing = finetune("nowhere.jsonl")
    assert missing.returncode == 1
    assert "nowhere.jsonl" in missing.stderr
    assert "Traceback" not in missing.stderr
    unknown = finetune("--resume", "nothing")
    assert unknown.returncode == 1
    assert "no run in" in unknown.stderr
    assert finetune("train").returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX's")
def test_a_full_disk_is_one_sentence(model: Path, home: Path, data: Path) -> None:
    limited = (
        "import os, resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write then fails, as on a full disk\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "os.execv(sys.executable, sys.argv[1:])\n"
    )
    command = [*PROGRAM, "finetune", str(data), "-m", str(model), *SHORT]
    done = subprocess.run(
        [sys.executable, "-c", limited, *command],
        env=os.environ | {"OPENCHAT_LOCAL_HOME": str(home)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "could not be written" in done.stderr
    assert "make room" in done.stderr
    assert not (home / "adapters" / "my-data").exists()
