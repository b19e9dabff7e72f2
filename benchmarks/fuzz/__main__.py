"""``python -m benchmarks.fuzz``: hostile files by the thousand, each in a child process with limits.

A case is made from its kind, a seed and its number alone, so that every finding can be made again:
``python -m benchmarks.fuzz models --seed 0 --only 4711 --keep FILE`` writes its file. What was done is
appended to a record, and a run goes on where the record ends. ``--report`` writes the page of the docs.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import digests

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "benchmarks" / "measured" / "fuzz.jsonl"
KINDS = ("models", "graphs", "artefacts", "bundles", "rows", "recordings", "commands")
COUNTS = {
    "models": 100_000,
    "graphs": 2_000,
    "artefacts": 2_000,
    "bundles": 300,
    "rows": 5_000,
    "recordings": 5_000,
    "commands": 2_000,
}

MOST_SECONDS = 10.0
"""Processor time of one case."""

MOST_WAIT = 120.0
"""Seconds of the clock for one case, on a machine that has other work."""

MOST_BYTES = 2 << 30
"""Resident memory of the child."""

MEMORY = Path("/dev/shm")
"""Where folders cost no disk."""

CHUNK = 1000
"""Cases of one line of the record."""


@dataclass
class Tally:
    """What a run has found.

    Attributes:
        outcomes: how often each way of ending came up.
        findings: number and description of each case that is wrong.
        slowest: seconds of processor time of the slowest case.
        peak: most bytes of resident memory.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, str]] = field(default_factory=list)
    slowest: float = 0.0
    peak: int = 0


class Child:
    """A worker that is started again whenever it had to be stopped."""

    def __init__(self, folder: Path, command: Sequence[str] = ()) -> None:
        """Take a folder to work in; nothing is started yet.

        Args:
            folder: for the files of cases.
            command: what runs the cases, in the place of the worker of this package.
        """
        self._command = command or (sys.executable, "-m", "benchmarks.fuzz.worker", str(folder))
        self._process: subprocess.Popen[bytes] | None = None
        self._requests = self._answers = -1
        self._buffer = b""

    def run(self, kind: str, seed: int, index: int) -> dict[str, Any]:
        """Run one case, and return the answer of the worker, or what became of it."""
        process = self._process or self._start()
        os.write(self._requests, json.dumps([kind, seed, index]).encode() + b"\n")
        stage, begun, used = "snnc", time.monotonic(), _seconds(process.pid)
        while True:
            line = self._line(0.5)
            if line is not None:
                answer: dict[str, Any] = json.loads(line)
                if "stage" in answer:
                    stage, begun, used = answer["stage"], time.monotonic(), _seconds(process.pid)
                    continue
                if answer["peak"] > MOST_BYTES:
                    self.stop()
                    return _ended("memory", stage, f"{answer['peak'] / 2**30:.1f} GiB")
                return answer
            if process.poll() is not None:
                self.stop()
                return _ended("crash", stage, f"exit code {process.returncode}")
            seconds, waited = _seconds(process.pid) - used, time.monotonic() - begun
            if stage == "preparing":
                continue
            if _resident(process.pid) > MOST_BYTES:
                self.stop()
                return _ended("memory", stage, f"over {MOST_BYTES >> 30} GiB")
            if seconds > MOST_SECONDS or waited > MOST_WAIT:
                self.stop()
                return _ended("hang", stage, f"after {seconds:.0f} s, {waited:.0f} s by the clock")

    def stop(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            os.close(self._requests)
            os.close(self._answers)
        self._process = None
        self._buffer = b""

    def _start(self) -> subprocess.Popen[bytes]:
        given, self._requests = os.pipe()
        self._answers, told = os.pipe()
        self._process = subprocess.Popen(self._command, stdin=given, stdout=told, cwd=ROOT)
        os.close(given)
        os.close(told)
        if self._line(MOST_WAIT) is None:
            self.stop()
            raise RuntimeError(f"the worker does not start: {' '.join(self._command)}")
        return self._process

    def _line(self, seconds: float) -> bytes | None:
        """Return the next line of the worker, ``None`` if there is none yet."""
        while b"\n" not in self._buffer:
            if not select.select([self._answers], [], [], seconds)[0]:
                return None
            data = os.read(self._answers, 1 << 16)
            if not data:  # it has ended
                time.sleep(0.05)
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def _ended(how: str, stage: str, detail: str) -> dict[str, Any]:
    """Return the answer in the place of a worker that had to be stopped; onnxruntime's faults are its own."""
    if stage == "oracle":
        return {"outcome": f"read, {how} in onnxruntime", "finding": "", "seconds": 0.0, "peak": 0}
    return {"outcome": how, "finding": f"{how} {detail}", "seconds": 0.0, "peak": 0}


def _seconds(pid: int) -> float:
    """Return the processor time of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    except OSError:
        return 0


def run(kind: str, seed: int, first: int, count: int, child: Child) -> Tally:
    """Run ``count`` cases from number ``first`` on, and return what they found."""
    tally = Tally()
    for index in range(first, first + count):
        answer = child.run(kind, seed, index)
        tally.outcomes[answer["outcome"]] += 1
        tally.slowest = max(tally.slowest, answer["seconds"])
        tally.peak = max(tally.peak, answer["peak"])
        if answer["finding"]:
            tally.findings.append((index, answer["finding"]))
    return tally


def lines(record: Path) -> list[dict[str, Any]]:
    """Return the lines of a record."""
    if not record.exists():
        return []
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


def done(record: Path, kind: str, seed: int) -> int:
    """Return how many cases of a series a record holds."""
    return sum(line["count"] for line in lines(record) if (line["kind"], line["seed"]) == (kind, seed))


def main() -> None:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("kind", nargs="?", choices=KINDS, help="what to make hostile; all by default")
    parser.add_argument("--count", type=int, help="cases in all, those of the record included")
    parser.add_argument("--seed", type=int, default=0, help="of the series")
    parser.add_argument("--record", type=Path, default=RECORD, help="where to append what was done")
    parser.add_argument("--only", type=int, help="run this case alone, and record nothing")
    parser.add_argument("--keep", type=Path, help="with --only: write the hostile model to this file")
    parser.add_argument("--report", type=Path, help="write the page of the documentation, and run nothing")
    parser.add_argument(
        "--atheris", action="store_true", help="let atheris choose the bytes, where it is installed"
    )
    given = parser.parse_args()
    if given.report is not None:
        from benchmarks.fuzz.page import page

        given.report.write_text(page(lines(given.record)), encoding="utf-8")
        return
    if given.atheris:
        from benchmarks.fuzz.guided import fuzz

        fuzz()
        return
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        if given.only is not None:
            _only(given.kind, given.seed, given.only, Path(folder), given.keep)
            return
        for kind in [given.kind] if given.kind else KINDS:
            _series(kind, given.seed, given.count or COUNTS[kind], Path(folder), given.record)


def _only(kind: str, seed: int, index: int, folder: Path, keep: Path | None) -> None:
    if keep is not None:
        from benchmarks.fuzz.cases import reproduced

        keep.write_bytes(reproduced(kind, seed, index))
    child = Child(folder)
    print(json.dumps(child.run(kind, seed, index)))
    child.stop()


def _series(kind: str, seed: int, wanted: int, folder: Path, record: Path) -> None:
    while (first := done(record, kind, seed)) < wanted:
        start = time.monotonic()
        count = min(CHUNK, wanted - first)
        child = Child(folder)  # a new one now and then, so that the most memory is that of these cases
        try:
            tally = run(kind, seed, first, count, child)
        finally:
            child.stop()
        line = {
            "kind": kind,
            "seed": seed,
            "first": first,
            "count": count,
            "outcomes": dict(sorted(tally.outcomes.items())),
            "findings": tally.findings,
            "slowest": round(tally.slowest, 2),
            "peak_mib": tally.peak >> 20,
            "code": digests.of_folders("snnc", "passes", "backends", "models", "benchmarks/fuzz"),
            "wall": round(time.monotonic() - start, 1),
        }
        record.parent.mkdir(parents=True, exist_ok=True)
        with record.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        print(
            f"{kind} {first + count}/{wanted}: {len(tally.findings)} findings, {line['wall']} s", flush=True
        )
        for index, text in tally.findings:
            print(f"  {kind} {index}: {text}", flush=True)


if __name__ == "__main__":
    main()
