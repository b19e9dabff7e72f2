"""Sources of networks, as verbs open them: see :mod:`snnc.sources`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnc.sources import Located as Located
from snnc.sources import locate as locate
from snnc.sources import locate_source as locate_source
from snnc.sources import open_session as open_session
from snnc.sources import zoo_entry as zoo_entry

if TYPE_CHECKING:
    from snnc.analysis.answers import Source
    from snnc.cli.terminal import Terminal
    from snnc.data.preprocessing import Preprocessing
    from snnc.source.selection import Selection


def open_source(
    terminal: Terminal,
    located: Located,
    preprocessing: Preprocessing | None,
    threads: int | None,
    selection: Selection | None = None,
    *,
    accumulated: bool = False,
) -> Source:
    """Return the network to compare with; see :func:`snnc.sources.open_source`."""
    from snnc.sources import open_source as opened

    return opened(terminal.detail, located, preprocessing, threads, selection, accumulated=accumulated)
