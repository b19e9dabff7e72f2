"""Data sets from the network, by pooch, checked against the hashes that their authors publish."""

# pyright: reportMissingImports=false

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from snnc.errors import InputError, UsageError

COMMAND = "pip install pooch"

SOURCES: Mapping[str, tuple[str, str, str]] = {
    "cifar10": (
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "md5:c32a1d4ab5d03f1284b67883e8d87530",
        "cifar-10-batches-bin",
    ),
    "cifar100": (
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "md5:03b5dce01913d631647c71ecec9e9cb8",
        "cifar-100-binary",
    ),
}
"""Where each data set lies, its hash, and the folder that its archive holds."""


def download(name: str, folder: str | os.PathLike[str]) -> Path:
    """Load a data set, once, and return its folder, which every option for rows takes.

    Args:
        name: of :data:`SOURCES`.
        folder: where the archive is kept and unpacked.

    Raises:
        UsageError: pooch is not installed, or the name is unknown.
        InputError: it could not be loaded, or is damaged.
    """
    if name not in SOURCES:
        raise UsageError(f"the data set {name!r} is unknown; known: {', '.join(SOURCES)}")
    if find_spec("pooch") is None:
        raise UsageError(f"loading data sets needs pooch, which is not installed: {COMMAND}")
    import pooch

    url, known, inner = SOURCES[name]
    unpack = pooch.Untar(extract_dir=name)
    try:
        pooch.retrieve(
            url, known_hash=known, fname=url.rpartition("/")[2], path=os.fspath(folder), processor=unpack
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{name} could not be loaded from {url}: {error}") from error
    return Path(folder) / name / inner
