"""Time one peer: a network of given shapes with random weights and its own integrate-and-fire neurons.

    PYTHON speed_peer.py PEER JOB.npz --timesteps 4 --batch 1 --threads 1

Runs once for every line that it reads, and answers with the seconds that it took; so the caller can take
turns with it. Each library is used as its own documentation does it: SpikingJelly in multi-step mode, in
which layers without state see all steps as one batch; sinabs likewise; snnTorch step by step. The neurons are
plain integrate-and-fire. The job is written by benchmarks/speed/peers.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Neuron = Callable[[Tensor], Tensor]
Node = dict[str, Any]


def stateless(node: Node, read: list[Tensor], arrays: dict[str, Tensor]) -> Tensor:
    """Apply one operation of the source network, rectifiers excepted, to a batch."""
    match node["op"]:
        case "Conv":
            weight, bias = (arrays[name] for name in node["constants"])
            return functional.conv2d(
                read[0], weight, bias, node["strides"][0], node["pads"][0], groups=node["group"]
            )
        case "Gemm":
            return functional.linear(read[0], *(arrays[name] for name in node["constants"]))
        case "Add":
            return read[0] + read[1]
        case "MaxPool":
            return functional.max_pool2d(read[0], 2)
        case "GlobalAveragePool":
            return functional.adaptive_avg_pool2d(read[0], 1)
        case "Flatten":
            return read[0].flatten(1)
        case "Identity":
            return read[0]
        case other:
            raise SystemExit(f"the operation {other} is not known here")


def network(nodes: list[Node], arrays: dict[str, Tensor], spike: dict[str, Neuron], x: Tensor) -> Tensor:
    """Run a batch through the network, with neurons in place of its rectifiers."""
    values = {"x": x}
    for node in nodes:
        read = [values[name] for name in node["inputs"]]
        rectified = node["op"] == "Relu"
        values[node["name"]] = spike[node["name"]](read[0]) if rectified else stateless(node, read, arrays)
    return values["y"]


def spikingjelly(
    nodes: list[Node], arrays: dict[str, Tensor], x: Tensor, timesteps: int
) -> Callable[[], Tensor]:
    """All steps of a layer at once, (T, batch, ...)."""
    from spikingjelly.activation_based import functional as states
    from spikingjelly.activation_based import neuron

    made = {n["name"]: neuron.IFNode(step_mode="m").eval() for n in nodes if n["op"] == "Relu"}
    batch = len(x)

    def over_steps(node: neuron.IFNode) -> Neuron:
        return lambda v: node(v.view(timesteps, batch, *v.shape[1:])).flatten(0, 1)

    spike = {name: over_steps(node) for name, node in made.items()}
    folded = x.repeat(timesteps, *(1,) * (x.ndim - 1))

    def run() -> Tensor:
        for node in made.values():
            states.reset_net(node)
        return network(nodes, arrays, spike, folded).view(timesteps, batch, -1).sum(0)

    return run


def sinabs(nodes: list[Node], arrays: dict[str, Tensor], x: Tensor, timesteps: int) -> Callable[[], Tensor]:
    """All steps of a layer at once, (batch x T, ...)."""
    import sinabs.layers as sl

    batch = len(x)
    made = {n["name"]: sl.IAFSqueeze(batch_size=batch).eval() for n in nodes if n["op"] == "Relu"}
    folded = x.repeat_interleave(timesteps, 0)

    def run() -> Tensor:
        for layer in made.values():
            layer.reset_states()
        return network(nodes, arrays, dict(made), folded).view(batch, timesteps, -1).sum(1)

    return run


def snntorch(nodes: list[Node], arrays: dict[str, Tensor], x: Tensor, timesteps: int) -> Callable[[], Tensor]:
    """The whole network step by step, as its neurons are made for."""
    import snntorch

    names = [n["name"] for n in nodes if n["op"] == "Relu"]

    def run() -> Tensor:
        made = {name: snntorch.Leaky(beta=1.0, init_hidden=True).eval() for name in names}
        return cast("Tensor", sum(network(nodes, arrays, dict(made), x) for _ in range(timesteps)))

    return run


PEERS = {"spikingjelly": spikingjelly, "sinabs": sinabs, "snntorch": snntorch}


def main() -> None:
    """Answer every line with a time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("job", type=Path)
    for name in ("timesteps", "batch", "threads"):
        parser.add_argument(f"--{name}", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.set_grad_enabled(False)
    with np.load(chosen.job) as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored.files if name != "nodes"}
        nodes = json.loads(str(stored["nodes"]))
    x = torch.randn(chosen.batch, *nodes[0]["input_shape"])
    run = PEERS[chosen.peer](nodes, arrays, x, chosen.timesteps)
    for _ in range(2):
        run()
    # As snnc.analysis.speed.clock: one thread by the time in which it had a core, several by the wall.
    now = time.thread_time if chosen.threads == 1 else time.perf_counter
    for _ in sys.stdin:
        start = now()
        run()
        print(now() - start, flush=True)


if __name__ == "__main__":
    main()
