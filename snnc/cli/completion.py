"""``snnc completion``: verbs and options completed by the shell, by click's own scripts."""

from __future__ import annotations

import os
from pathlib import Path

import click

from snnc.cli.terminal import Terminal, Verb

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_SNNC_COMPLETE"
"""By which the script asks snnc what fits."""


@click.command("completion", cls=Verb)
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--install", is_flag=True, help="Write the script where bash or fish look for it.")
@click.option("--force", is_flag=True, help="With --install: replace an earlier script.")
@click.pass_context
def command(ctx: click.Context, /, shell: str | None, install: bool, force: bool) -> None:
    """Print the script by which SHELL completes verbs and options; your shell's by default.

    Try it in bash or zsh by eval "$(snnc completion)", in fish by snnc completion | source; with --install
    new shells have it. For zsh, put the eval line into ~/.zshrc.
    """
    from click.shell_completion import get_completion_class

    from snnc.cli.files import check_outputs
    from snnc.cli.given import refuse
    from snnc.errors import InternalError, UsageError
    from snnc.writing import replacing

    terminal: Terminal = ctx.obj
    name = shell or _own_shell()
    kind = get_completion_class(name)
    if kind is None:
        raise InternalError(f"click has no completion for {name}")
    script = kind(ctx.find_root().command, {}, "snnc", VARIABLE).source()
    if not install:
        refuse("needs --install", "--force")
        if terminal.json:
            terminal.data({"shell": name, "script": script})
        else:
            click.echo(script)
        return
    path = _place(name)
    if path is None:
        raise UsageError(
            'zsh has no folder of your own for scripts: put eval "$(snnc completion zsh)" into ~/.zshrc'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    check_outputs(path, force=force)
    with replacing(path) as file:
        file.write(script.encode())
    if terminal.json:
        terminal.data({"shell": name, "output": str(path)})
    else:
        terminal.done(f"wrote {path}: new shells complete snnc")


def _own_shell() -> str:
    """Return the user's shell.

    Raises:
        UsageError: it is none for which there is a script.
    """
    from snnc.errors import UsageError

    name = Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise UsageError(f"the shell {name!r} has no completion here: name one of {', '.join(SHELLS)}")
    return name


def _place(shell: str) -> Path | None:
    """Return where a shell looks for a script of this user; ``None`` where there is no such place."""
    home = Path.home()
    if shell == "bash":
        data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
        return data / "bash-completion" / "completions" / "snnc"
    if shell == "fish":
        return (
            Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish" / "completions" / "snnc.fish"
        )
    return None
