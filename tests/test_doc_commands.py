"""Every `snnc` command in a block of the documentation has the verbs and options that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from snnc.cli import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(?:bash|sh|console)\b[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
ENDS = {"|", "&&", "||", ";", ">", ">>", "<", "2>", "&"}


def commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every `snnc` of a page's blocks."""
    for _, block in BLOCK.findall(text):
        for line in block.replace("\\\n", "").splitlines():
            try:
                words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            except ValueError:
                continue  # a quotation of a script, over several lines
            for start, word in enumerate(words):
                if word == "snnc" and (start == 0 or words[start - 1] in ENDS):
                    rest = words[start + 1 :]
                    end = next((i for i, each in enumerate(rest) if each in ENDS), len(rest))
                    yield rest[:end]


def parsed(arguments: list[str]) -> None:
    """Let the command line read arguments, without doing anything.

    Raises:
        UsageError: there is no such verb or option.
    """
    context = click.Context(cli, info_name="snnc")
    rest = cli.make_parser(context).parse_args(list(arguments))[1]
    if not rest:
        return
    command = cli.get_command(context, rest[0])
    if command is None:
        raise click.UsageError(f"no verb {rest[0]!r}")
    command.make_parser(click.Context(command, info_name=rest[0])).parse_args(rest[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_of_a_page_are_known(page: Path) -> None:
    for arguments in commands(page.read_text(encoding="utf-8")):
        try:
            parsed(arguments)
        except click.UsageError as error:
            pytest.fail(f"snnc {' '.join(arguments)}: {error.format_message()}")


def test_unknown_ones_are_found() -> None:
    text = "```bash\nsnnc convert net.onnx \\\n  --data x.npz  # rows\ncat a | snnc eval a -T 4 > b\n```\n"
    (first, second) = commands(text)
    assert second == ["eval", "a", "-T", "4"]
    with pytest.raises(click.UsageError, match="--data"):
        parsed(first)
    with pytest.raises(click.UsageError, match="conver"):
        parsed(["conver", "net.onnx"])
