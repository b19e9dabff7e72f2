"""The targets that the network fits, and the problems of the others, as by ``snnc check --target``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from snnc.backends import BACKENDS, load_backend, usable_backends
from snnc.backends.deployment import problems
from snnc.diagnostics import Diagnostic
from snnc.ir.snn import SnnGraph
from snnc.plugins import warn
from snnc.simulation.targets import Emulating
from snnc.source.host import Host


@dataclass(frozen=True, slots=True)
class Fit:
    """How a network fits a target.

    Attributes:
        target: its name.
        profiles: forms of the target for which the same nodes are in the way, and the same rules differ.
        problems: what is in the way, in the words of the first profile; empty if the network is taken.
        differences: in which points the target computes something else; empty where there are problems.
        results: how the target's results agree with the network's, in words.
        verified_by: what checks that, in words.
    """

    target: str
    profiles: tuple[str, ...]
    problems: tuple[Diagnostic, ...]
    differences: tuple[str, ...]
    results: str
    verified_by: str

    @property
    def answer(self) -> str:
        """Whether the target takes the network, in a few words."""
        if self.problems:
            return f"no, for {len(self.problems)} reason{'s' if len(self.problems) > 1 else ''}"
        return "yes, but it computes something else" if self.differences else "yes"

    @property
    def reason(self) -> str:
        """What stands behind the answer: the first problem, the differences, or how results agree."""
        if self.problems:
            return f"{self.problems[0].message}; {self.problems[0].help}"
        return "; ".join(self.differences) or f"results: {self.results}"

    @property
    def alike(self) -> tuple[object, ...]:
        """What profiles have in common that are told in one line."""
        places = tuple((problem.node, problem.help) for problem in self.problems)
        return self.target, places, self.differences, self.results

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "target": self.target,
            "profiles": list(self.profiles),
            "fits": not self.problems,
            "problems": [problem.as_dict() for problem in self.problems],
            "differences": list(self.differences),
            "results": self.results,
            "verified_by": self.verified_by,
        }


def fits(graph: SnnGraph, host: Host | None = None) -> tuple[Fit, ...]:
    """Ask every target, in every profile, whether it takes a network.

    Args:
        graph: the network.
        host: what of its source runs as ordinary ONNX.
    """
    found: dict[tuple[object, ...], Fit] = {}
    for backend in usable_backends():
        for profile in backend.capabilities.profiles:
            try:
                fit = _fit(graph, host, backend.name, profile)
            except Exception as error:
                if BACKENDS.is_own(backend.name):
                    raise
                warn(f"the target {backend.name!r} was not asked, {type(error).__name__}: {error}")
                continue
            first = found.setdefault(fit.alike, fit)
            if first is not fit:
                found[fit.alike] = replace(first, profiles=(*first.profiles, profile))
    return tuple(found.values())


def _fit(graph: SnnGraph, host: Host | None, target: str, profile: str) -> Fit:
    backend = load_backend(target, profile)
    known = backend.capabilities
    found = problems(backend, graph, host)
    if found or not isinstance(backend, Emulating):
        return Fit(target, (profile,), found, (), known.agreement, known.verified_by)
    differences = backend.differences(graph)
    results = f"they differ; {backend.advice}" if differences else "bit for bit"
    return Fit(target, (profile,), (), differences, results, known.verified_by)
