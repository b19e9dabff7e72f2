"""The C bundle with every compiler, checker and processor at hand; flash and RAM on Cortex-M.

    python benchmarks/consumers/verify_c99.py                    # the bundled network
    python benchmarks/consumers/verify_c99.py NETWORK.snn.onnx   # another one

On Debian: apt install gcc-multilib clang valgrind gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross.
What is not installed is left out, and the table says so.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from subjects import FOLDER, SUBJECTS, Row, show, subject

from snnc.artefact import load
from snnc.backends import load_backend, load_simulator
from snnc.backends.c99.backend import CAPABILITIES
from snnc.backends.deployment import deploy
from snnc.backends.golden import read_golden
from snnc.backends.manifest import read

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")
SOURCES = ("snnc_network.c", "selftest.c")
OPTIMISED = {"O3": ("-O3",), "native": ("-O3", "-march=native")}
ROUNDS = 8
CORTEX = ("-mcpu=cortex-m4", "-mthumb", "-O2")
HERE = Path(__file__).parent
MACHINE = (
    "qemu-system-arm",
    "-M",
    "mps2-an386",
    "-nographic",
    "-semihosting-config",
    "enable=on,target=native",
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to compile and run the self-test.

    Attributes:
        name: for the table.
        compiler: the command, with its options.
        runner: what runs the program; empty to run it by itself.
        extra: further files.
    """

    name: str
    compiler: tuple[str, ...]
    runner: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def missing(self) -> str:
        """What is not installed, if anything."""
        needed = [self.compiler[0], *self.runner[:1]]
        absent = [name for name in needed if shutil.which(name) is None]
        if not absent and not self.extra and not self._compiles_anything():
            absent = [f"C library for {' '.join(self.compiler)}"]
        return ", ".join(absent)

    def _compiles_anything(self) -> bool:
        """Whether a program of nothing is compiled: `gcc -m32` often stands without its headers."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "probe.c").write_text("#include <stdint.h>\nint main(void) { return 0; }\n")
            return _run([*self.compiler, "probe.c", "-o", "probe"], Path(folder)).returncode == 0


TRIALS = (
    Trial("gcc -O2", ("gcc", "-O2")),
    Trial("gcc -O3", ("gcc", "-O3")),
    Trial("gcc -m32", ("gcc", "-O2", "-m32")),
    Trial("gcc, ASan and UBSan", ("gcc", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")),
    Trial("gcc, valgrind", ("gcc", "-O1", "-g"), ("valgrind", "-q", "--error-exitcode=9")),
    Trial("clang -O2", ("clang", "-O2")),
    Trial("gcc, ARM64 in QEMU", ("aarch64-linux-gnu-gcc", "-O2", "-static"), ("qemu-aarch64",)),
    Trial(
        "arm-none-eabi-gcc, Cortex-M4 in QEMU",
        ("arm-none-eabi-gcc", *CORTEX, "--specs=rdimon.specs", "-T", str(HERE / "cortex_m4.ld")),
        (*MACHINE, "-kernel"),
        (str(HERE / "cortex_m4.c"),),
    ),
)


def attempt(trial: Trial, bundle: Path, network: str) -> Row:
    """Compile and run."""
    content = read(bundle)
    golden = content["golden"]
    what = f"outputs, N and v on {golden['rows']} images ({golden['distinct_outputs']} different outputs)"
    if trial.missing:
        return Row(trial.name, "c99", network, "", f"left out: no {trial.missing}")
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder, "selftest"))
        # The warnings are for the network; start-up code and linker scripts are the machine's.
        command = [*trial.compiler, *STRICT, *SOURCES, *trial.extra, "-o", program]
        compiled = _run(command, bundle)
        if compiled.returncode:
            return Row(trial.name, "c99", network, what, f"WRONG: {compiled.stderr.strip().splitlines()[0]}")
        result = _run([*trial.runner, program], bundle)
    passed = result.returncode == 0 and "PASSED" in result.stdout
    version = _run([trial.compiler[0], "-dumpversion"], bundle).stdout.strip()
    return Row(f"{trial.name} ({version})", "c99", network, what, "bit-exact" if passed else "WRONG")


def sizes(bundle: Path, network: str) -> str:
    """Return RAM and flash on a Cortex-M4 as a line of a table."""
    facts = read(bundle)["facts"]
    with tempfile.TemporaryDirectory() as folder:
        compiled = str(Path(folder, "network.o"))
        command = [
            "arm-none-eabi-gcc",
            *CORTEX,
            "-std=c99",
            "-ffreestanding",
            "-c",
            SOURCES[0],
            "-o",
            compiled,
        ]
        if shutil.which(command[0]) is None or _run(command, bundle).returncode:
            flash = "left out: no arm-none-eabi-gcc"
        else:
            text, data = _run(["arm-none-eabi-size", compiled], bundle).stdout.splitlines()[1].split()[:2]
            flash = f"{int(text) + int(data):,} B"
    fits = [row["device"] for row in facts["fit"] if row["fits"]]
    return f"| {network} | {facts['ram_bytes']:,} B | {flash} | {'; '.join(fits) or 'none'} |"


def speed(path: Path, bundle: Path, network: str) -> str:
    """Return the CPU time per image of C and of the simulator on one thread, as a line of a table."""
    artefact = load(path)
    graph = artefact.graph
    q = read_golden(bundle).q
    simulator = load_simulator("numba", 1)
    simulator.run(graph, q[:1], graph.timesteps)
    simulator.run(graph, q, graph.timesteps)
    least = {"one": float("inf"), "all": float("inf")}
    with tempfile.TemporaryDirectory() as folder:
        programs = {}
        for name, flags in OPTIMISED.items():
            programs[name] = str(Path(folder, name))
            command = ["gcc", "-std=c99", *flags, f"-I{bundle}", SOURCES[0], str(HERE / "time_c99.c")]
            if _run([*command, "-o", programs[name]], bundle).returncode:
                return f"| {network} | gcc does not compile it | | |"
            least[name] = float("inf")
        for _ in range(ROUNDS):
            for name, program in programs.items():
                least[name] = min(least[name], float(_run([program, "10"], bundle).stdout) / 1e3)
            for name, rows in (("one", q[:1]), ("all", q)) * 10:
                begin = time.process_time()
                simulator.run(graph, rows, graph.timesteps)
                least[name] = min(least[name], 1e3 * (time.process_time() - begin) / len(rows))
    return f"| {network} | {' | '.join(f'{value:.2f} ms' for value in least.values())} |"


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=900)


def main(paths: Sequence[str]) -> int:
    """Try everything on some artefacts, by default on the converted networks of the zoo."""
    bundles, artefacts = {}, {}
    for path, profile in itertools.product(map(Path, paths), CAPABILITIES.profiles):
        name = f"{path.stem}, {profile}"
        artefacts[name], bundles[name] = path, FOLDER / "bundles" / f"{path.stem}-c99-{profile}"
        bundles[name].parent.mkdir(parents=True, exist_ok=True)
        deploy(load(path), load_backend("c99", profile), bundles[name], source=path, force=True)
    if not paths:
        bundles = {name: subject(name).deploy("c99") for name in SUBJECTS}
        artefacts = {name: subject(name).path for name in SUBJECTS}
    failed = show([attempt(trial, bundle, name) for name, bundle in bundles.items() for trial in TRIALS])
    print("\n| network | RAM | flash: code and constants, Cortex-M4 | data and constants fit into |")
    print("|---|---|---|---|")
    for name, bundle in bundles.items():
        print(sizes(bundle, name))
    print(
        "\n| time per image | simulator, one thread, 1 image | 8 images at once | gcc -O3 | -march=native |"
    )
    print("|---|---|---|---|---|")
    for name, bundle in bundles.items():
        print(speed(artefacts[name], bundle, name))
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
