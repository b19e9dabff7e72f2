"""Journals: what was measured is not measured again, and what was cut off is."""

from __future__ import annotations

from pathlib import Path

import pytest

from snnc.errors import InputError
from snnc.search.journal import Journal


def test_a_search_that_was_interrupted_measures_only_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "search.journal"
    first = Journal(path, "a search")
    assert first.value("one", lambda: [0.1, 1 / 3]) == [0.1, 1 / 3]
    with pytest.raises(KeyboardInterrupt):
        first.value("two", _interrupt)
    again = Journal(path, "a search")
    assert len(again) == 1
    assert again.value("one", _interrupt) == [0.1, 1 / 3]
    assert again.value("two", lambda: 2) == 2
    assert len(Journal(path, "a search")) == 2


def test_a_line_that_was_cut_off_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "search.journal"
    journal = Journal(path, "a search")
    journal.value("one", lambda: 1)
    journal.value("two", lambda: 2)
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole[:-cut])
        again = Journal(path, "a search")
        assert [again.value("one", lambda: 1), again.value("two", lambda: 2)] == [1, 2]
        assert path.read_bytes() == whole


def test_another_search_does_not_go_on_from_it(tmp_path: Path) -> None:
    path = tmp_path / "search.journal"
    Journal(path, "a search")
    with pytest.raises(InputError, match="another search"):
        Journal(path, "one with other rows")


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(b"\x00\xff\n\n1\n")
    with pytest.raises(InputError, match="not a journal, or damaged"):
        Journal(path, "a search")


@pytest.mark.parametrize("text", ['{"all": "my results"}', "notes", '{"format": 1}\n{}\n', "[1]"])
def test_another_file_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine"
    path.write_text(text)
    with pytest.raises(InputError, match="not a journal"):
        Journal(path, "a search")
    assert path.read_text() == text


def test_without_a_file_it_is_kept_in_memory() -> None:
    journal = Journal(None, "a search")
    assert journal.value("one", lambda: 1) == 1
    assert journal.value("one", _interrupt) == 1


def _interrupt() -> None:
    raise KeyboardInterrupt
