"""Atomic loads, stores and fences on elements of int64 arrays, for compiled code only.

Each is an LLVM instruction with the ordering it names, so it is right on x86-64 and on arm64 alike: the compiler may
not move or split it, and the processor is told what it must not reorder. The orderings mean what C11 says of them.
An address must be aligned to 8 bytes, which any element of an aligned int64 array is. Indices are not checked.

Source: LLVM Language Reference, "Atomic Memory Ordering Constraints"; H.-J. Boehm, "Can Seqlocks Get Along With
Programming Language Memory Models?" (MSPC 2012), section 4, for which of them a seqlock needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_ALIGN_BYTES: Final = 8


def _load(ordering: str, signature_name: str) -> Any:
    def typed(typing_context: Any, array: Any, index: Any) -> tuple[Any, Callable[..., Any]] | None:
        if not _is_int64_vector(array):
            return None

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address = _address(context, builder, signature, arguments)
            return builder.load_atomic(address, ordering, _ALIGN_BYTES, typ=ir.IntType(64))

        return types.int64(array, types.intp), emit

    typed.__name__ = typed.__qualname__ = signature_name
    return intrinsic(typed)


def _store(ordering: str, signature_name: str) -> Any:
    def typed(typing_context: Any, array: Any, index: Any, value: Any) -> tuple[Any, Callable[..., Any]] | None:
        if not (_is_int64_vector(array) and array.mutable):
            return None

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address = _address(context, builder, signature, arguments)
            builder.store_atomic(arguments[2], address, ordering, _ALIGN_BYTES)
            return context.get_dummy_value()

        return types.void(array, types.intp, types.int64), emit

    typed.__name__ = typed.__qualname__ = signature_name
    return intrinsic(typed)


def _fence(ordering: str, signature_name: str) -> Any:
    def typed(typing_context: Any) -> tuple[Any, Callable[..., Any]]:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            builder.fence(ordering)
            return context.get_dummy_value()

        return types.void(), emit

    typed.__name__ = typed.__qualname__ = signature_name
    return intrinsic(typed)


def _is_int64_vector(array: Any) -> bool:
    return isinstance(array, types.Array) and array.ndim == 1 and array.dtype == types.int64 and array.aligned


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    kind = signature.args[0]
    array = context.make_array(kind)(context, builder, arguments[0])
    return cgutils.get_item_pointer(context, builder, kind, array, [arguments[1]], wraparound=False)


load_acquire = _load("acquire", "load_acquire")
"""`load_acquire(array, index)`: nothing after it moves before it."""

load_relaxed = _load("monotonic", "load_relaxed")
"""`load_relaxed(array, index)`: not torn, not ordered."""

store_release = _store("release", "store_release")
"""`store_release(array, index, value)`: nothing before it moves after it."""

store_relaxed = _store("monotonic", "store_relaxed")
"""`store_relaxed(array, index, value)`: not torn, not ordered."""

fence_acquire = _fence("acquire", "fence_acquire")
"""`fence_acquire()`: loads before it stay before everything after it."""

fence_release = _fence("release", "fence_release")
"""`fence_release()`: everything before it stays before stores after it."""
