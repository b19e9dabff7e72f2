"""Output for the user: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnc.errors import InputError

if TYPE_CHECKING:
    from snnc.diagnostics import Diagnostic
    from snnc.progress import Progress

WIDE = 200
"""Columns of a table that no terminal shows: nothing is cut in a pipe."""


class Terminal:
    """Where a verb writes to.

    Attributes:
        verbosity: above 0 tells details, below 0 only errors.
        json: whether the result is one JSON object, alone on stdout.
        bars: whether progress bars are wanted.
        journal: where a search keeps what it has measured, for when it is interrupted.
    """

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.verbosity = 0
        self.json = False
        self.bars = True
        self.journal: Path | None = None
        self._log = logging.getLogger("snnc")
        self._log.setLevel(logging.DEBUG)
        self._log.propagate = False
        self._stderr = _Stderr()
        self._log.addHandler(self._stderr)
        self._files: list[logging.FileHandler] = []
        self._result: dict[str, Any] | None = None

    def close(self) -> None:
        """Let go of the log file."""
        for handler in (self._stderr, *self._files):
            self._log.removeHandler(handler)
            handler.close()
        self._files.clear()

    @property
    def seconds(self) -> float:
        """Wall time since the command began, imports and compilation of kernels included."""
        return time.perf_counter() - self._started

    def log_to(self, path: Path) -> None:
        """Write all messages, whatever the verbosity, to the end of a file as well.

        Raises:
            InputError: it cannot be written.
        """
        try:
            handler = logging.FileHandler(path, encoding="utf-8")
        except OSError as error:
            raise InputError(f"the log file {path} cannot be written: {error.strerror}") from None
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._log.addHandler(handler)
        self._files.append(handler)

    def note(self, text: str) -> None:
        """Say something that is not the result."""
        self._say(logging.INFO, text)

    def detail(self, text: str) -> None:
        """Say something that only ``-v`` shows."""
        self._say(logging.DEBUG, text)

    def warn(self, found: Diagnostic | str) -> None:
        """Warn of something that does not stop the work."""
        self._say(logging.WARNING, f"warning: {found}" if isinstance(found, str) else str(found))

    def fail(self, message: str, exit_code: int, diagnostics: Sequence[Diagnostic] = ()) -> int:
        """Say in one line why the work stops, and return the exit code."""
        if self.json:
            found = {"message": message, "exit_code": exit_code}
            rows = [item.as_dict() for item in diagnostics]
            self.data({**(self._result or {}), "error": {**found, "diagnostics": rows}})
        with contextlib.suppress(OSError):  # whose disk may be full, or whose pipe closed
            self._say(logging.ERROR, f"error: {message}")
            self.finish()
        return exit_code

    def _say(self, level: int, text: str) -> None:
        least = {-1: logging.ERROR, 0: logging.INFO}.get(max(self.verbosity, -1), logging.DEBUG)
        self._stderr.setLevel(least)
        self._log.log(level, "%s", text)

    def data(self, value: dict[str, Any]) -> None:
        """Take the result, to be written as JSON when the verb ends: an error may have to join it."""
        self._result = value

    def finish(self) -> None:
        """Write the JSON that the verb gave, if it gave any, and once only."""
        value, self._result = self._result, None
        if value is not None:
            click.echo(json.dumps(value, indent=2, allow_nan=False))

    def text(self, value: str) -> None:
        """Write the result as sentences: on a terminal, lines that are too long are broken between words."""
        self.listing(_fitted(value) if sys.stdout.isatty() else value)

    def listing(self, value: str) -> None:
        """Write the result as text whose lines must stay as they are."""
        click.echo(value)

    def done(self, value: str) -> None:
        """Say what was written, or done, where that is not itself the result: ``-q`` leaves it out."""
        if self.verbosity >= 0:
            self.text(value)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table, without a head where no column has a name. Numbers are set to the right."""
        from rich.console import Console

        from snnc.cli.tables import layout

        console = Console(file=sys.stdout)
        self.listing("\n".join(layout(columns, rows, console.width if console.is_terminal else WIDE)))

    def progress(self) -> Progress:
        """Return what long work shows its progress on: bars on a terminal, else only ``-v`` messages."""
        if self.bars and not self.json_to_terminal and sys.stderr.isatty() and self.verbosity >= 0:
            from snnc.cli.bars import Bars

            return Bars(self.detail)
        return _Messages(self.detail)

    @property
    def json_to_terminal(self) -> bool:
        """Whether bars would mix with JSON on the same screen."""
        return self.json and sys.stdout.isatty()


def _fitted(text: str) -> str:
    """Break the lines of a text that are wider than the terminal, with the indent of their beginning."""
    width = shutil.get_terminal_size().columns
    lines: list[str] = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        broken = textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        lines += broken if len(line) > width else [line]
    return "\n".join(lines)


class _Stderr(logging.Handler):
    """Writes to the ``sys.stderr`` of the moment: a progress bar replaces it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


class _Messages:
    """Progress without bars."""

    def __init__(self, say: Any) -> None:
        self._say = say

    def track(self, items: Any, total: int, description: str) -> Iterator[Any]:
        return iter(items)

    def message(self, text: str) -> None:
        self._say(text)


def _terminal(ctx: click.Context) -> Terminal:
    found = ctx.find_root().obj
    return found if isinstance(found, Terminal) else ctx.find_root().ensure_object(Terminal)


def _louder(ctx: click.Context, param: click.Parameter, value: int) -> None:
    _terminal(ctx).verbosity += value


def _quieter(ctx: click.Context, param: click.Parameter, value: int) -> None:
    _terminal(ctx).verbosity -= value


def _json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    _terminal(ctx).json |= value


def _no_progress(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    _terminal(ctx).bars &= not value


def _log_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        _terminal(ctx).log_to(value)


def global_options() -> list[click.Parameter]:
    """Return the options that every verb has, before or after its name."""
    return [
        click.Option(
            ["-v", "--verbose"], count=True, expose_value=False, callback=_louder, help="Print more messages."
        ),
        click.Option(
            ["-q", "--quiet"], count=True, expose_value=False, callback=_quieter, help="Print only errors."
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_json,
            help="Write only the result to stdout, as JSON.",
        ),
        click.Option(
            ["--log-file"],
            type=click.Path(dir_okay=False, path_type=Path),
            expose_value=False,
            callback=_log_file,
            metavar="FILE",
            help="Append all messages to FILE.",
        ),
        click.Option(
            ["--no-progress"],
            is_flag=True,
            expose_value=False,
            callback=_no_progress,
            help="Show no progress bars.",
        ),
    ]


def _counts_once(param: click.Parameter) -> bool:
    """Whether a second value of a parameter would replace the first."""
    return isinstance(param, click.Option) and not (param.multiple or param.is_flag or param.count)


class InterruptedVerbError(Exception):
    """Ctrl-C was pressed while a verb was at work."""


class _Columns(click.HelpFormatter):
    """Help that leaves two thirds of a narrow terminal to the texts."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write names beside their texts; a long name stands in a line of its own."""
        super().write_dl(rows, min(col_max, self.width // 3), col_spacing)


class _Context(click.Context):
    formatter_class = _Columns


class Verb(click.Command):
    """A verb: a command that has the global options too."""

    context_class = _Context

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Add the global options after the verb's own."""
        super().__init__(*args, **kwargs)
        self.params.extend(global_options())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, and refuse an option that is given twice, of which click would take the last.

        Raises:
            UsageError: one is.
        """
        given = [param for param in self.make_parser(ctx).parse_args(list(args))[2] if _counts_once(param)]
        for number, param in enumerate(given):
            if param in given[:number]:
                raise click.UsageError(
                    f"{max(param.opts, key=len)} is given twice: leave one of them out", ctx
                )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb.

        Raises:
            InterruptedVerbError: for ``KeyboardInterrupt``, which click would answer with a line of its own.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise InterruptedVerbError from error
