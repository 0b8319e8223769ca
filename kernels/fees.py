"""What a taker pays in each market, as counts of 1e-8, and the discount for fees paid in a token.

Without a token a leg's fee is taken from what the leg receives. With one (a venue's own coin, say) the fee is its
share less the discount, rounded up to 1e-8, and is taken from the token's balance: what the leg receives is whole.
**Assumed of that balance**: it covers every fee. Nothing here watches it; a venue whose token runs out takes the whole
fee from what is received again, and the difference is the discount and the smaller amounts.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import msgspec
import numpy as np
import numpy.typing as npt

from kernels.exchange_info import Symbol
from kernels.fixed8 import SCALE


class FeeTable(msgspec.Struct, frozen=True):
    """Fees as shares of what a leg receives, counts of 1e-8 in [0, 1e8).

    `by_symbol`: (name or pattern, fee); the name itself comes first, then the patterns (`*`, `?`, `[…]`; case counts)
    in their order, then `default_e8`. `token` empty: none, and no discount. `discount_e8` in [0, 1e8].

    Raises ValueError for a figure out of its range.
    """

    default_e8: int = 0
    by_symbol: tuple[tuple[str, int], ...] = ()
    token: str = ""
    discount_e8: int = 0

    def __post_init__(self) -> None:
        for name, fee_e8 in (("the default", self.default_e8), *self.by_symbol):
            if not 0 <= fee_e8 < SCALE:
                raise ValueError(f"a fee lies in [0, 1), not {fee_e8} / 1e8 ({name})")
        if not 0 <= self.discount_e8 <= SCALE:
            raise ValueError(f"a discount lies in [0, 1], not {self.discount_e8} / 1e8")

    def fee_e8(self, symbol: str) -> int:
        """Return what a leg in this market pays, the discount taken off where there is a token."""
        listed = dict(reversed(self.by_symbol)).get(symbol)
        if listed is None:
            matching = (fee for pattern, fee in self.by_symbol if fnmatchcase(symbol, pattern))
            listed = next(matching, self.default_e8)
        return -(-listed * (SCALE - self.discount_e8) // SCALE) if self.token else listed

    def of(self, symbols: Iterable[Symbol]) -> npt.NDArray[np.int64]:
        """Return the fee of each market, int64 [n]."""
        return np.array([self.fee_e8(one.name) for one in symbols], dtype=np.int64)
