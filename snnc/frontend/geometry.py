"""From ONNX's attributes of sliding windows to the IR's window."""

from __future__ import annotations

from snnc.frontend.call import Call
from snnc.frontend.refusals import check_size
from snnc.ir.geometry import Window

Pair = tuple[int, int]


def read_window(call: Call, size: Pair, kernel: Pair, rank: int, *, rounds_up: bool = False) -> Window:
    """Read strides, dilations and pads.

    Args:
        call: a convolution or a pooling.
        size: height and width of the input.
        kernel: height and width of the window.
        rank: number of spatial axes in the file, 1 or 2.
        rounds_up: whether a last window that is not full counts, as ``ceil_mode`` has it; the pads at the
            bottom and at the right then reach as far as that window.

    Raises:
        RefusalError: an attribute has a form that is not supported.
    """
    strides = _pair(call, "strides", rank)
    dilations = _pair(call, "dilations", rank)
    if min(*kernel, *strides, *dilations) < 1:
        call.refuse("kernel, strides and dilations must be positive", "export the model again")
    reach = (dilations[0] * (kernel[0] - 1) + 1, dilations[1] * (kernel[1] - 1) + 1)
    same = str(call.attribute("auto_pad")).startswith("SAME")
    if same and reach != kernel and call.proto.op_type != "Conv":
        call.refuse(
            "with auto_pad and dilations, runtimes disagree how far it is padded",
            "use pads instead of auto_pad",
        )
    before, after = _pads(call, size, reach, strides, rank)
    if min(*before, *after) < 0:
        call.refuse("negative pads", "cut the input by Slice instead")
    if rounds_up:
        after = _up(size, reach, strides, before, after)
    window = Window(kernel, strides, (*before, *after), dilations)
    if any(n + b + a < r for n, b, a, r in zip(size, before, after, reach, strict=True)):
        call.refuse(f"its window of {reach} is larger than its input of {size}", "use larger images")
    check_size(window.output_size(*size), call.origin)
    return window


def kernel_shape(call: Call, rank: int) -> Pair | None:
    """Return the attribute ``kernel_shape``, or ``None`` if it is not given."""
    return None if call.attribute("kernel_shape") is None else _pair(call, "kernel_shape", rank)


def _pair(call: Call, name: str, rank: int) -> Pair:
    """Read one integer per spatial axis, 1 by default."""
    values = call.integers(name) or (1,) * rank
    if len(values) != rank:
        call.refuse(f"{name} {values} do not fit {rank} spatial axes", "export the model again")
    return (values[0], values[1]) if rank == 2 else (1, values[0])


def _pads(call: Call, size: Pair, reach: Pair, strides: Pair, rank: int) -> tuple[Pair, Pair]:
    """Return the pads before and after, by ``pads`` or ``auto_pad``."""
    mode = call.attribute("auto_pad") or "NOTSET"
    if mode == "VALID":
        return (0, 0), (0, 0)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [(-(-n // s) - 1) * s + r - n for n, s, r in zip(size, strides, reach, strict=True)]
        if min(wanted) < -1 and call.proto.op_type != "Conv":
            call.refuse(
                "with auto_pad and strides beyond its kernel, runtimes disagree where its windows lie",
                "use pads instead of auto_pad",
            )
        total = [max(n, 0) for n in wanted]
        less, more = [n // 2 for n in total], [n - n // 2 for n in total]
        first, last = (less, more) if mode == "SAME_UPPER" else (more, less)
        return (first[0], first[1]), (last[0], last[1])
    if mode != "NOTSET":
        call.refuse(f"auto_pad {mode!r} is unknown", "export the model again")
    pads = call.integers("pads") or (0,) * (2 * rank)
    if len(pads) != 2 * rank:
        call.refuse(f"pads {pads} do not fit {rank} spatial axes", "export the model again")
    return ((pads[0], pads[1]), (pads[2], pads[3])) if rank == 2 else ((0, pads[0]), (0, pads[1]))


def _up(size: Pair, reach: Pair, strides: Pair, before: Pair, after: Pair) -> Pair:
    """Return the pads after that let the last, partial window be a full one.

    A window that would start behind the input is left out, as onnxruntime and PyTorch do.
    """
    grown = []
    for n, r, s, b, a in zip(size, reach, strides, before, after, strict=True):
        count = -(-(n + b + a - r) // s) + 1
        if (count - 1) * s >= n + b:
            count -= 1
        grown.append(max((count - 1) * s + r - n - b, 0))
    return grown[0], grown[1]
