"""Sixteen numbers at once: a type for compiled functions that the processor's vector registers hold.

Left to itself, the compiler does not use them in loops over several rows of an array, as it cannot know whether the
rows overlap. Here a row of :data:`LANES` numbers is loaded, computed with and stored as one value. Inside functions
compiled by numba: ``load``, ``store``, ``fill``, ``root``, ``fused``, ``least``, ``most``,
and ``+ - * /`` with each other or a
float.

Nothing is left to the compiler that could change a digit, such as in which order a sum is added up: what it makes of
that differs between a process that has just compiled a function and one that reads it from numba's cache. The cache
does not notice changes of this module: delete it after one.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model
from numpy.typing import NDArray

LANES = 16
"""Numbers in a row."""

Lanes = Any
"""For annotations: such a value, which only compiled functions know."""

_VECTOR = ir.VectorType(ir.DoubleType(), LANES)


class _LanesType(types.Type):  # type: ignore[misc]
    """Of a row of numbers."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


_lanes = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def aligned(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Zeros whose rows of :data:`LANES` begin where a cache line does: others take twice as long to load."""
    size = math.prod(shape)
    room = np.zeros(size + 8)
    first = (-room.ctypes.data % 64) // 8
    return room[first : first + size].reshape(shape)


def _broadcast(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), mask)


def _rows_of(context: Any, builder: Any, signature: Any, args: Any) -> list[Any]:
    """The arguments of an operation; a number becomes a row of it."""
    return [
        value if kind == _lanes else _broadcast(builder, context.cast(builder, value, kind, types.float64))
        for value, kind in zip(args, signature.args, strict=True)
    ]


def _row(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Pointer to a row of a two-dimensional array whose rows are contiguous."""
    view = context.make_array(array_type)(context, builder, array)
    stride = cgutils.unpack_tuple(builder, view.strides, 2)[0]
    start = builder.add(builder.ptrtoint(view.data, stride.type), builder.mul(index, stride))
    return builder.inttoptr(start, _VECTOR.as_pointer())


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:  # noqa: ARG001
    """Row ``index`` of a two-dimensional array."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        index_value = context.cast(builder, args[1], signature.args[1], types.intp)
        pointer = _row(context, builder, signature.args[0], args[0], index_value)
        return builder.load(pointer, align=8)

    return _lanes(array, index), code


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:  # noqa: ARG001
    """Put a value into row ``index``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        index_value = context.cast(builder, args[1], signature.args[1], types.intp)
        pointer = _row(context, builder, signature.args[0], args[0], index_value)
        builder.store(args[2], pointer, align=8)
        return context.get_dummy_value()

    return types.void(array, index, _lanes), code


@intrinsic
def fill(typing: Any, number: Any) -> Any:  # noqa: ARG001
    """The same number in every lane."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _broadcast(builder, context.cast(builder, args[0], signature.args[0], types.float64))

    return _lanes(number), code


@intrinsic
def root(typing: Any, value: Any) -> Any:  # noqa: ARG001
    """Square roots."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}f64"), args)

    return _lanes(_lanes), code


@intrinsic
def fused(typing: Any, left: Any, right: Any, total: Any) -> Any:  # noqa: ARG001
    """``left * right + total``, rounded once; left and right may be numbers."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f64")
        return builder.call(function, _rows_of(context, builder, signature, args))

    return _lanes(left, right, total), code


def _choice(comparison: str) -> Any:
    @intrinsic
    def choose(typing: Any, left: Any, right: Any) -> Any:  # noqa: ARG001
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, b = _rows_of(context, builder, signature, args)
            return builder.select(builder.fcmp_ordered(comparison, a, b), a, b)

        return _lanes(left, right), code

    return choose


least = _choice("<")
most = _choice(">")


def _arithmetic(operation: Callable[..., Any], instruction: str) -> None:
    @intrinsic
    def combine(typing: Any, left: Any, right: Any) -> Any:  # noqa: ARG001
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, b = _rows_of(context, builder, signature, args)
            return getattr(builder, instruction)(a, b)

        return _lanes(left, right), code

    @overload(operation)
    def choose(left, right):  # type: ignore[no-untyped-def]  # numba compares this signature with the lambda's
        numbers = (types.Float, types.Integer)
        if left == _lanes and (right == _lanes or isinstance(right, numbers)):
            return lambda left, right: combine(left, right)  # noqa: PLW0108 - numba wants a function
        if right == _lanes and isinstance(left, numbers):
            return lambda left, right: combine(left, right)  # noqa: PLW0108
        return None


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_operation, _instruction)
for _operation, _instruction in ((operator.iadd, "fadd"), (operator.isub, "fsub"), (operator.imul, "fmul")):
    _arithmetic(_operation, _instruction)
