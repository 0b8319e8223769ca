"""Arrays handed to compiled code by their addresses, all in one: unpacking twenty array arguments costs more time than
most calls then take.

A `Block` is an int64 vector with an address and a length for each of its arrays. Compiled code opens one by its place:
`int64s_in(block, place)`. The view is of the dtype that the function names, and nothing checks it against the array's:
whoever makes a block and whoever opens it share the places' names, in one file.

Source: LLVM Language Reference, `inttoptr`; numba's array structure (data, shape and strides, no owner).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

WORDS_A_PLACE: Final = 2


class Block:
    """Keeps its arrays alive, and says where they are: `words` is what a compiled function is given."""

    __slots__ = ("_arrays", "words")

    def __init__(self, arrays: Mapping[int, npt.NDArray[Any]]) -> None:
        """Take each array at its place. They must be contiguous, and must not be resized while the block lives."""
        self._arrays: dict[int, npt.NDArray[Any]] = {}
        self.words = np.zeros((max(arrays) + 1) * WORDS_A_PLACE, dtype=np.int64)
        for place, array in arrays.items():
            self.put(place, array)

    def put(self, place: int, array: npt.NDArray[Any]) -> None:
        """Set the array at a place, or replace it. Raises ValueError where it is not contiguous."""
        if not array.flags.c_contiguous:
            raise ValueError(f"the array at place {place} is not contiguous: its address alone does not say what it is")
        self._arrays[place] = array
        self.words[place * WORDS_A_PLACE] = array.ctypes.data
        self.words[place * WORDS_A_PLACE + 1] = array.size


def _opened(dtype: Any, signature_name: str, *, mutable: bool = True) -> Any:
    kind = types.Array(dtype, 1, "C", readonly=not mutable)

    def typed(typing_context: Any, block: Any, place: Any) -> tuple[Any, Callable[..., Any]] | None:
        if not isinstance(block, types.Array) or block.dtype != types.int64 or not isinstance(place, types.Integer):
            return None
        return kind(block, types.intp), _emit

    def _emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = context.make_array(signature.args[0])(context, builder, arguments[0])
        at = builder.mul(arguments[1], ir.Constant(arguments[1].type, WORDS_A_PLACE))
        address = builder.load(builder.gep(block.data, [at]))
        length = builder.load(builder.gep(block.data, [builder.add(at, ir.Constant(at.type, 1))]))
        data = builder.inttoptr(address, context.get_data_type(dtype).as_pointer())
        itemsize = context.get_constant(types.intp, dtype.bitwidth // 8)
        view = context.make_array(kind)(context, builder)
        populate_array(
            view,
            data=data,
            shape=cgutils.pack_array(builder, [length]),
            strides=cgutils.pack_array(builder, [itemsize]),
            itemsize=itemsize,
            meminfo=None,
        )
        return view._getvalue()

    typed.__name__ = typed.__qualname__ = signature_name
    return intrinsic(typed)


int64s_in = _opened(types.int64, "int64s_in")
"""`int64s_in(block, place)`: an int64 vector."""

read_only_int64s_in = _opened(types.int64, "read_only_int64s_in", mutable=False)
"""`read_only_int64s_in(block, place)`: an int64 vector that may only be read."""

read_only_int32s_in = _opened(types.int32, "read_only_int32s_in", mutable=False)
"""`read_only_int32s_in(block, place)`: an int32 vector that may only be read."""

int32s_in = _opened(types.int32, "int32s_in")
"""`int32s_in(block, place)`: an int32 vector."""

uint32s_in = _opened(types.uint32, "uint32s_in")
"""`uint32s_in(block, place)`: a uint32 vector, whose elements are indices without a look at their sign."""

uint8s_in = _opened(types.uint8, "uint8s_in")
"""`uint8s_in(block, place)`: a uint8 vector."""

float64s_in = _opened(types.float64, "float64s_in")
"""`float64s_in(block, place)`: a float64 vector."""
