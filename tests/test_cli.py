"""The command line as a whole: help, options of all verbs, errors and their exit codes, pipes and signals."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import click
import pytest

from snnc import errors
from snnc.cli import INTERRUPTED, VERBS, cli, explain, main
from snnc.cli.terminal import Terminal
from snnc.diagnostics import FEW_ROWS, UNSUPPORTED_OPERATOR, Diagnostic

HEAVY = ("numpy", "onnx", "onnxruntime", "numba", "rich", "matplotlib")


PROGRAM = [sys.executable, "-c", "import sys; from snnc.cli import main; sys.exit(main())"]


def snnc_into(stdout: int | IO[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [*PROGRAM, *arguments]
    return subprocess.run(command, text=True, timeout=120, check=False, stdout=stdout, stderr=subprocess.PIPE)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom snnc.cli import main\n"
        f"assert main({arguments!r}) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_narrow_terminals(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main([verb, "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


@pytest.mark.parametrize("verb", ["train", "tune", "adapt"])
def test_help_leaves_most_of_a_narrow_terminal_to_its_texts(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main([verb, "--help"]) == 0
    options = capsys.readouterr().out.partition("Options:")[2].splitlines()
    texts = [line for line in options if line.startswith(" " * 10)]
    assert texts
    assert max(len(line) - len(line.lstrip()) for line in texts) <= 24


@pytest.mark.parametrize("verb", ["train", "tune"])
def test_help_names_no_option_of_another_verb(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    own = {name for param in command.params for name in param.opts}
    texts = " ".join(param.help or "" for param in command.params if isinstance(param, click.Option))
    named = set(re.findall(r"--[a-z][a-z-]+", re.sub(r"`[^`]*`", "", texts)))
    assert named
    assert named <= own


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for verb, summary in VERBS.items():
        assert verb in out
        assert summary in out


def test_every_verb_has_its_name_and_the_global_options() -> None:
    context = click.Context(cli)
    for verb in VERBS:
        command = cli.get_command(context, verb)
        assert command is not None
        assert command.name == verb
        assert {"verbose", "quiet", "json", "log_file", "no_progress"} <= {p.name for p in command.params}


@pytest.mark.parametrize("text", ["nan", "inf"])
def test_no_option_takes_what_is_no_finite_number(text: Any) -> None:
    context = click.Context(cli)
    asked, taken = 0, []
    for verb in VERBS:
        command = cli.get_command(context, verb)
        assert command is not None
        for param in command.params:
            kind: Any = param.type
            if isinstance(kind, click.types.FloatParamType):
                asked += 1
                with contextlib.suppress(click.BadParameter):
                    kind.convert(text, param, context)
                    taken.append(f"{verb} --{param.name}")
    assert asked > 10
    assert not taken


def test_without_a_verb_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage: snnc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "No such command 'frobnicate' (see snnc --help)"),
        (["zoo", "--frob"], "No such option '--frob'"),
        (["zoo", "surplus"], "see snnc zoo --help"),
        (["check"], "Missing argument 'MODEL'"),
        (["ops", "--format", "xml"], "'xml' is not one of"),
        (["convert", "m.onnx", "--max-drop", "nan"], "must be a finite number, not nan"),
        (["convert", "m.onnx", "--max-synops", "nan"], "must be a finite number, not nan"),
        (["compare", "a", "b", "--max-drop", "inf"], "'inf' is not a finite number"),
        (["bench", "n.snn.onnx", "--max-ratio", "nan"], "'nan' is not a finite number"),
        (["bisect", "n.snn.onnx", "--tolerance", "nan"], "'nan' is not a finite number"),
    ],
)
def test_usage_is_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert says in captured.err
    assert captured.err.count("\n") == 1


def deliberate() -> list[errors.SnncError]:
    return [
        errors.SnncError("root"),
        errors.UsageError("usage"),
        errors.UnsupportedModelError("unsupported", (Diagnostic(UNSUPPORTED_OPERATOR, "tanh", "n"),)),
        errors.GateError("gate"),
        errors.InputError("input"),
        errors.ArtefactError("artefact"),
        errors.NonFiniteError("nan"),
        errors.TargetError("target"),
    ]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `snnc explain` fail."""

    def raise_it(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(explain.command, "callback", raise_it)


@pytest.mark.parametrize("error", deliberate(), ids=lambda error: type(error).__name__)
def test_deliberate_errors(
    error: errors.SnncError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, error)
    assert main(["explain"]) == error.exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {error}\n"


@pytest.mark.parametrize("error", deliberate(), ids=lambda error: type(error).__name__)
def test_errors_as_json(
    error: errors.SnncError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, error)
    assert main(["explain", "--json"]) == error.exit_code
    found = json.loads(capsys.readouterr().out)["error"]
    assert found["message"] == str(error)
    assert found["exit_code"] == error.exit_code
    assert len(found["diagnostics"]) == len(getattr(error, "diagnostics", ()))


@pytest.mark.parametrize(
    ("error", "exit_code", "says"),
    [
        (KeyError("lost"), 1, "internal error: KeyError: 'lost'; run it again with -v"),
        (ValueError("two\nlines"), 1, "ValueError: two; run it again"),
        (errors.InternalError("a bug"), 1, "internal error: a bug; please report it"),
        (MemoryError(), 1, "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/y"), 5, "the disk is full: /y"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 5, "Permission denied: /x"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was written"),
    ],
)
def test_unexpected_errors_are_one_line(
    error: BaseException,
    exit_code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(monkeypatch, error)
    assert main(["explain"]) == exit_code
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert says in captured.err
    assert captured.err.count("\n") == 1


def test_a_traceback_only_for_those_who_ask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, KeyError("lost"))
    assert main(["explain", "-v"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "raise_it" in err
    assert err.splitlines()[-1] == "error: internal error: KeyError: 'lost'"


@pytest.mark.parametrize("place", ["before", "after"])
def test_global_options_stand_before_or_after_the_verb(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--json", "explain", "SNN101"] if place == "before" else ["explain", "SNN101", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["code"] == "SNN101"


@pytest.fixture
def warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `snnc explain` warn, note and tell a detail."""

    @click.pass_obj
    def say(terminal: Terminal, code: str | None, form: str) -> None:
        terminal.warn(Diagnostic(FEW_ROWS, "only 3 rows", help="give more"))
        terminal.note("a note")
        terminal.detail("a detail")
        terminal.text("the result")

    monkeypatch.setattr(explain.command, "callback", say)


@pytest.mark.usefixtures("warning")
@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ([], ["warning SNN201: only 3 rows (give more)", "a note"]),
        (["-v"], ["warning SNN201: only 3 rows (give more)", "a note", "a detail"]),
        (["-q"], []),
        (["-v", "-q"], ["warning SNN201: only 3 rows (give more)", "a note"]),
    ],
)
def test_verbosity(arguments: list[str], lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.out == "the result\n"
    assert captured.err.splitlines() == lines


@pytest.mark.usefixtures("warning")
def test_the_log_file_holds_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "snnc.log"
    assert main(["--log-file", str(log), "-q", "explain"]) == 0
    assert main(["--log-file", str(log), "-q", "explain"]) == 0
    levels = [line.split()[2] for line in log.read_text(encoding="utf-8").splitlines()]
    assert levels == ["WARNING", "INFO", "DEBUG"] * 2
    assert capsys.readouterr().err == ""


def test_a_log_file_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log-file", str(tmp_path / "no" / "where.log"), "explain"]) == 5
    assert "the log file" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="pipes close differently there")
def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = snnc_into(writer, "ops", "--json")
    finally:
        os.close(writer)
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_disk_behind_stdout(more: list[str]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = snnc_into(full, "zoo", *more)
    assert done.returncode == 5
    assert done.stderr.startswith("error: the disk is full")
    assert done.stderr.count("\n") == 1


def test_the_package_is_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "snnc", "explain", "SNN101"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("SNN101")


@pytest.mark.skipif(os.name == "nt", reason="signals are sent differently there")
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_one_line_and_no_file(tmp_path: Path) -> None:
    output = tmp_path / "network.snn.onnx"
    arguments = ["convert", "zoo:fashion-resnet", "-T", "8", "--preset", "balanced", "-o", str(output), "-v"]
    arguments += ["--threads", "1"]
    with subprocess.Popen(
        [*PROGRAM, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "fold-batchnorm" in process.stderr.readline()  # the passes are at work
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "error: interrupted; nothing was written"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_the_page_knows_every_exit_code() -> None:
    page = (Path(__file__).parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")
    codes = {error.exit_code for error in deliberate()} | {0, INTERRUPTED}
    for code in codes:
        assert f"\n| {code} | " in page
