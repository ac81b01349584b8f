"""Building blocks of vector code: addresses in arrays, loops with values in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def call(builder: Any, name: str, result: Any, *values: Any) -> Any:
    """A call of an LLVM intrinsic by name."""
    kind = ir.FunctionType(result, [value.type for value in values])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, values)


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """A vector of equal lanes."""
    kind = ir.VectorType(value.type, lanes)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
    return builder.shuffle_vector(
        single, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    )


class Pointers:
    """Addresses into the array arguments of an intrinsic."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.builder = builder
        self.values: dict[int, Any] = {}
        for number, (kind, value) in enumerate(zip(signature.args, args, strict=True)):
            if isinstance(kind, types.Array):
                self.values[number] = cgutils.create_struct_proxy(kind)(context, builder, value).data

    def at(self, number: int, index: Any, kind: Any) -> Any:
        """Element ``index`` of array argument ``number`` as a pointer to ``kind``."""
        return self.builder.bitcast(self.builder.gep(self.values[number], [index]), kind.as_pointer())

    def load(self, number: int, index: Any, kind: Any) -> Any:
        return self.builder.load(self.at(number, index, kind), align=1)

    def store(self, number: int, index: Any, value: Any) -> None:
        self.builder.store(value, self.at(number, index, value.type), align=1)


def loop(builder: Any, count: Any, first: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """``count`` rounds of ``body(index, values) -> values``, in registers."""
    before = builder.block
    head, inside, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(I64)
    values = [builder.phi(value.type) for value in first]
    builder.cbranch(builder.icmp_signed("<", index, count), inside, after)
    builder.position_at_end(inside)
    results = body(index, values)
    step = builder.add(index, ir.Constant(I64, 1))
    end = builder.block
    builder.branch(head)
    index.add_incoming(ir.Constant(I64, 0), before)
    index.add_incoming(step, end)
    for phi, start, result in zip(values, first, results, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(result, end)
    builder.position_at_end(after)
    return values


def contiguous(kind: types.Type, dtype: types.Type) -> bool:
    """Whether an argument is a C-contiguous array of this type."""
    return isinstance(kind, types.Array) and kind.layout == "C" and kind.dtype == dtype


def length(context: Any, builder: Any, signature: Any, args: Any, number: int) -> Any:
    """Elements of an array argument."""
    array = cgutils.create_struct_proxy(signature.args[number])(context, builder, args[number])
    return array.nitems
