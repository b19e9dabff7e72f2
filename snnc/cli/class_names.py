"""Names of the classes on the command line."""

from __future__ import annotations

from pathlib import Path

import click

classes_option = click.option(
    "--classes", metavar="A,B,...|FILE", help="Names of the classes, or a file with one on each line."
)
"""The option of every verb that names classes."""


def class_names(classes: str | None) -> tuple[str, ...]:
    """Read the names of classes: a file with one on each line, or a list with commas.

    Raises:
        InputError: it is neither, or a name is empty.
    """
    from snnc.errors import InputError

    if classes is None:
        return ()
    path = Path(classes)
    if "," in classes or not path.is_file():
        names = tuple(name.strip() for name in classes.split(","))
        if len(names) == 1:
            raise InputError(f"{classes} is no file: give one, or names with commas")
    else:
        try:
            names = tuple(
                line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
            )
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read as a list of names: {error}") from None
    if not all(names):
        raise InputError(f"{classes!r} holds an empty name: give one for each class")
    return names
