"""What the site adds to `docs/`: pages that stand in the root of the repository, with links as from `docs/`.

mkdocs calls the functions by their names (https://www.mkdocs.org/dev-guide/plugins/#events).
"""

# mkdocs is an extra: absent where the checks run.
# pyright: reportMissingImports=false

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent
WIDE_COLUMNS, WIDE_CODE = 5, 50
"""Columns of a table, and characters of code in it, from which on it may be wider than a page."""
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root."""
    for name, page in PAGES.items():
        files.append(
            File.generated(config, page, content=from_docs((ROOT / name).read_text(encoding="utf-8")))
        )
    return files


def from_docs(text: str) -> str:
    """Return a page of the root with its links as a page of `docs/` has them."""
    return re.sub(r"\]\(docs/", "](", text)


def on_page_content(html: str, **_: object) -> str:
    """Leave out the roles of references in docstrings, which only Sphinx reads."""
    return re.sub(r":(?:func|class|meth|mod|data|attr):(<code>)~?", r"\1", html)


def on_post_page(output: str, **_: object) -> str:
    """Name the search for screen readers, and let the keyboard reach code that scrolls."""
    search = 'data-md-component="search" role="dialog"'
    named = output.replace(search, f'{search} aria-label="Search"')
    reached = named.replace("<pre><span></span><code>", '<pre tabindex="0"><span></span><code>')
    return re.sub(r"<table>.*?</table>", lambda match: wide_reached(match[0]), reached, flags=re.DOTALL)


def wide_reached(table: str) -> str:
    """Let the keyboard reach a table that may be wider than the page: of many columns, or with long code."""
    code = max(map(len, re.findall("<code>(.*?)</code>", table, re.DOTALL)), default=0)
    wide = len(re.findall(r"<th\b", table)) > WIDE_COLUMNS or code > WIDE_CODE
    return table.replace("<table>", '<table tabindex="0">', 1) if wide else table
