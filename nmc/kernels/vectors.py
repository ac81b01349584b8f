"""Building blocks of vector code: addresses in arrays, loops with values in registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError

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


def align_stack(builder: Any) -> None:
    """Let the stack begin with a line of the cache, so that no vector that finds no register crosses one.

    The compiler does so for vectors that have a name and not for those: so one is named, and shown to a piece of
    assembly without instructions, through which the compiler does not look.
    """
    slot = cgutils.alloca_once(builder, ir.VectorType(I32, 16))
    slot.align = 64
    kind = ir.FunctionType(ir.VoidType(), [slot.type])
    builder.call(ir.InlineAsm(kind, "", "r", side_effect=True), [slot])


class Pointers:
    """Addresses into the array arguments of an intrinsic, those inside named tuples included.

    Kernels give the intrinsics whole tuples: taking an array out of one in a loop would count its references.
    """

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any, names: tuple[str, ...]) -> None:
        self.builder = builder
        self.values: dict[str, Any] = {}
        for name, kind, value in zip(names, signature.args, args, strict=False):
            if isinstance(kind, types.NamedTuple):
                for number, (field, inner) in enumerate(zip(kind.fields, kind.types, strict=True)):
                    self._take(context, field, inner, builder.extract_value(value, number))
            else:
                self._take(context, name, kind, value)

    def _take(self, context: Any, name: str, kind: types.Type, value: Any) -> None:
        if isinstance(kind, types.Array):
            self.values[name] = cgutils.create_struct_proxy(kind)(context, self.builder, value).data

    def at(self, name: str, index: Any, kind: Any) -> Any:
        """Element ``index`` of an array as a pointer to ``kind``."""
        return self.builder.bitcast(self.builder.gep(self.values[name], [index]), kind.as_pointer())

    def load(self, name: str, index: Any, kind: Any) -> Any:
        return self.builder.load(self.at(name, index, kind), align=1)

    def store(self, name: str, index: Any, value: Any) -> None:
        self.builder.store(value, self.at(name, index, value.type), align=1)


def joined(builder: Any, parts: list[Any]) -> Any:
    """Vectors of one type, one behind the other; as many as a power of two."""
    while len(parts) > 1:
        count = parts[0].type.count
        order = ir.Constant(ir.VectorType(I32, 2 * count), list(range(2 * count)))
        parts = [builder.shuffle_vector(a, b, order) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def pieces(builder: Any, whole: Any, order: list[list[int]]) -> list[Any]:
    """Vectors of the named elements of one."""
    none = ir.Constant(whole.type, ir.Undefined)
    return [
        builder.shuffle_vector(whole, none, ir.Constant(ir.VectorType(I32, len(places)), places)) for places in order
    ]


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
    _as_written(builder.module, builder.branch(head))
    index.add_incoming(ir.Constant(I64, 0), before)
    index.add_incoming(step, end)
    for phi, start, result in zip(values, first, results, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(result, end)
    builder.position_at_end(after)
    return values


def _as_written(module: Any, branch: Any) -> None:
    """Tell the optimiser not to unroll the loop that a branch closes: its registers are counted."""
    option = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    number = ir.Constant(I64, len(module.metadata))
    mark = module.add_metadata([option, module.add_metadata([number])])
    # The first operand of a loop's mark is the mark itself.
    mark.operands = (mark, option)
    branch.set_metadata("llvm.loop", mark)


def check(kinds: Mapping[str, types.Type], wanted: Mapping[str, types.Type]) -> None:
    """Refuse arguments whose arrays are not C-contiguous and of their types.

    Args:
        kinds: arguments by name; of named tuples the fields count.
        wanted: the type of each array by name.

    Raises:
        TypingError: numba's, at compile time.
    """
    held = dict(kinds)
    for kind in kinds.values():
        if isinstance(kind, types.NamedTuple):
            held.update(zip(kind.fields, kind.types, strict=True))
    for name, dtype in wanted.items():
        array = held.get(name)
        if not (isinstance(array, types.Array) and array.layout == "C" and array.dtype == dtype):
            raise TypingError(f"'{name}' has to be a C-contiguous array of {dtype}")
