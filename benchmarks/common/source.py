"""The source network of a corpus entry, ready to be judged."""

from __future__ import annotations

from benchmarks.common.corpus_data import Network, Sets
from snnc.analysis.answers import Source
from snnc.data.preprocessing import prepared_rows
from snnc.ir.graph import NumberArray
from snnc.source.source_session import SourceSession


def source_of(network: Network, rows: Sets) -> Source:
    """Return the source network, ready to be judged on these rows."""
    session = SourceSession(network.path)

    def prepare(x: NumberArray) -> NumberArray:
        return prepared_rows(x, session.takes, rows.preprocessing)

    return Source(session, prepare)
