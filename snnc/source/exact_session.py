"""Sessions of onnxruntime that compute integers exactly, wherever it can."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort

EXACT_BYTES = "session.x64quantprecision"


def exact_session(model: Any, options: ort.SessionOptions, **more: Any) -> ort.InferenceSession:
    """Open a model on the CPU.

    On x64 processors without VNNI onnxruntime sums two products of bytes in 16 bits, and saturates, unless it
    is told not to. A few networks it cannot open then, for lack of a kernel: these run as it does by itself.

    Args:
        model: its bytes, or the path of its file.
        options: of the session; changed.
        more: further arguments of ``onnxruntime.InferenceSession``.
    """
    providers = ["CPUExecutionProvider"]
    options.add_session_config_entry(EXACT_BYTES, "1")
    try:
        return ort.InferenceSession(model, options, providers=providers, **more)
    except Exception:  # noqa: BLE001 - onnxruntime's exceptions have no root of their own
        options.add_session_config_entry(EXACT_BYTES, "0")
        return ort.InferenceSession(model, options, providers=providers, **more)
