"""A dask cluster of processes for tests, with TLS on loopback, in a process of its own.

``python -m tests.clusters FOLDER PORT WORKERS`` starts one, says its address, and does what lines of its
standard input say: ``kill`` ends a worker. The process under test unpickles nothing, so it can hold no
scheduler.
"""

from __future__ import annotations

import datetime
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def certificates(folder: Path) -> None:
    """Write an authority, and a certificate that scheduler, workers and client share, for loopback."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def name(of: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, of)])

    def write(path: Path, data: bytes) -> None:
        path.write_bytes(data)

    now = datetime.datetime.now(datetime.UTC)
    signer = ec.generate_private_key(ec.SECP256R1())
    for file, key, is_authority in (
        ("ca", signer, True),
        ("own", ec.generate_private_key(ec.SECP256R1()), False),
    ):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name("tests" if is_authority else "localhost"))
            .issuer_name(name("tests"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        certificate = builder.sign(signer, hashes.SHA256())
        write(folder / f"{file}.pem", certificate.public_bytes(serialization.Encoding.PEM))
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write(folder / f"{file}.key", private)


@dataclass
class Running:
    """A cluster that runs.

    Attributes:
        file: names it for ``--cluster``.
        address: of the scheduler.
        process: that holds it.
    """

    file: Path
    address: str
    process: subprocess.Popen[str]

    def kill(self) -> None:
        """End one of its workers."""
        assert self.process.stdin is not None
        self.process.stdin.write("kill\n")
        self.process.stdin.flush()


def started(folder: Path, port: int, workers: int) -> Running:
    """Start a cluster; certificates are in the folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.clusters", str(folder), str(port), str(workers)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *filter(None, sys.path), str(ROOT)])},
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address.startswith("tls://"), address
    file = folder / "cluster.toml"
    text = f'scheduler = "{address}"\nca = "ca.pem"\ncertificate = "own.pem"\nkey = "own.key"\nwait = 300\n'
    file.write_text(text, encoding="utf-8")
    return Running(file, address, process)


def ended(running: Running) -> None:
    """End a cluster with all its processes, as a power cut does."""
    os.killpg(running.process.pid, signal.SIGKILL)
    running.process.wait()
    for stream in (running.process.stdin, running.process.stdout):
        if stream is not None:
            stream.close()


@contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[Running]:
    """Start a cluster, and end it."""
    certificates(folder)
    running = started(folder, free_port(), workers)
    try:
        yield running
    finally:
        ended(running)


def free_port() -> int:
    """Return a port of loopback that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (sprung, (self.path,))


def sprung(path: str) -> str:
    """Say who unpickled a trap."""
    Path(f"{path}.{os.getpid()}").write_text("sprung", encoding="utf-8")
    return path


class TrapError(Exception):
    """An error that is a trap."""

    def __reduce__(self) -> Any:
        return (sprung, self.args)


def give_a_trap(name: str, expected: str, digests: object, arguments: bytes, *contents: bytes) -> object:
    """Do the work of a worker that somebody else holds: it sends what runs where it is read."""
    return Trap(bytes(arguments).decode())


def raise_a_trap(name: str, expected: str, digests: object, arguments: bytes, *contents: bytes) -> object:
    """Do the same, as an error."""
    raise TrapError(bytes(arguments).decode())


def main() -> None:
    """Hold a cluster until standard input ends."""
    dask, distributed = import_module("dask"), import_module("distributed")
    folder, port, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    own = {"cert": str(folder / "own.pem"), "key": str(folder / "own.key")}
    names = {
        f"tls_{role}_{what}": path for role in ("scheduler", "worker", "client") for what, path in own.items()
    }
    security = distributed.Security(require_encryption=True, tls_ca_file=str(folder / "ca.pem"), **names)
    dask.config.set({"distributed.worker.memory.terminate": False})
    found = distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        protocol="tls://",
        security=security,
        host="127.0.0.1",
        scheduler_port=port,
        dashboard_address=None,
    )
    sys.stdout.write(f"{found.scheduler_address}\n")
    sys.stdout.flush()
    chance = random.Random(0)
    for line in sys.stdin:
        if line.strip() == "kill":
            pids = [each.process.pid for each in found.workers.values() if each.process is not None]
            if pids:
                os.kill(chance.choice(pids), signal.SIGKILL)


if __name__ == "__main__":
    main()
