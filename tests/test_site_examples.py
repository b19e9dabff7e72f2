"""Every block of the README, the tutorials and the how-tos runs, and prints what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.site.walks import (
    ROOT,
    WalkError,
    artefact_of_the_zoo,
    blocks,
    commands,
    main,
    pages,
    walk,
)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_says_what_is_true(page: Path, tmp_path: Path) -> None:
    done = walk(page, tmp_path)
    if done.skipped:
        pytest.skip(f"{done.ran} blocks ran; others need {', '.join(sorted(done.skipped))}")


def written(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    (folder / "empty").mkdir()
    return page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\n1 / 0\n```\n", "page.md:1: ZeroDivisionError"),
        ("\n```bash\nfalse\n```\n", "page.md:2: false exits with 1"),
        ("```bash\nsnnc explain SNN999\n```\n", "exits with 2"),
        ("```bash\nsnnc explain SNN101  # exits with 3\n```\n", "exits with 0"),
        ("```python\nprint('a 7')\n```\n```text\nb 7\n```\n", "page.md:4: 'b 7' was not printed"),
        ("```python\nprint('a', 'b', sep='\\n')\n```\n```text\nb\na\n```\n", "'a' was not printed"),
        ("```json\n{}\n```\n", "neither runs nor is a file"),
        ("```\nsnnc\n```\n", "neither runs nor is a file"),
        ('```json title="../a.json"\n{}\n```\n', "outside the folder"),
        ("```bash\nmake no-such-thing\n```\n", "the Makefile has no no-such-thing"),
        ("```bash\npip install -e '.[no-such]'\n```\n", "there is no extra no-such"),
    ],
)
def test_what_is_not_true_is_found(text: str, message: str, tmp_path: Path) -> None:
    page = written(tmp_path, text)
    with pytest.raises(WalkError) as found:
        walk(page, tmp_path / "empty")
    assert message in str(found.value)


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("convert zoo:a --preset fast -T 4 -o a.snn.onnx", "a.snn.onnx"),
        ("convert zoo:a --preset fast -T 4", None),
        ("convert own.onnx --preset fast -o a.snn.onnx", None),
        ("convert zoo:a --calib rows.npz -o a.snn.onnx", None),
        ("convert zoo:a -T 4 -o a.snn.onnx --force", None),
        ("eval zoo:a", None),
    ],
)
def test_conversions_that_pages_share_read_and_write_nothing_else(command: str, output: str | None) -> None:
    assert artefact_of_the_zoo(command.split()) == output


def test_what_is_true_passes(tmp_path: Path) -> None:
    text = (
        'Text\n\n```json title="in/a.json"\n{"a": 1}\n```\n\n```python\nfrom json import loads\n'
        "from pathlib import Path\n"
        'print("read", loads(Path("in/a.json").read_text())["a"])\nprint("end")\n```\n\n'
        "```text\nread 12.5\n...\nend\n```\n\n"
        "    ```bash\n    test -f in/a.json && \\\n      echo 1 > b.txt\n    ```\n\n"
        "<!-- needs: no-such-program -->\n\n```bash\nno-such-program\n```\n\n```text\nnever printed\n```\n"
    )
    page = written(tmp_path, text)
    done = walk(page, tmp_path / "empty")
    assert (tmp_path / "empty" / "b.txt").read_text(encoding="utf-8") == "1\n"
    assert done.skipped == {"no-such-program"}
    assert done.ran == 4
    assert [block.needs for block in blocks(page)][-2:] == [("no-such-program",), ()]


def test_commands_are_joined_by_backslashes() -> None:
    assert commands("a \\\n  b\n\nc # d\n") == ["a   b", "c # d"]


@pytest.mark.parametrize(
    ("needs", "code"), [("", 0), ("<!-- needs: bash -->\n\n", 0), ("<!-- needs: no-such-program -->\n\n", 1)]
)
def test_a_complete_walk_passes_over_nothing(
    needs: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = written(tmp_path, f"{needs}```bash\ntrue\n```\n")
    assert main([str(page)]) == 0
    assert main(["--complete", str(page)]) == code
    assert ("no-such-program" in capsys.readouterr().out) == bool(code)
