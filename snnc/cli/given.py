"""Which options the user gave, as opposed to those that have their defaults."""

from __future__ import annotations

import click
from click.core import ParameterSource


def given(option: str) -> bool:
    """Say whether an option of the running verb, such as ``--threads``, was given, there or in a file."""
    ctx = click.get_current_context()
    names = [param.name for param in ctx.command.params if option in param.opts]
    return any(ctx.get_parameter_source(name) is not ParameterSource.DEFAULT for name in names if name)


def refuse(why: str, *options: str) -> None:
    """Refuse options that would have no effect.

    Args:
        why: what follows the option in the message.
        options: such as ``--threads``.

    Raises:
        UsageError: one of them was given.
    """
    from snnc.errors import UsageError

    for option in options:
        if given(option):
            raise UsageError(f"{option} {why}")
