"""The C loops of the functions of spike counts, and how they go through values whose channels lie last.

All is integer. C leaves it open how a negative number is shifted, and truncates quotients, so both are
written out. Products and sums have 32 bits where :meth:`snnc.ir.counts.CountFunction.reach` proves that they
suffice, else 64; a normalisation has 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from string import Template

from snnc.errors import InternalError
from snnc.ir.bounds import INT32
from snnc.ir.counts import ROOT_BITS
from snnc.ir.graph import Shape
from snnc.ir.snn import (
    CountMatrixProduct,
    CountMaximum,
    CountNormalisation,
    CountProduct,
    CountSoftmax,
    Function,
)

MOST_AXES = 4
"""Axes of a value that a function reads: as many as its loops go through."""

FUNCTION_STRUCTURES = """
/* Two factors, an element 0 apart where it is repeated, and a requantiser. */
typedef struct {
    int32_t size0, size1, size2, size3, a0, a1, a2, a3, b0, b1, b2, b3;
    int32_t multiplier, shift, lowest, highest;
} product;

/* Two stacks of matrices, how far apart their elements lie, and a requantiser. */
typedef struct {
    int32_t size0, size1, rows, columns, inner;
    int32_t a0, a1, a_row, a_inner, b0, b1, b_inner, b_column, to0, to1, to_row, to_column;
    int32_t multiplier, shift, lowest, highest;
} matrices;

/* Groups of elements: how many groups along two axes, and of how many elements along two others. */
typedef struct {
    int32_t kept0, kept1, apart0, apart1, size0, size1, step0, step1;
} groups;
"""

REQUANTISED = Template("""
/* Scale a sum, round, and clip; shifts round toward minus infinity. */
static int32_t requantised$bits(
    int${bits}_t sum, int32_t multiplier, int32_t shift, int32_t lowest, int32_t highest)
{
    const int${bits}_t raised = sum * multiplier + (((int${bits}_t)1 << shift) >> 1);
    const int${bits}_t found = raised < 0 ? ~(~raised >> shift) : raised >> shift;
    return found < lowest ? lowest : found > highest ? highest : (int32_t)found;
}
""")

ROOT = """
/* The integer square root, rounded down, bit by bit. */
static int64_t integer_root(int64_t value)
{
    int64_t root = 0, bit = (int64_t)1 << 60;
    while (bit > value) {
        bit >>= 2;
    }
    while (bit) {
        if (value >= root + bit) {
            value -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
        bit >>= 2;
    }
    return root;
}
"""

_PRODUCT = """
/* Products of counts, element by element. */
static void $$name(const $$t0 *a, const $$t1 *b, const product *p, $$t2 *restrict out)
{
    for (int32_t i = 0; i < p->size0; i++) {
        for (int32_t j = 0; j < p->size1; j++) {
            for (int32_t k = 0; k < p->size2; k++) {
                const $$t0 *const left = a + i * p->a0 + j * p->a1 + k * p->a2;
                const $$t1 *const right = b + i * p->b0 + j * p->b1 + k * p->b2;
                for (int32_t l = 0; l < p->size3; l++) {
                    const int${bits}_t x = (int${bits}_t)left[l * p->a3] * right[l * p->b3];
                    *out++ = ($$t2)requantised$bits(x, p->multiplier, p->shift, p->lowest, p->highest);
                }
            }
        }
    }
}
"""

_MATRICES = """
/* Products of matrices of counts. */
static void $$name(const $$t0 *a, const $$t1 *b, const matrices *p, $$t2 *restrict out)
{
    for (int32_t s = 0; s < p->size0 * p->size1; s++) {
        const int32_t i = s / p->size1, j = s % p->size1;
        for (int32_t row = 0; row < p->rows; row++) {
            for (int32_t column = 0; column < p->columns; column++) {
                const $$t0 *const left = a + i * p->a0 + j * p->a1 + row * p->a_row;
                const $$t1 *const right = b + i * p->b0 + j * p->b1 + column * p->b_column;
                int${bits}_t x = 0;
                for (int32_t k = 0; k < p->inner; k++) {
                    x += (int${bits}_t)left[k * p->a_inner] * right[k * p->b_inner];
                }
                out[i * p->to0 + j * p->to1 + row * p->to_row + column * p->to_column] =
                    ($$t2)requantised$bits(x, p->multiplier, p->shift, p->lowest, p->highest);
            }
        }
    }
}
"""

_EACH = """
    for (int32_t first = 0; first < g->kept0 * g->kept1; first++) {
        const int32_t base = first / g->kept1 * g->apart0 + first % g->kept1 * g->apart1;"""

_ELEMENTS = """for (int32_t i = 0; i < g->size0; i++) {
            for (int32_t j = 0; j < g->size1; j++) {
                const int32_t at = base + i * g->step0 + j * g->step1;"""

_SOFTMAX = f"""
/* Softmax of counts by a table of the exponential function. */
static void $$name(
    const $$t0 *values, const $$t1 *table, const groups *g, int32_t last, int32_t levels, $$t2 *restrict out)
{{{_EACH}
        int32_t highest = values[base];
        int${{bits}}_t sum = 0;
        {_ELEMENTS}
                highest = values[at] > highest ? values[at] : highest;
            }}
        }}
        {_ELEMENTS}
                const int${{bits}}_t below = (int${{bits}}_t)highest - values[at];
                sum += table[below < last ? below : last];
            }}
        }}
        {_ELEMENTS}
                const int${{bits}}_t below = (int${{bits}}_t)highest - values[at];
                const int${{bits}}_t e = table[below < last ? below : last];
                out[at] = ($$t2)((levels * e + sum / 2) / sum);
            }}
        }}
    }}
}}
"""

_NORM = f"""
/* Counts normalised by their own mean and variance. */
static void $name(
    const $t0 *values, const groups *g, int32_t centred, int64_t epsilon, int64_t factor, int32_t lowest,
    int32_t highest, $t1 *restrict out)
{{
    const int64_t n = (int64_t)g->size0 * g->size1;{_EACH}
        int64_t first_sum = 0, square_sum = 0;
        {_ELEMENTS}
                first_sum += values[at];
                square_sum += (int64_t)values[at] * values[at];
            }}
        }}
        if (!centred) {{
            first_sum = 0;
        }}
        const int64_t spread = n * square_sum - first_sum * first_sum + epsilon;
        const int64_t d = integer_root(spread * {4**ROOT_BITS});
        {_ELEMENTS}
                const int64_t raised = (n * values[at] - first_sum) * factor + d / 2;
                const int64_t found = raised < 0 ? -((-raised + d - 1) / d) : raised / d;
                out[at] = ($t1)(found < lowest ? lowest : found > highest ? highest : found);
            }}
        }}
    }}
}}
"""

_MAXIMUM = f"""
/* The largest count of each group. */
static void $name(const $t0 *values, const groups *g, $t1 *restrict out)
{{{_EACH}
        $t0 highest = values[base];
        {_ELEMENTS}
                highest = values[at] > highest ? values[at] : highest;
            }}
        }}
        *out++ = ($t1)highest;
    }}
}}
"""

FUNCTIONS = {
    f"{name}{bits}": Template(text).substitute(bits=bits)
    for name, text in (
        ("count_product", _PRODUCT),
        ("count_matrices", _MATRICES),
        ("count_softmax", _SOFTMAX),
    )
    for bits in (32, 64)
} | {"count_norm": _NORM, "count_maximum": _MAXIMUM}
"""Kernel name -> text."""

HELPERS = {
    REQUANTISED.substitute(bits=bits): {f"count_product{bits}", f"count_matrices{bits}"} for bits in (32, 64)
}
HELPERS[ROOT] = {"count_norm"}
"""Functions without types -> the kernels that call them."""


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """How a function of counts is called.

    Attributes:
        kernel: its name.
        structure: the kind of its constant structure.
        members: of that structure.
        numbers: further arguments, behind it.
    """

    kernel: str
    structure: str
    members: tuple[int, ...]
    numbers: tuple[int, ...] = ()


def function_call(node: Function, shapes: Sequence[Shape], counts: Sequence[int]) -> FunctionCall:
    """Return the call of a function.

    Args:
        node: the function.
        shapes: of what it reads.
        counts: the largest magnitude of the counts that it reads.
    """
    bits = 32 if node.reach(counts, shapes) < INT32 else 64
    match node:
        case CountProduct():
            sizes, a, b = _together(node.shape, *(_repeated(shape, node.shape) for shape in shapes))
            settings = (node.multiplier, node.shift, node.lowest, node.highest)
            shifted = bits if node.shift < bits - 1 else 64
            return FunctionCall(f"count_product{shifted}", "product", (*sizes, *a, *b, *settings))
        case CountMatrixProduct():
            shifted = bits if node.shift < bits - 1 else 64
            return FunctionCall(f"count_matrices{shifted}", "matrices", _matrices(node, shapes))
        case CountSoftmax():
            numbers = (len(node.table) - 1, node.levels)
            return FunctionCall(f"count_softmax{bits}", "groups", _groups(node.shape, (node.axis,)), numbers)
        case CountNormalisation():
            norm = (int(node.centred), node.epsilon, node.factor, node.lowest, node.highest)
            return FunctionCall("count_norm", "groups", _groups(node.shape, node.axes), norm)
        case CountMaximum():
            return FunctionCall("count_maximum", "groups", _groups(shapes[0], node.axes))


def _apart(shape: Shape) -> tuple[int, ...]:
    """Return how far neighbours along each axis lie apart where the channels lie last."""
    return (1, *(shape[0] * prod(shape[axis + 1 :]) for axis in range(1, len(shape))))


def _in_memory(shape: Shape) -> tuple[int, ...]:
    """Return the axes of a shape, the one whose neighbours lie furthest apart first."""
    return (*range(1, len(shape)), 0)


def _repeated(shape: Shape, whole: Shape) -> tuple[int, ...]:
    """Return the same distances of a factor, 0 along axes that are repeated."""
    apart = _apart(shape)
    return tuple(
        0 if size == 1 and wanted > 1 else far for size, wanted, far in zip(shape, whole, apart, strict=True)
    )


def _together(shape: Shape, *apart: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Join axes that one loop goes through; return the sizes of four loops and the distances in each."""
    loops: list[list[int]] = []
    for axis in _in_memory(shape):
        size, fars = shape[axis], [far[axis] for far in apart]
        if loops and all(before == size * far for before, far in zip(loops[-1][1:], fars, strict=True)):
            loops[-1] = [loops[-1][0] * size, *fars]
        elif size > 1:
            loops.append([size, *fars])
    if len(loops) > MOST_AXES:
        raise InternalError(f"a product over {len(loops)} axes: `check` refuses it")
    filled = [[1] + [0] * len(apart)] * (MOST_AXES - len(loops)) + loops
    return list(zip(*filled, strict=True))


def _matrices(node: CountMatrixProduct, shapes: Sequence[Shape]) -> tuple[int, ...]:
    """Return the members of C's ``matrices``."""
    first, second = shapes
    stack = len(first) - 2
    if stack > MOST_AXES - 2:
        raise InternalError(f"{node.name!r} multiplies stacks of {stack} axes: `check` refuses it")

    def distances(shape: Shape) -> tuple[int, ...]:
        *outer, row, column = _apart(shape)
        return (*[0] * (2 - stack), *outer, row, column)

    b0, b1, *inner_column = distances(second)
    if node.transposed:
        inner_column.reverse()
    sizes = (*[1] * (2 - stack), *first[:-1], node.shape[-1], first[-1])
    settings = (node.multiplier, node.shift, node.lowest, node.highest)
    return (*sizes, *distances(first), b0, b1, *inner_column, *distances(node.shape), *settings)


def _groups(shape: Shape, axes: Shape) -> tuple[int, ...]:
    """Return the members of C's ``groups`` of the elements along some axes."""
    apart = _apart(shape)
    kept: list[tuple[int, int]] = []
    inside: list[tuple[int, int]] = []
    last: list[tuple[int, int]] | None = None
    for axis in _in_memory(shape):
        if shape[axis] == 1:
            continue
        loops = inside if axis in axes else kept
        if loops is last:
            size, _ = loops.pop()
            loops.append((size * shape[axis], apart[axis]))
        else:
            loops.append((shape[axis], apart[axis]))
        last = loops
    if max(len(kept), len(inside)) > MOST_AXES // 2:
        raise InternalError(f"groups over the axes {axes} of {shape}: `check` refuses them")

    def filled(loops: list[tuple[int, int]]) -> tuple[int, ...]:
        (first, far), (second, near) = [(1, 0)] * (2 - len(loops)) + loops
        return first, second, far, near

    return (*filled(kept), *filled(inside))
