"""A small language for vector code inside Numba functions.

A function decorated with :func:`vector_code` writes LLVM instructions into the Numba function that
calls it. :class:`Code` gives those instructions short names and hides what they have in common:
addresses are plain integers, loads and stores need no alignment, a loop is a function of its index and
of the vectors that it carries.

Whatever is written with it runs on every CPU that LLVM knows: a vector wider than the machine's is
cut into several, and nothing but speed depends on the width.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic

_cgutils: Any = cgutils  # without types

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()

Value = Any
"""An LLVM value; llvmlite has no types."""


def vector(element: Any, lanes: int) -> Any:
    """Return the type of a vector."""
    return ir.VectorType(element, lanes)


def vector_code(write: Callable[..., Value | None]) -> Callable[..., int]:
    """Make a function that Numba code can call from one that writes the instructions.

    Args:
        write: gets a :class:`Code` and one 64-bit integer per argument, and returns the result, a
            64-bit integer, or ``None``. An argument that is no ``Value`` is a constant, a number or a name
            that chooses the instructions.
    """
    parameters = list(inspect.signature(write).parameters.values())[1:]
    constant = [parameter.annotation != "Value" for parameter in parameters]
    returns = inspect.signature(write).return_annotation != "None"
    result = types.intp if returns else types.void

    def typing(_context: Any, *given: Any) -> Any:
        if any(
            chosen and not isinstance(kind, types.Literal)
            for chosen, kind in zip(constant, given, strict=True)
        ):
            return None  # Numba asks once more, with the constants

        def generate(context: Any, builder: Any, _signature: Any, arguments: Sequence[Value]) -> Value:
            each = zip(constant, given, arguments, strict=True)
            value = write(Code(builder), *[kind.literal_value if c else value for c, kind, value in each])
            return value if returns else context.get_dummy_value()

        return result(*[kind if c else types.intp for c, kind in zip(constant, given, strict=True)]), generate

    return _code(typing, [parameter.name for parameter in parameters], write.__name__, write.__doc__)


def _code(typing: Any, arguments: Sequence[str], name: str, documentation: str | None) -> Callable[..., int]:
    """Make a function that Numba code can call from what Numba asks for its types."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    typing.__signature__ = inspect.Signature([inspect.Parameter(a, kind) for a in ("context", *arguments)])
    typing.__name__, typing.__doc__ = name, documentation
    return cast(Callable[..., int], intrinsic(typing))


def call_of(count: int) -> Callable[..., int]:
    """Return the code that calls a :class:`~snnc.backends.numba_cpu.machine.cache.Routine` by its address.

    Args:
        count: of its arguments, which follow the address: records, and whatever becomes a 64-bit integer.
    """

    def typing(_context: Any, _address: Any, *arguments: Any) -> Any:
        numbers = tuple(kind if isinstance(kind, types.Record) else types.intp for kind in arguments)

        def generate(context: Any, builder: Any, _signature: Any, arguments: Sequence[Value]) -> Value:
            address, *given = arguments
            kind = context.call_conv.get_function_type(types.void, numbers)
            function = builder.inttoptr(address, kind.as_pointer())
            context.call_conv.call_function(builder, function, types.void, numbers, given)
            return context.get_dummy_value()

        return types.void(types.intp, *numbers), generate

    return _code(typing, ["address", *(f"argument_{k}" for k in range(count))], "call", call_of.__doc__)


def element_of(kind: np.dtype[np.void]) -> Callable[..., Any]:
    """Return the code that takes a record from a table, by the address of the table and the place in it."""
    record = from_dtype(kind)

    def typing(_context: Any, _address: Any, _place: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Sequence[Value]) -> Value:
            address, place = arguments
            at = builder.add(address, builder.mul(place, ir.Constant(I64, kind.itemsize)))
            return builder.inttoptr(at, context.get_value_type(record))

        return record(types.intp, types.intp), generate

    return _code(typing, ["address", "place"], "element", element_of.__doc__)


class Code:
    """Writes instructions at the end of the current block."""

    def __init__(self, builder: Any) -> None:
        """Write through ``builder``."""
        self.b = builder

    def number(self, value: int) -> Value:
        """Return a 64-bit constant."""
        return ir.Constant(I64, value)

    def all(self, kind: Any, value: float) -> Value:
        """Return a vector constant with the same number in each lane."""
        return ir.Constant(kind, [value] * kind.count)

    def spread(self, scalar: Value, kind: Any) -> Value:
        """Return a vector with ``scalar`` in each lane."""
        empty = ir.Constant(kind, ir.Undefined)
        first = self.b.insert_element(empty, scalar, ir.Constant(I32, 0))
        return self.b.shuffle_vector(first, empty, ir.Constant(vector(I32, kind.count), None))

    def pointer(self, address: Value, kind: Any) -> Value:
        """Return an address as a pointer."""
        return self.b.inttoptr(address, kind.as_pointer())

    def at(self, address: Value, offset: Value | int) -> Value:
        """Return ``address + offset``, in bytes."""
        return self.b.add(address, self.number(offset) if isinstance(offset, int) else offset)

    def load(self, kind: Any, address: Value, offset: Value | int = 0) -> Value:
        """Read a value of type ``kind``."""
        return self.b.load(self.pointer(self.at(address, offset), kind), align=1)

    def store(self, value: Value, address: Value, offset: Value | int = 0) -> None:
        """Write a value."""
        self.b.store(value, self.pointer(self.at(address, offset), value.type), align=1)

    def widen(self, value: Value, kind: Any) -> Value:
        """Sign-extend the lanes of a vector, if they are not wide enough already."""
        return value if value.type == kind else self.b.sext(value, kind)

    def halves(self, value: Value) -> tuple[Value, Value]:
        """Cut a vector in two."""
        half = value.type.count // 2
        picked = [
            self.b.shuffle_vector(value, value, ir.Constant(vector(I32, half), list(range(i, i + half))))
            for i in (0, half)
        ]
        return picked[0], picked[1]

    def least(self, one: Value, two: Value) -> Value:
        """Return the smaller of two signed integers, lane by lane."""
        return self.b.select(self.b.icmp_signed("<", one, two), one, two)

    def most(self, one: Value, two: Value) -> Value:
        """Return the larger of two signed integers, lane by lane."""
        return self.b.select(self.b.icmp_signed(">", one, two), one, two)

    def call(self, name: str, result: Any, arguments: Sequence[Value]) -> Value:
        """Call an LLVM intrinsic."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = _cgutils.get_or_insert_function(self.b.module, kind, name)
        return self.b.call(function, arguments)

    def prefetch(self, address: Value, locality: int = 3) -> None:
        """Ask for the cache line at an address, which need not be one that may be read.

        Args:
            address: of a byte in it.
            locality: 3 for the first cache, 2 for the second.
        """
        how = [ir.Constant(I32, value) for value in (0, locality, 1)]  # to be read; data
        self.call("llvm.prefetch.p0", ir.VoidType(), [self.pointer(address, I8), *how])

    def memset(self, address: Value, count: Value, value: Value) -> None:
        """Set ``count`` bytes."""
        _cgutils.memset(self.b, self.pointer(address, I8), count, value)

    def multiply(self, address: Value, factor: int) -> Value:
        """Return a product with a constant."""
        return self.b.mul(address, self.number(factor))

    def each(self, count: Value, body: Callable[[Value], None]) -> None:
        """Write ``for j in range(count): body(j)``."""

        def step(j: Value, _carried: list[Value]) -> list[Value]:
            body(j)
            return []

        self.loop(count, [], step)

    def loop(
        self,
        count: Value,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value]],
    ) -> list[Value]:
        """Write ``for j in range(count): carried = body(j, carried)`` and return what it leaves."""
        before = self.b.block
        head, inside, after = (self.b.append_basic_block(part) for part in ("head", "inside", "after"))
        self.b.branch(head)
        self.b.position_at_end(head)
        j = self.b.phi(I64)
        j.add_incoming(self.number(0), before)
        values = []
        for value in carried:
            phi = self.b.phi(value.type)
            phi.add_incoming(value, before)
            values.append(phi)
        self.b.cbranch(self.b.icmp_signed("<", j, count), inside, after)
        self.b.position_at_end(inside)
        results = body(j, list(values))
        j.add_incoming(self.b.add(j, self.number(1)), self.b.block)
        for phi, result in zip(values, results, strict=True):
            phi.add_incoming(result, self.b.block)
        self.b.branch(head)
        self.b.position_at_end(after)
        return values
