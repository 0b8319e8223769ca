"""Account values as a gateway tells them, collected into figures; and only whole: a figure that is missing is unknown.

IB tells each value with a currency: the account's base currency, `BASE` for totals over several, or none. Figures
whose rows do not agree on one currency have none, and then nobody counts on them.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from actors.messages import AccountFigures, VenueHolding
from kernels.fixed8 import COUNT_MAX, SCALE

CASH, EQUITY, AVAILABLE, BUYING_POWER = "TotalCashValue", "NetLiquidation", "AvailableFunds", "BuyingPower"
WANTED = (CASH, EQUITY, AVAILABLE, BUYING_POWER)
NO_CURRENCY = frozenset({"", "BASE"})


class AccountReading:
    """Takes every report of the link while the account is asked for; reports of other accounts are left.

    `as_of_ns` has to be before the asking: whatever happened by then is inside.
    """

    def __init__(self, account: str, as_of_ns: int) -> None:
        self.name = account
        self._as_of_ns = as_of_ns
        self._rows: dict[str, dict[str, str]] = {}
        self._holdings: dict[str, VenueHolding] = {}

    def value(self, account: str, key: str, value: str, currency: str) -> None:
        """Take one value; the last word on a key and currency counts."""
        if account == self.name and key in WANTED:
            self._rows.setdefault(key, {})[currency] = value

    def holding(self, account: str, holding: VenueHolding) -> None:
        """Take one position."""
        if account == self.name:
            self._holdings[holding.symbol] = holding

    def figures(self) -> AccountFigures | None:
        """Return them; None where one is missing or no number."""
        amounts: dict[str, int] = {}
        currencies: set[str] = set()
        for key in WANTED:
            rows = self._rows.get(key, {})
            named = {currency: text for currency, text in rows.items() if currency not in NO_CURRENCY} or rows
            if not named:
                return None
            currencies |= named.keys()
            amount = _fixed8(next(iter(named.values())))
            if amount is None:
                return None
            amounts[key] = amount
        single = currencies.pop() if len(currencies) == 1 else ""
        return AccountFigures(
            account=self.name,
            currency="" if single in NO_CURRENCY else single,
            cash=amounts[CASH],
            net_liquidation=amounts[EQUITY],
            available_funds=amounts[AVAILABLE],
            buying_power=amounts[BUYING_POWER],
            as_of_ns=self._as_of_ns,
            holdings=tuple(one for one in self._holdings.values() if one.qty),
        )


def _fixed8(text: str) -> int | None:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    if not amount.is_finite() or abs(amount) * SCALE > COUNT_MAX:
        return None
    return int(amount * SCALE)
