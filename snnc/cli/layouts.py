"""The layout of rows on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from snnc.data.preprocessing import Preprocessing

LAYOUTS = ("NCHW", "NHWC", "NCL", "NLC")

rows_layout = click.option(
    "--rows-layout",
    type=click.Choice(LAYOUTS),
    metavar="LAYOUT",
    help="Of the rows, where their shape alone does not tell: NCHW or NHWC, or NCL or NLC of signals.",
)
"""The option of every verb that reads rows."""


def with_layout(preprocessing: Preprocessing | None, rows_layout: str | None) -> Preprocessing | None:
    """Return a preprocessing that knows the layout of rows; ``None`` leaves it as it is."""
    from snnc.data.preprocessing import Preprocessing

    if rows_layout is None:
        return preprocessing
    values = {**(preprocessing or Preprocessing()).as_dict(), "rows_layout": rows_layout}
    return Preprocessing.from_dict(values)
