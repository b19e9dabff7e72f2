"""Check every link of the built site without network: pages, anchors, pictures, scripts and styles.

    python -m benchmarks.site.links build/site

Nothing that a page loads by itself may come from elsewhere; links that a reader follows may, and are not
tried.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}
LINKS = LOADED | {"a": "href"}
NAMES_ONLY = {"canonical", "edit", "next", "prev"}
"""Relations of `link` that load nothing."""


@dataclass
class Page(HTMLParser):
    """What a page links to and what can be linked to in it.

    Attributes:
        links: tag and address of each link.
        anchors: its ids and names.
    """

    links: list[tuple[str, str]] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Begin to parse."""
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note links and anchors of a tag."""
        found = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := found.get(key))}
        address = found.get(LINKS.get(tag, ""))
        if address is not None and (tag != "link" or found.get("rel") not in NAMES_ONLY):
            self.links.append((tag, address))


def read(path: Path) -> Page:
    """Parse a page."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def broken(site: Path) -> list[str]:
    """Return what is wrong with the links of a site, a line each; empty if nothing is."""
    found = {path.resolve(): read(path) for path in sorted(site.rglob("*.html"))}
    if not found:
        return [f"{site} holds no page"]
    return [
        f"{path.relative_to(site.resolve())}: {tag} {address}: {problem}"
        for path, page in found.items()
        if path.name != "404.html"  # whose links begin at the root of a server
        for tag, address in page.links
        for problem in _problems(site.resolve(), path, tag, address, found)
    ]


def _problems(site: Path, path: Path, tag: str, address: str, found: dict[Path, Page]) -> Iterator[str]:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        if tag in LOADED and parts.scheme != "data":
            yield "is loaded from elsewhere"
        return
    target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
    if target.is_dir():
        target /= "index.html"
    if not target.is_relative_to(site):
        yield "lies outside the site"
    elif not target.is_file():
        yield "is not there"
    elif parts.fragment and target in found and unquote(parts.fragment) not in found[target].anchors:
        yield "has no such anchor"


def main(arguments: list[str]) -> int:
    """Print what is broken; 1 if anything is."""
    (name,) = arguments
    found = broken(Path(name))
    print("\n".join(found) or f"{name}: every link leads somewhere")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
