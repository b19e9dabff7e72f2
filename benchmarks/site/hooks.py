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
    """Name the search for screen readers, and let the keyboard reach what may scroll: code and tables."""
    search = 'data-md-component="search" role="dialog"'
    named = output.replace(search, f'{search} aria-label="Search"')
    reached = named.replace("<pre><span></span><code>", '<pre tabindex="0"><span></span><code>')
    return reached.replace("<table>", '<table tabindex="0">')
