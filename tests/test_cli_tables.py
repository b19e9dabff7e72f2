"""Tables at any width of the screen: whole words, and no line that is too long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.artefact import Artefact, save
from snnc.cli import main
from snnc.cli.config import read_config
from snnc.cli.tables import layout
from snnc.data.preprocessing import Preprocessing
from snnc.errors import InputError
from tests.spiking_graphs import random_graph

WIDTHS = (60, 80, 120)
WORDS = st.text("abcdefghijklmnop-.:_/", min_size=1, max_size=18).filter(lambda word: word.strip("-.:_/"))
CELLS = st.lists(WORDS, max_size=9).map(" ".join) | st.integers(0, 10**6).map(str) | st.just("16.6 M")


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    columns = draw(st.integers(1, 7))
    rows = draw(st.lists(st.lists(CELLS, min_size=columns, max_size=columns), min_size=1, max_size=4))
    named = draw(st.booleans())
    return [f"column {index}" if named else "" for index in range(columns)], rows


@given(table=tables(), width=st.integers(40, 200))
def test_words_stay_whole_and_lines_fit(table: tuple[list[str], list[list[str]]], width: int) -> None:
    columns, rows = table
    lines = layout(columns, rows, width)
    assert max(map(len, lines)) <= width
    written = " ".join(lines).split()
    for cell in (cell for row in rows for cell in row):
        for word in cell.split():
            assert word in written


@given(
    names=st.lists(WORDS, min_size=2, max_size=9),
    numbers=st.lists(st.integers(0, 10**6), min_size=2, max_size=9),
    width=st.integers(50, 120),
)
def test_columns_of_numbers_go_to_several_tables(names: list[str], numbers: list[int], width: int) -> None:
    columns = ["layer", *names]
    rows = [[f"layer{i}", *(str(numbers[i % len(numbers)]) for _ in names)] for i in range(4)]
    lines = layout(columns, rows, width)
    assert max(map(len, lines)) <= width
    heads = [line.split() for line in lines if "layer " in f"{line} "]
    assert [name for head in heads for name in head[1:]] == names
    assert all(len(line.split()) > 1 for line in lines if line.startswith(" layer"))


def test_numbers_keep_their_unit() -> None:
    lines = layout(("name", "operations", "what"), [("a", "16.6 M", "many words " * 20)], 40)
    assert any("16.6 M" in line for line in lines)


def test_a_word_longer_than_the_screen_is_broken() -> None:
    assert layout(("name", "what"), [("a" * 70, "b" * 90)], 60)[0] == "a" * 60


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("verb", ["zoo", "targets", "ops"])
def test_verbs_on_narrow_screens(
    verb: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb]) == 0
    whole = set(capsys.readouterr().out.split())
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([verb]) == 0
    found = capsys.readouterr().out
    assert max(map(len, found.splitlines())) <= width
    heads = {word for word in whole if set(word) == {"─"}} | {"name", "target", "operator"}
    assert whole - heads <= set(found.split()), "every word is there as it is in a pipe"


@pytest.mark.skipif(os.name != "posix", reason="there are no pseudo-terminals")
@pytest.mark.parametrize("arguments", [["zoo"], ["check", "zoo:fashion-resnet", "--target", "akida"]])
def test_on_a_real_terminal(arguments: list[str]) -> None:
    import fcntl
    import pty
    import struct
    import termios

    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    program = f"import sys; from snnc.cli import main; sys.exit(main({arguments!r}))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False).stdout
    subprocess.run(
        [sys.executable, "-c", program],
        stdout=inner,
        stdin=inner,
        stderr=subprocess.DEVNULL,
        env={**environment, "TERM": "xterm"},
        check=False,
        timeout=60,
    )
    os.close(inner)
    text = os.read(outer, 65536).decode()
    os.close(outer)
    lines = text.replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 60
    assert len(told.split()) > 10
    assert {word for word in told.split() if set(word) != {"─"}} - {"name"} <= set(text.split())


@pytest.mark.skipif(os.name != "posix", reason="a shell closes the streams")
def test_closed_streams(tmp_path: Path) -> None:
    program = f"{sys.executable} -c 'import sys; from snnc.cli import main; sys.exit(main())'"
    for verb in ("zoo", "eval zoo:fashion-resnet --limit 5", f"convert zoo:fashion-resnet -o {tmp_path}/n"):
        done = subprocess.run(
            ["/bin/sh", "-c", f"{program} {verb} >&-"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "error: standard output is closed: send it to a file, or to /dev/null\n"
    assert not any(tmp_path.iterdir())
    done = subprocess.run(
        ["/bin/sh", "-c", f"{program} zoo 2>&-"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0
    assert "zoo:fashion-resnet" in done.stdout
    done = subprocess.run(
        ["/bin/sh", "-c", f"{program} eval zoo:no-such 2>&-"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert done.stdout == ""


def test_no_help_shows_a_range_without_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--help"]) == 0
    found = capsys.readouterr().out
    assert "None" not in found
    assert "[x>=0]" in found


def test_quiet_tells_only_what_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was written is no result, but a table is one."""
    network, bundle, outputs = tmp_path / "n.snn.onnx", tmp_path / "bundle", tmp_path / "y.npy"
    save(Artefact(random_graph(4)), network)
    rows = tmp_path / "x.npy"
    np.save(rows, np.zeros((3, *random_graph(4).encoder.shape), np.float32))
    for arguments in (
        ["deploy", network, "--target", "c99", "-o", bundle],
        ["run", network, "--input", rows, "-o", outputs],
    ):
        assert main([*map(str, arguments), "-q"]) == 0
        assert capsys.readouterr() == ("", "")
    assert bundle.is_dir()
    assert outputs.is_file()
    assert main(["zoo", "-q"]) == 0
    assert "zoo:fashion-resnet" in capsys.readouterr().out


def test_json_and_toml_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As some editors of Windows write them."""
    preprocessing, config = tmp_path / "p.json", tmp_path / "c.toml"
    preprocessing.write_text('\ufeff{"divide": 255}', encoding="utf-8")
    config.write_text("\ufefftimesteps = 3\n", encoding="utf-8")
    assert Preprocessing.read(preprocessing) == Preprocessing(divide=255)
    assert read_config(config) == {"timesteps": 3}


def test_a_preprocessing_that_gives_a_value_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"divide": 255, "divide": 1}', encoding="utf-8")
    with pytest.raises(InputError, match=r"p\.json: `divide` is given twice"):
        Preprocessing.read(path)
