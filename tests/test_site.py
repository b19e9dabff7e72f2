"""The site: it builds strictly, and every link leads somewhere; its checker finds those that do not."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.site import diagram
from benchmarks.site.links import broken

ROOT = Path(__file__).parent.parent
GOOD = (
    '<a href="b.html#here">b</a><img src="data:,"><a href="https://example.org/">away</a><a href="in/">in</a>'
)


def site(folder: Path, page: str) -> Path:
    (folder / "in").mkdir()
    (folder / "a.html").write_text(page, encoding="utf-8")
    (folder / "b.html").write_text('<p id="here"><a href="a.html">a</a>', encoding="utf-8")
    (folder / "in" / "index.html").write_text('<a href="../b.html">b</a>', encoding="utf-8")
    return folder


def test_good_links_are_good(tmp_path: Path) -> None:
    assert broken(site(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ('<a href="c.html">', "a.html: a c.html: is not there"),
        ('<a href="b.html#there">', "a.html: a b.html#there: has no such anchor"),
        ('<a href="#there">', "a.html: a #there: has no such anchor"),
        ('<img src="pictures/p.png">', "a.html: img pictures/p.png: is not there"),
        ('<a href="../outside.html">', "a.html: a ../outside.html: lies outside the site"),
        ('<script src="https://example.org/x.js"></script>', "is loaded from elsewhere"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "is loaded from elsewhere"),
    ],
)
def test_a_bad_link_is_found(page: str, problem: str, tmp_path: Path) -> None:
    (found,) = broken(site(tmp_path, page))
    assert found.endswith(problem)


def test_an_empty_site_is_no_good_one(tmp_path: Path) -> None:
    assert broken(tmp_path) == [f"{tmp_path} holds no page"]


def test_every_page_has_its_place() -> None:
    """A page that the navigation does not list is not found by readers."""
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert listed - pages == {"contributing.md", "changelog.md"}  # which the hook adds from the root
    assert pages - listed == set()


@pytest.mark.parametrize("name", diagram.PICTURES)
def test_diagrams_are_those_that_the_program_draws(name: str) -> None:
    drawn = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn == diagram.PICTURES[name].svg(), "run python -m benchmarks.site.diagram"
    for room in re.findall(r">(\w+)/", drawn):
        assert (ROOT / "snnc" / room).is_dir(), room
    assert not any("```mermaid" in page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))


def test_the_keyboard_reaches_what_scrolls() -> None:
    hooks = pytest.importorskip("benchmarks.site.hooks", reason="mkdocs is the extra `docs`")
    page = "<table><td>a</td></table><pre><span></span><code>a</code></pre>"
    assert hooks.on_post_page(page).count('tabindex="0"') == 2


def test_the_site_builds_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is the extra `docs`; `make docs` installs it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert broken(tmp_path / "site") == []
    assert (tmp_path / "site" / "search" / "search_index.json").stat().st_size > 100_000
