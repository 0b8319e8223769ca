"""Recorded sessions with a real paper gateway: the same requests, the same kinds of message and statuses back.

What is compared: the kind of every message about an order, and of an orderStatus its status, filled, remaining and
whyHeld; of an execution shares and price; of an error its code. Prices are set to what the recording traded at.

Differences that are allowed, each of them a property of the recording and not of the protocol:

- A real gateway sometimes tells the same openOrder and orderStatus twice in a row (the stop of the stop-loss session,
  at placing and at each change). Repeats are folded on both sides: a client must take any number of them.
- A market order is acknowledged as PreSubmitted or as Submitted, whichever the route was at that moment. Here it is
  always PreSubmitted.
- A limit order is told as PreSubmitted first or at once as Submitted, and a cancel as PendingCancel first or at once as
  Cancelled. Both are recorded, so both are manners of the gateway, set as each recording needs.
- The stop-loss session ends before the last commission report comes.
- In the direct-cancel session the order stays PreSubmitted (why is not in the recording) and error 202 is not in it (it
  was cut at the status).
- In the IOC and FOK session nothing fills, although two orders are priced 20 % through the market: the recorded paper
  market had nothing to trade with. Here a fault holds the fills.
- The executions session has no end message. Here a fault leaves it out.
- The recorded bars are the market's; here their number, times and order are compared, and that they are bars.
- The recorded positions have a Treasury future, which is not listed here: ES stands for it. The conId of the option is
  this gateway's own; the average costs are of its own prices.
- The recorded completed order is of server version 200, which has three fields behind those of 178; its cancel date and
  its own group name are of that order, and its rule80A is 0 where another recording has nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

from tests.venues.gateway_client import RawClient
from tests.venues.gateway_process import GatewayProcess
from tests.venues.test_gateway_sessions import place_fields
from venues.gateway import layout
from venues.gateway.messages import COMPLETED_ORDER, PLACE_ORDER
from venues.gateway.wire import split_fields

pytestmark = [pytest.mark.process, pytest.mark.data]

Told = tuple[str, ...]
ORDER_KINDS = {
    "5": "open_order",
    "3": "order_status",
    "11": "execution_detail",
    "59": "commission_report",
    "4": "api_error",
}


@dataclass
class Exchange:
    """One request of a client, and what the gateway said until the next one."""

    request: str
    asked: dict[str, str]
    told: list[Told] = field(default_factory=list)
    price: str | None = None
    """At which the recording traded after this request."""


def number(text: str) -> str:
    return f"{Decimal(text or '0').normalize():f}"


def recorded_exchanges(path: Path) -> list[Exchange]:
    found: list[Exchange] = []
    for line in path.read_text().splitlines():
        side, _, rest = line.partition(" ")
        kind, _, text = rest.partition(" ")
        if side == "client":
            found.append(Exchange(kind, json.loads(text)))
        elif side == "server" and found:
            values = json.loads(text)
            match kind:
                case "open_order":
                    found[-1].told.append((kind,))
                case "order_status":
                    parts = values["status"], number(values["filled"]), number(values["remaining"]), values["why_held"]
                    found[-1].told.append((kind, *parts))
                case "execution_detail":
                    found[-1].told.append((kind, number(values["shares"]), number(values["price"])))
                    found[-1].price = values["price"]
                case "commission_report":
                    found[-1].told.append((kind,))
                case "api_error":
                    found[-1].told.append((kind, str(values["code"])))
    return found


def said(frames: list[list[str]]) -> list[Told]:
    told: list[Told] = []
    for frame in frames:
        match frame[0]:
            case "5" | "59":
                told.append((ORDER_KINDS[frame[0]],))
            case "3":
                told.append(("order_status", frame[2], number(frame[3]), number(frame[4]), frame[10]))
            case "11":
                told.append(("execution_detail", number(frame[19]), number(frame[20])))
            case "4":
                told.append(("api_error", frame[3]))
    return told


def folded(told: list[Told]) -> list[Told]:
    """Drop an openOrder and orderStatus pair that repeats the pair before it."""
    kept: list[Told] = []
    for item in told:
        kept.append(item)
        if len(kept) >= 4 and kept[-4:-2] == kept[-2:] and item[0] == "order_status":
            del kept[-2:]
    return kept


def ask(client: RawClient, exchange: Exchange) -> list[Told]:
    asked = exchange.asked
    if exchange.request == "place_order":
        values = {
            "action": asked["action"],
            "totalQuantity": asked["total_quantity"],
            "orderType": asked["order_type"],
            "lmtPrice": asked.get("lmt_price", ""),
            "auxPrice": asked.get("aux_price", ""),
            "tif": asked["tif"],
            "transmit": int(bool(asked.get("transmit", True))),
        }
        client.send(*place_fields(int(asked["order_id"]), **values))
    else:
        client.send(4, 1, asked["order_id"], "")
    return said(client.sync())


def play(folder: Path, path: Path, *options: str, fault: str | None = None) -> Iterator[tuple[list[Told], list[Told]]]:
    """Yield what was recorded and what this gateway says, a request at a time."""
    with GatewayProcess(folder, *options) as gateway:
        if fault is not None:
            gateway.fault(fault)
        client = RawClient(gateway.port)
        client.start()
        client.sync()
        gateway.set_price("AAPL", "260.00", "260.02")
        for exchange in recorded_exchanges(path):
            if exchange.price:
                gateway.set_price("AAPL", exchange.price, exchange.price)
                client.sync()
            yield folded(exchange.told), folded(ask(client, exchange))
        client.close()


def test_transmit_false_and_then_true(tmp_path: Path, recorded: Callable[[str], Path]) -> None:
    path = recorded("ib/transcripts/api_transmit_false_then_transmit_aapl.txt")
    pairs = list(play(tmp_path, path))
    assert [ours for _, ours in pairs] == [theirs for theirs, _ in pairs]
    assert [len(theirs) for theirs, _ in pairs] == [0, 2, 2]


def test_a_limit_order_rests_and_is_cancelled(tmp_path: Path, recorded: Callable[[str], Path]) -> None:
    path = recorded("ib/transcripts/api_order_rest_cancel_aapl.txt")
    pairs = list(play(tmp_path, path, "--presubmit-first", "--pending-cancel"))
    assert [ours for _, ours in pairs] == [theirs for theirs, _ in pairs]
    assert len(pairs) == 2


def test_a_stop_is_placed_moved_cancelled_and_the_position_sold(
    tmp_path: Path, recorded: Callable[[str], Path]
) -> None:
    path = recorded("ib/transcripts/api_stop_loss_management_aapl.txt")
    pairs = list(play(tmp_path, path))
    assert len(pairs) == 5
    for theirs, ours in pairs[:4]:
        assert ours == theirs
    theirs, ours = pairs[4]
    submitted = ("order_status", "Submitted", "0", "1", "")
    assert theirs[1] == submitted, "the recording's own way to acknowledge its second market order"
    assert ours == [theirs[0], ("order_status", "PreSubmitted", "0", "1", ""), *theirs[2:], ("commission_report",)]


def test_a_market_order_fills_message_by_message(tmp_path: Path, recorded: Callable[[str], Path]) -> None:
    path = recorded("ib/transcripts/place_order_fill_native_execution_time.txt")
    [(theirs, ours)] = play(tmp_path, path)
    assert ours == theirs
    assert [item[0] for item in ours] == [
        *("open_order", "order_status", "execution_detail", "open_order", "order_status", "commission_report")
    ]


def test_an_order_type_that_does_not_exist(tmp_path: Path, recorded: Callable[[str], Path]) -> None:
    path = recorded("ib/transcripts/place_order_invalid_type_live_error.txt")
    [(theirs, ours)] = play(tmp_path, path)
    assert ours == theirs == [("api_error", "321")]


def test_a_direct_cancel_differs_only_by_trading_hours_and_the_cut(
    tmp_path: Path, recorded: Callable[[str], Path]
) -> None:
    path = recorded("ib/transcripts/direct_cancel_order.txt")
    (placed, ours_placed), (cancelled, ours_cancelled) = play(tmp_path, path)
    assert placed == [("open_order",), ("order_status", "PreSubmitted", "0", "1", "")]
    assert ours_placed == [("open_order",), ("order_status", "Submitted", "0", "1", "")]
    assert ours_cancelled == [*cancelled, ("api_error", "202")]


def test_contract_details_of_a_stock_are_those_of_the_recording(
    tmp_path: Path, recorded: Callable[[str], Path]
) -> None:
    lines = recorded("ib/transcripts/grounded_contract_details_aapl.txt").read_text().splitlines()
    theirs = json.loads(next(line for line in lines if line.startswith("server contract_details ")).split(" ", 2)[2])
    with GatewayProcess(tmp_path) as gateway:
        client = RawClient(gateway.port)
        client.start()
        client.send(9, 8, 7, 0, "AAPL", "STK", "", 0, "", "", "SMART", "", "USD", "", "", 0, "", "", "")
        ours = next(frame for frame in client.until("52") if frame[0] == "10")
        client.close()
    contract = theirs["contract"]
    assert ours[2] == contract["symbol"]
    assert ours[7:14] == [
        *(contract["exchange"], contract["currency"], contract["local_symbol"]),
        *(theirs["market_name"], contract["trading_class"], str(contract["con_id"]), theirs["min_tick"]),
    ]
    for text in (theirs["long_name"], contract["primary_exchange"], theirs["time_zone_id"]):
        assert text in ours


def test_the_opening_messages_are_those_of_the_recording(tmp_path: Path, recorded: Callable[[str], Path]) -> None:
    lines = recorded("ib/transcripts/grounded_bootstrap.txt").read_text().splitlines()
    theirs = [json.loads(line.split(" ", 2)[2]) for line in lines if line.startswith("server api_error")]
    with GatewayProcess(tmp_path) as gateway:
        client = RawClient(gateway.port)
        client.start()
        frames = [client.next() or [] for _ in range(5)]
        client.close()
    assert [frame[0] for frame in frames] == ["15", "9", "4", "4", "4"]
    assert [frame[4] for frame in frames[2:]] == [notice["message"] for notice in theirs]


def test_immediate_or_cancel_and_fill_or_kill_find_nothing(tmp_path: Path, recorded: Callable[[str], Path]) -> None:
    pairs = list(play(tmp_path, recorded("ib/transcripts/api_ioc_fok_aapl.txt"), fault="hold_fills"))
    assert [ours for _, ours in pairs] == [theirs for theirs, _ in pairs]
    assert [theirs[-1][1] for theirs, _ in pairs] == ["Cancelled", "Inactive", "Inactive"]


def lines_of(path: Path, kind: str) -> list[dict[str, object]]:
    prefix = f"server {kind} "
    return [json.loads(line[len(prefix) :]) for line in path.read_text().splitlines() if line.startswith(prefix)]


def started(gateway: GatewayProcess, versions: str = "v157..176") -> RawClient:
    client = RawClient(gateway.port)
    client.start(1, versions)
    client.sync()
    return client


def test_the_account_summary_has_the_tags_in_the_recorded_order(
    tmp_path: Path, recorded: Callable[[str], Path]
) -> None:
    theirs = lines_of(recorded("ib/transcripts/grounded_account_summary.txt"), "account_summary")
    with GatewayProcess(tmp_path) as gateway:
        client = started(gateway)
        client.send(62, 1, 7, "All", "NetLiquidation,TotalCashValue,BuyingPower,ExcessLiquidity")
        ours = client.until("64")
        client.close()
    assert [frame[0] for frame in ours] == ["63"] * 4 + ["64"]
    assert [frame[4] for frame in ours[:-1]] == [row["tag"] for row in theirs]
    assert all(number(frame[5]) and len(frame) == 7 for frame in ours[:-1])


def test_executions_may_have_no_end(tmp_path: Path, recorded: Callable[[str], Path]) -> None:
    assert recorded("ib/transcripts/executions_missing_end_live.txt").read_text().count("execution") > 0
    with GatewayProcess(tmp_path) as gateway:
        gateway.fault("no_end", request=7)
        client = started(gateway)
        client.send(7, 3, 1, 0, "", "", "", "", "", "")
        assert client.sync() == []
        client.close()


def test_hourly_bars_of_a_day_begin_at_the_recorded_times(tmp_path: Path, recorded: Callable[[str], Path]) -> None:
    theirs = lines_of(recorded("ib/transcripts/grounded_historical_bars.txt"), "historical_bar")
    with GatewayProcess(tmp_path, "--hours", "exchange") as gateway:
        gateway.control({"cmd": "set_clock", "time": "20260405-21:50:56"})
        client = started(gateway)
        contract = [0, "AAPL", "STK", "", 0, "", "", "SMART", "", "USD", "", ""]
        client.send(20, 5, *contract, 0, "", "1 hour", "1 D", 1, "TRADES", 1, 0, "")
        [frame] = client.sync()
        client.close()
    assert (frame[0], frame[1], frame[4]) == ("17", "5", str(len(theirs)))
    bars = [frame[at : at + 8] for at in range(5, len(frame), 8)]
    assert [bar[0] for bar in bars] == [row["time"] for row in theirs]
    for bar in bars:
        opened, high, low, closed, volume, wap = (Decimal(text) for text in bar[1:7])
        assert 0 < low <= min(opened, closed, wap) <= max(opened, closed, wap) <= high
        assert volume == int(volume) > 0


def test_positions_of_stocks_futures_and_options_have_the_recorded_form(
    tmp_path: Path, recorded: Callable[[str], Path]
) -> None:
    theirs = lines_of(recorded("ib/transcripts/grounded_positions.txt"), "position")
    option = {"secType": "OPT", "symbol": "QQQ", "expiry": "20270115", "strike": "500", "right": "P"}
    future = {"secType": "FUT", "symbol": "ES", "expiry": "202612", "exchange": "CME"}
    with GatewayProcess(tmp_path) as gateway:
        gateway.control({"cmd": "set_clock", "time": "20260405-21:50:56"})
        client = started(gateway)
        trades = ({"symbol": "AMZN"}, 15), ({"symbol": "AAPL"}, 10), (future, 1), (option, -3)
        for order_id, (contract, size) in enumerate(trades, start=1):
            action = "BUY" if size > 0 else "SELL"
            values = {"orderType": "MKT", "lmtPrice": "", "action": action, "totalQuantity": abs(size)}
            client.send(*place_fields(order_id, **values, **contract))
        client.sync()
        client.send(61, 1)
        ours = client.until("62")
        client.close()
    names = ("con_id", "symbol", "sec_type", "expiry", "strike", "right", "multiplier", "exchange", "currency")
    names = (*names, "local_symbol", "trading_class")
    assert [frame[0] for frame in ours] == ["61"] * 4 + ["62"]
    for row, frame in zip(theirs, ours, strict=False):
        contract = row["contract"]
        assert isinstance(contract, dict)
        mine = dict(zip(names, frame[3:14], strict=True))
        wanted = {name: str(contract.get(name, "")) for name in names}
        wanted["strike"] = wanted["strike"] or "0.0"
        if mine["sec_type"] == "FUT":
            wanted |= {name: mine[name] for name in ("con_id", "symbol", "expiry", "multiplier")}
            wanted |= {name: mine[name] for name in ("local_symbol", "trading_class")}
            assert mine["local_symbol"] == "ESZ6"
        elif mine["sec_type"] == "OPT":
            wanted |= {"con_id": mine["con_id"], "strike": "500"}
        assert mine == wanted
        assert frame[14] == row["position"]


def test_an_order_that_the_system_cancelled_is_told_field_by_field_as_recorded(
    tmp_path: Path, recorded: Callable[[str], Path]
) -> None:
    lines = recorded("ib/transcripts/completed_orders_cancelled_system_live.txt").read_text().splitlines()
    payload, end = (base64.b64decode(line.split()[2])[4:] for line in lines if line.startswith("raw server"))
    theirs = layout.read(COMPLETED_ORDER, 178, split_fields(payload)[1:-3])
    with GatewayProcess(tmp_path) as gateway:
        client = started(gateway, "v157..178")
        values = {"action": "SELL", "totalQuantity": 1, "lmtPrice": "500", "tif": "GTC", "ocaType": 3}
        fields = place_fields(1, **values)
        del fields[1 + [name for name in field_names() if name].index("faProfile")]
        client.send(*fields)
        client.sync()
        [order] = gateway.orders()
        gateway.control({"cmd": "cancel_order", "perm_id": order["perm_id"]})
        client.sync()
        client.send(99, 1)
        frame, last = client.until("102")
        client.close()
    ours = layout.read(COMPLETED_ORDER, 178, frame[1:])
    assert split_fields(end) == last == ["102"]
    own = {
        "permId",
        "account",
        "ocaGroup",
        "completedTime",
        "autoCancelDate",
        "orderRef",
        "parentPermId",
        "lmtPrice",
        "rule80A",
    }
    assert Decimal(ours.pop("lmtPrice")) == Decimal(theirs.pop("lmtPrice")) == 500
    assert {name: text.strip() for name, text in ours.items() if name not in own} == {
        name: text.strip() for name, text in theirs.items() if name not in own
    }


def field_names() -> list[str]:
    return [getattr(part, "name", "") for part in PLACE_ORDER]
