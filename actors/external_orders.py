"""What the broker actor keeps of orders that are not ours, and the rows that it shows of fills."""

from __future__ import annotations

import enum

import msgspec

from kernels.order_state import OrderState


class ExternalOrders(enum.StrEnum):
    """What is done about orders at our account that are not ours: other programs', and those placed by hand."""

    IGNORE = "ignore"
    """Counted, and nothing else."""
    ALERT = "alert"
    """Alarmed with its evidence, and left alone."""
    ADOPT = "adopt"
    """Followed: its state is shown, its executions move our positions. Never cancelled or modified."""


class ExternalOrder(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An adopted order, as its reports tell it; known by its permId. `client_id` 0: placed by hand, or not said."""

    perm_id: int
    reference: str
    client_id: int
    venue_order_id: int
    symbol: str
    side: str
    order_type: str
    state: OrderState
    qty: int
    cum_qty: int
    limit_px: int
    stop_px: int
    first_ns: int
    since_ns: int

    @property
    def key(self) -> str:
        """Its field in the projection `orders`, and the order of its fills."""
        return external_key(self.perm_id)


def external_key(perm_id: int) -> str:
    """Return what stands in a client order id's place."""
    return f"perm:{perm_id}"


class FillView(msgspec.Struct, frozen=True, gc=False):
    """An execution's row in the projection `fills`, Fixed8. None where the venue left it unset, or has not said yet."""

    exec_id: str
    client_order_id: str
    symbol: str
    side: str
    qty: int
    px: int
    commission: int | None
    currency: str
    realized_pnl: int | None
    corrected: bool
    external: bool
    ts_event_ns: int
