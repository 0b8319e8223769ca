"""Messages about what a contract asks of orders, what the account has, and the last word on an entry before a write."""

from __future__ import annotations

import msgspec

from actors.message import Message
from kernels.contract_terms import ContractTerms


class ReadContract(Message, frozen=True):
    """Broker to its driver: what does this contract ask of orders; and have its price heard. Answered in seconds."""

    session_id: str
    symbol: str


class ContractRead(Message, frozen=True):
    """The answer to `ReadContract`. No `terms`: `fault` says why they are not known."""

    session_id: str
    symbol: str
    terms: ContractTerms | None = None
    fault: str = ""


class VenueHolding(msgspec.Struct, frozen=True, gc=False):
    """A position as the account's portfolio tells it, with the venue's own price of it."""

    symbol: str
    qty: int
    px: int


class AccountFigures(msgspec.Struct, frozen=True, gc=False):
    """What the account has, Fixed8, in `currency` (empty: the venue did not say in which, or in several).

    `as_of_ns` is when it was asked for: everything before it is inside.
    """

    account: str
    currency: str
    cash: int
    net_liquidation: int
    available_funds: int
    buying_power: int
    as_of_ns: int
    holdings: tuple[VenueHolding, ...] = ()


class OurCash(msgspec.Struct, frozen=True, gc=False):
    """What our own fills and commissions did to the cash, ever: `flow`, Fixed8.

    `untold`: fills whose commission nobody has told yet. `changed_ns`: when the flow changed last, by our clock.
    """

    flow: int
    untold: int
    changed_ns: int


class SubmitRefused(Message, frozen=True):
    """Known for certain: not one byte of these orders left, because a guard at the socket objected, with figures.

    Unlike `SubmitNotSent` it is not tried again.
    """

    session_id: str
    intent_id: str
    client_order_ids: tuple[str, ...]
    guard: str
    figures: dict[str, str]
