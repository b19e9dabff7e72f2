"""What the outputs of a network are."""

from __future__ import annotations

import math

from snnc.frontend import SourceModel
from snnc.metrics.task import Task, recognise
from snnc.source.host import Host


def tasks_of(source: SourceModel, given: Task | None) -> dict[str, Task | None]:
    """Return what each output of a network is, by its name; ``None`` where that is not evident.

    Args:
        source: the network.
        given: what the user says of all of them.

    Raises:
        UsageError: an output cannot be what the user says.
    """
    found: dict[str, Task | None] = {}
    for output in source.outputs:
        shape = output.layout.shape
        if not output.ends and source.host is not None and _is_read_on(output.name, source.host):
            found[output.name] = Task.REGRESSION  # what is computed of it is no arg max
            continue
        if len(shape) > 1:  # of a map, no arg max over all of it is a class
            found[output.name] = given if given is Task.REGRESSION else None
            continue
        found[output.name] = recognise(math.prod(shape), rows=0, ends=output.ends, given=given).task
    return found


def task_of_whole(host: Host, given: Task | None) -> Task | None:
    """Return what the outputs behind the host's part are."""
    if len(host.outputs) != 1 or len(host.outputs[0].shape) != 1:
        return given
    return recognise(host.outputs[0].shape[0], rows=0, ends=host.activation, given=given).task


def _is_read_on(name: str, host: Host) -> bool:
    """Whether ordinary ONNX computes something of what a read-out gives."""
    return host.suffix is not None or name not in {port.name for port in host.outputs}
