"""The layout of rows on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnc.cli.options import option_of

if TYPE_CHECKING:
    from snnc.data.preprocessing import Preprocessing

rows_layout = option_of("rows_layout")
"""The option of every verb that reads rows."""


def with_layout(preprocessing: Preprocessing | None, rows_layout: str | None) -> Preprocessing | None:
    """Return a preprocessing that knows the layout of rows; ``None`` leaves it as it is."""
    from snnc.data.preprocessing import Preprocessing

    if rows_layout is None:
        return preprocessing
    values = {**(preprocessing or Preprocessing()).as_dict(), "rows_layout": rows_layout}
    return Preprocessing.from_dict(values)
