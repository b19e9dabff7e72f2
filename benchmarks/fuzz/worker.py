"""The child process: runs cases one after the other, and answers with one JSON line each.

It may read the folder of its case, Python and the libraries, and write nowhere but in that folder; whatever
else it opens is a finding.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

from benchmarks.fuzz.cases import Outcome, run_case
from benchmarks.fuzz.networks import made, others

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """Notes what a case opens, writes or starts where it should not."""

    def __init__(self) -> None:
        """Begin; nothing is noted until a folder is set."""
        self.folder: Path | None = None
        self.seen: list[str] = []
        roots = {sys.prefix, sys.base_prefix, *(path for path in sys.path if path)}
        self._read = (*(os.path.realpath(root) for root in roots), "/proc", "/sys", "/usr", "/lib", "/dev")
        self._cache = os.path.realpath(os.environ.get("SNNC_CACHE_DIR", Path.home() / ".cache" / "snnc"))
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in ("subprocess.Popen", "os.system", "socket.connect", "os.exec", "os.posix_spawn"):
            self.seen.append(f"{event} {arguments[:1]!r}")
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            inside = path == os.path.realpath(self.folder) or path.startswith(
                f"{os.path.realpath(self.folder)}/"
            )
            cached = path.startswith(self._cache)
            if not inside and not cached and (arguments[2] or 0) & WRITES and not path.startswith("/dev/"):
                self.seen.append(f"writes {path}")
            elif not inside and not cached and not path.startswith(self._read):
                self.seen.append(f"reads {path}")


def serve(root: Path) -> None:
    """Answer requests from standard input until it ends.

    Args:
        root: a folder that cases work below; it is emptied.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    log = os.open(root / "stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    folder = root / "case"
    (root / "outside.bin").write_bytes(bytes(4096))
    made()
    others()  # these are read once, before anything is watched
    watch = Watch()

    def enter(stage: str) -> None:
        print(json.dumps({"stage": stage}), file=answers)

    enter("ready")
    for line in sys.stdin:
        kind, seed, index = json.loads(line)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        before = set(root.iterdir())
        watch.seen.clear()
        watch.folder = None if kind in ("artefacts", "bundles") else folder  # these convert first
        start = os.times()
        try:
            found = run_case(kind, seed, index, folder, enter)
        except BaseException as error:  # noqa: BLE001 - whatever escapes is what is looked for
            trace = traceback.extract_tb(error.__traceback__)
            place = next(
                (f for f in reversed(trace) if "/snnc/" in f.filename or "/passes/" in f.filename), trace[-1]
            )
            where = f"{Path(place.filename).name}:{place.lineno}"
            found = Outcome("traceback", f"{type(error).__name__} at {where}: {str(error)[:200]}")
        watch.folder = None
        end = os.times()
        strays = sorted(str(path.name) for path in set(root.iterdir()) - before - {root / "bundle"})
        for text in (*watch.seen[:3], *strays):
            found = Outcome("outside", f"{found.finding} {text}".strip())
        answer = {
            "outcome": found.name,
            "finding": found.finding,
            "seconds": end.user + end.system - start.user - start.system,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        }
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
