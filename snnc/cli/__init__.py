"""The command line. Nothing heavy is imported before a verb runs, so that ``snnc --help`` is immediate."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click

from snnc import __version__
from snnc.cli import interrupts
from snnc.cli.terminal import InterruptedVerbError, Terminal, global_options
from snnc.errors import InternalError, SnncError

VERBS = {
    "check": "List everything in a network that cannot be converted.",
    "new": "Write a configuration for a network.",
    "convert": "Convert a trained network into a spiking one.",
    "train": "Train a network that converts without loss, from images.",
    "tune": "Tune thresholds and weights of a spiking network by gradients.",
    "adapt": "Teach a converted network new classes, or take them back.",
    "eval": "Measure accuracy, spikes and operations on labelled rows.",
    "sweep": "Measure combinations of networks, presets, T and rows.",
    "run": "Run a spiking network on an array.",
    "deploy": "Write a bundle for another runtime or chip.",
    "verify": "Check a deployed bundle, and run it on its golden vectors.",
    "plot": "Draw spikes, potentials and answers.",
    "report": "Report where accuracy is lost, by layer and by cause.",
    "compare": "Compare two networks, or two reports, side by side.",
    "bisect": "Find the layer at which accuracy is lost.",
    "certify": "Find settings at which a network equals its quantised network.",
    "bench": "Measure the speed of a spiking network and its source.",
    "inspect": "Show the contents of a converted network.",
    "zoo": "List the bundled networks.",
    "ops": "List the supported ONNX operators.",
    "targets": "List the targets of deploy.",
    "explain": "Explain a diagnostic code such as SNN101.",
    "completion": "Print or install completion for a shell.",
    "doctor": "Show versions, processor and what is installed.",
}
"""Every verb and its summary. The verb NAME is ``command`` in ``snnc/cli/NAME.py``."""

MODULES = {"eval": "evaluate"}
"""Modules that are not called like their verb, because that would shadow a builtin."""

INTERRUPTED = 130


class Verbs(click.Group):
    """A group that imports a verb when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order in which a newcomer needs them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        module = import_module(f"snnc.cli.{MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries without importing the verbs."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=Verbs,
    params=global_options(),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="MODEL is a path or zoo:NAME. Exit codes: 0 done, 1 internal error, 2 usage, 3 unsupported "
    "network, 4 a limit was missed, 5 bad input, 6 does not fit the target, 7 workers failed, 130 "
    "interrupted.",
)
@click.version_option(__version__, prog_name="snnc")
def cli() -> None:
    """Compile a trained ONNX network into a spiking network, and say where accuracy was lost."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the one place where errors become messages and exit codes.

    Args:
        arguments: what follows the program's name; the process's own by default.

    Returns:
        The exit code.
    """
    if sys.stderr is None:  # closed: messages go nowhere, and no other file takes its place
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the whole process
    terminal = Terminal()
    try:
        with interrupts.not_lost():
            return _run(terminal, arguments)
    finally:
        terminal.close()
        _empty_stdout()


def _run(terminal: Terminal, arguments: Sequence[str] | None) -> int:
    if sys.stdout is None:
        # The next file that is opened would take its number, and whatever a library prints would get into it.
        return terminal.fail("standard output is closed: send it to a file, or to /dev/null", 2)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of nodes may hold anything
    try:
        code = cli.main(arguments, "snnc", standalone_mode=False, obj=terminal)
        terminal.finish()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except SnncError as error:
        if isinstance(error, InternalError):
            terminal.detail(traceback.format_exc())
            return terminal.fail(f"internal error: {error}; please report it", error.exit_code)
        return terminal.fail(str(error), error.exit_code, getattr(error, "diagnostics", ()))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return terminal.fail(_usage_message(error), error.exit_code)
    except (InterruptedVerbError, KeyboardInterrupt, click.Abort):
        kept = terminal.journal if terminal.journal is not None and terminal.journal.exists() else None
        what = f"the same command continues from {kept}" if kept is not None else "nothing was written"
        return terminal.fail(f"interrupted; {what}", INTERRUPTED)
    except BrokenPipeError:
        return 1
    except MemoryError:
        return terminal.fail("out of memory: use fewer rows or --threads 1", 1)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return terminal.fail(f"the disk is full{_at(error)}: free some space; nothing was written", 5)
        terminal.detail(traceback.format_exc())
        return terminal.fail(f"{error.strerror or error}{_at(error)}", 5)
    except Exception as error:  # noqa: BLE001 - the boundary: no traceback reaches a user who did not ask
        terminal.detail(traceback.format_exc())
        hint = "" if terminal.verbosity > 0 else "; run it again with -v to see where, and please report it"
        return terminal.fail(f"internal error: {type(error).__name__}: {_first_line(error)}{hint}", 1)


def _usage_message(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    return f"{message.rstrip('.')} (see {context.command_path} --help)" if context else message


def _at(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _empty_stdout() -> None:
    """Let the interpreter flush into nothing on its way out where the reader has gone or the disk is full."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
