"""``run.py`` of a bundle: how its consumer loads and runs the file, as a program that checks itself."""

from __future__ import annotations

import json

from snnc.backends.nir.profiles import Profile
from snnc.backends.nir.program import Fire, Program

FILE = "network.nir"
SCRIPT = "run.py"

_SCRIPT = '''"""Run {file} in {name}, {steps} step{plural} for each row, and compare with golden.npz.

    python -m pip install {packages}
    python run.py
"""

import sys
from pathlib import Path

import numpy as np

try:
    import nir
    import torch
{imports}
except ImportError as error:
    sys.exit(f"run.py: {{error.name}} is not installed: python -m pip install {packages}")

HERE = Path(__file__).parent
NAME = "{name}"
STEPS = {steps}
CHUNK = 16
POPULATIONS = (
{fires}
)


def load(path=HERE / "{file}"):
    """Return the network."""
{load}


def infer(network, q, trains=None):
    """Return y, (rows, classes), for quantised inputs q, (rows, {shape}).

    Into the dictionary `trains` go the spikes of each population, (steps, rows, ...).
    """
    with torch.no_grad():
        values = torch.as_tensor(np.asarray(q), dtype=torch.float32)
        parts = [_infer(network, part, trains) for part in values.split({chunk})]
    return torch.cat(parts).reshape(len(q), -1).numpy()


{infer}


def _listen(network, trains):
    """Collect what the populations give; return a function that stops it."""
    if trains is None:
        return lambda: None
    heard = {{}}

    def keep(name):
        def hook(module, inputs, output):
            spikes = output[0] if isinstance(output, tuple) else output
            heard.setdefault(name, []).append(spikes.numpy().copy())

        return hook

    children = network.named_children()
    hooks = [child.register_forward_hook(keep(name)) for name, child in children if name in POPULATIONS]

    def stop():
        for hook in hooks:
            hook.remove()
        for name, steps in heard.items():
            train = {train}
            trains[name] = np.concatenate([trains[name], train], axis=1) if name in trains else train

    return stop


if __name__ == "__main__":
    golden = np.load(HERE / "golden.npz")
    wrong = (infer(load(), golden["q"]) != golden["y"]).any(axis=1).sum()
    rows = len(golden["y"])
    print(f"{{NAME}} {{version(NAME)}}: {{rows - wrong}} of {{rows}} rows as expected")
    sys.exit(int(wrong > 0))
'''

_STEPWISE = """def _infer(network, values, trains):
    stop, state, total = _listen(network, trains), None, 0
    for _ in range(STEPS):
        output, state = network(values, state)
        total = total + output
    stop()
    return total"""

_ROW_BY_ROW = '''def _infer(network, values, trains):
    """One row, without the axis of a batch."""
    stop, state, total = _listen(network, trains), None, 0
    for _ in range(STEPS):
        output, state = network(values[0], state)
        total = total + output
    stop()
    return total[None]'''

_SNNTORCH = '''def _infer(network, values, trains):
    """One row, without the axis of a batch; the neurons keep their potentials themselves."""
    for module in network.modules():
        if isinstance(module, snntorch.Leaky):
            module.reset_mem()
    stop, total = _listen(network, trains), 0
    for _ in range(STEPS):
        output, _ = network(values[0])
        total = total + output
    stop()
    return total[None]'''

_SINABS = '''def _infer(network, values, trains):
    """All rows with all their steps at once: rows and steps share the first axis."""
    for module in network.modules():
        if isinstance(module, sl.StatefulLayer):
            module.reset_states()
            module.init_state_with_shape((len(values), *module.spike_threshold.shape))
    stop = _listen(network, trains)
    output, _ = network(values.repeat_interleave(STEPS, dim=0))
    stop()
    return output.unflatten(0, (-1, STEPS)).sum(dim=1)'''

_VERSION = "    from importlib.metadata import version"

_IMPORTS = {
    "spikingjelly": ["    from spikingjelly.activation_based import nir_exchange"],
    "snntorch": ["    import snntorch", "    from snntorch.import_nir import import_from_nir"],
    "norse": ["    import norse.torch"],
    "sinabs": ["    import sinabs.layers as sl", "    from sinabs.nir import from_nir"],
}

_LOAD = {
    "spikingjelly": "    return nir_exchange.import_from_nir(nir.read(path), dt=1e-4)",
    "snntorch": "    return import_from_nir(nir.read(path))",
    "norse": "    return norse.torch.from_nir(nir.read(path), ignore_warnings=True)",
    "sinabs": "    return from_nir(nir.read(path), num_timesteps=STEPS)",
}

_INFER = {
    "spikingjelly": _STEPWISE,
    "snntorch": _SNNTORCH,
    "norse": _ROW_BY_ROW,
    "sinabs": _SINABS,
}

_TRAINS = {
    "spikingjelly": "np.stack(steps)",
    "snntorch": "np.stack(steps)[:, None]",
    "norse": "np.stack(steps)[:, None]",
    "sinabs": "steps[0].reshape(-1, STEPS, *steps[0].shape[1:]).swapaxes(0, 1)",
}


def packages(profile: Profile) -> str:
    """Return what pip has to install for a consumer, as its arguments."""
    return " ".join(("torch", f"{profile.name}=={profile.version}", *profile.requirements))


def script(program: Program, profile: Profile) -> str:
    """Return the text of ``run.py``."""
    fires = tuple(step.name for step in program.steps if isinstance(step.layer, Fire))
    return _SCRIPT.format(
        file=FILE,
        name=profile.name,
        steps=program.timesteps,
        plural="" if program.timesteps == 1 else "s",
        packages=packages(profile),
        imports="\n".join([*_IMPORTS[profile.name], _VERSION]),
        load=_LOAD[profile.name],
        infer=_INFER[profile.name],
        shape=", ".join(map(str, program.shape)),
        chunk="CHUNK" if profile.batch else "1",
        # A name that was read from a file may be anything, and this becomes a program.
        fires="\n".join(f"    {json.dumps(name)}," for name in fires),
        train=_TRAINS[profile.name],
    )
