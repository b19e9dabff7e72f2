"""Build the source distribution and the wheel, byte for byte the same from the same commit.

    python -m benchmarks.release.build dist

Files are those of HEAD. Times are `SOURCE_DATE_EPOCH`, or the commit's (https://reproducible-builds.org/specs/).
The wheel is built from the source distribution, as pip would. setuptools writes wheels reproducibly; in its
source distributions times and owners are those of the machine, so these are packed anew.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def epoch() -> int:
    """Return the time that all files of a distribution bear, in seconds since 1970."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given or _git("log", "-1", "--format=%ct").decode())


def build(target: Path, source: Path | None = None) -> list[Path]:
    """Write the source distribution and the wheel into a folder, and return their paths.

    Args:
        target: the folder; it is made where it is absent.
        source: a checkout to build from, as it is; HEAD by default.
    """
    seconds = epoch()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="snnc-release-") as name:
        folder = Path(name)
        if source is None:
            source = folder / "source"
            with tarfile.open(fileobj=io.BytesIO(_git("archive", "HEAD"))) as archive:
                archive.extractall(source, filter="data")
        made = _hook("build_sdist", source, folder / "sdist", seconds)
        sdist = target / made.name
        sdist.write_bytes(packed_anew(made.read_bytes(), seconds))
        with tarfile.open(sdist) as archive:
            archive.extractall(folder / "unpacked", filter="data")
        (unpacked,) = (folder / "unpacked").iterdir()
        made = _hook("build_wheel", unpacked, folder / "wheel", seconds)
        wheel = target / made.name
        wheel.write_bytes(made.read_bytes())
    return [sdist, wheel]


def packed_anew(content: bytes, seconds: int) -> bytes:
    """Return a `.tar.gz` with its members in order, all with the same time and owner."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as old,
        gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=seconds) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.GNU_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = seconds, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
    return packed.getvalue()


def _hook(name: str, source: Path, target: Path, seconds: int) -> Path:
    """Call a hook of the build backend as pip does, and return the one file that it made."""
    target.mkdir()
    code = f"import sys; from setuptools import build_meta; build_meta.{name}(sys.argv[1])"
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(seconds)}
    subprocess.run(
        [sys.executable, "-c", code, str(target)],
        cwd=source,
        env=environment,
        check=True,
        capture_output=True,
    )
    (made,) = target.iterdir()
    return made


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


if __name__ == "__main__":
    for path in build(Path(sys.argv[1])):
        print(path)
