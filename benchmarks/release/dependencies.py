"""List what snnc installs, with licences: what the page `docs/reference/dependencies.md` holds.

    python -m benchmarks.release.dependencies > docs/reference/dependencies.md

Versions and licences are those of the environment that runs this, from the metadata of each distribution.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution, requires

from packaging.requirements import Requirement

HEAD = """# Dependencies and their licences

What `pip install` of snnc brings, without extras, as installed where this page was written. `make release`
writes the same for a release, complete and for machines, as an SBOM in CycloneDX.

| distribution | version here | licence | needed by |
|---|---|---|---|"""


def needed() -> dict[str, set[str]]:
    """Return the distributions that snnc needs on this machine, directly or not, and which ask for each."""
    found: dict[str, set[str]] = {}
    waiting = ["snnc"]
    while waiting:
        name = waiting.pop()
        for text in requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            known = requirement.name.lower().replace("_", "-")
            if known not in found:
                found[known] = set()
                waiting.append(known)
            found[known].add(name)
    return found


def licence(name: str) -> str:
    """Return the licence of an installed distribution: its SPDX expression, or what its classifiers say."""
    metadata = distribution(name).metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classifiers = [
        value.split(" :: ")[-1] for value in metadata.get_all("Classifier") or [] if "License ::" in value
    ]
    text = metadata["License"].strip() if "License" in metadata else ""
    return ", ".join(classifiers) or (text.splitlines() or ["not told"])[0]


def page() -> str:
    """Return the page."""
    rows = []
    for name, askers in sorted(needed().items()):
        try:
            facts = (distribution(name).version, licence(name))
        except PackageNotFoundError:
            continue
        rows.append(f"| {name} | {facts[0]} | {facts[1]} | {', '.join(sorted(askers))} |")
    return "\n".join([HEAD, *rows])


if __name__ == "__main__":
    print(page())
