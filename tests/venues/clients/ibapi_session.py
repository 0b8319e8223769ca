"""One whole session of IB's own Python client with a gateway, printed as JSON. Runs in an environment of its own.

`python ibapi_session.py PORT`: the same story as insync_session.py, through EClient and EWrapper.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time

from ibapi.client import EClient
from ibapi.contract import Contract
from ibapi.execution import ExecutionFilter
from ibapi.order import Order
from ibapi.wrapper import EWrapper

WAIT_S_MAX = 60.0
FAR = 1e300


class Records(logging.Handler):
    """ERROR records of any logger: ibapi logs what it cannot decode, and every error message, on the root."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


class App(EWrapper, EClient):
    """Keeps what is told, by request id or order id."""

    def __init__(self):
        EClient.__init__(self, self)
        self.rows, self.ended, self.statuses, self.codes = {}, set(), {}, []
        self.next_id, self.fills, self.fees, self.held = None, [], {}, {}

    def row(self, req_id, value):
        self.rows.setdefault(req_id, []).append(value)

    def nextValidId(self, orderId):
        self.next_id = orderId

    def error(self, reqId, errorCode, errorString, *more):
        self.codes.append(errorCode)
        if not 2100 <= errorCode < 2200:
            self.ended.add(reqId)

    def contractDetails(self, reqId, contractDetails):
        self.row(reqId, contractDetails)

    def contractDetailsEnd(self, reqId):
        self.ended.add(reqId)

    def securityDefinitionOptionParameter(self, reqId, exchange, under, tradingClass, multiplier, expirations, strikes):
        self.row(reqId, (exchange, tradingClass, multiplier, expirations, strikes))

    def securityDefinitionOptionParameterEnd(self, reqId):
        self.ended.add(reqId)

    def symbolSamples(self, reqId, contractDescriptions):
        self.rows[reqId] = contractDescriptions
        self.ended.add(reqId)

    def historicalData(self, reqId, bar):
        self.row(reqId, bar)

    def historicalDataEnd(self, reqId, start, end):
        self.ended.add(reqId)

    def headTimestamp(self, reqId, headTimestamp):
        self.rows[reqId] = headTimestamp
        self.ended.add(reqId)

    def tickPrice(self, reqId, tickType, price, attrib):
        self.rows.setdefault(reqId, {})[tickType] = price

    def tickOptionComputation(self, reqId, tickType, impliedVol, delta, *more):
        self.rows.setdefault(reqId, {})["delta"] = next(d for d in (delta, *more, impliedVol) if 0 < d < 1)

    def openOrder(self, orderId, contract, order, orderState):
        if order.whatIf:
            self.rows["what_if"] = orderState.commission

    def orderStatus(
        self, orderId, status, filled, remaining, avgFillPrice, permId, parentId, last, clientId, whyHeld, cap
    ):
        self.statuses[orderId] = (status, whyHeld, avgFillPrice)

    def execDetails(self, reqId, contract, execution):
        self.fills.append(
            (reqId, contract.secType, execution.side, execution.shares, execution.execId, execution.orderId)
        )

    def execDetailsEnd(self, reqId):
        self.ended.add(reqId)

    def commissionReport(self, commissionReport):
        self.fees[commissionReport.execId] = commissionReport

    def position(self, account, contract, position, avgCost):
        self.held[contract.secType] = (position, avgCost > 0)

    def positionEnd(self):
        self.ended.add("positions")

    def completedOrder(self, contract, order, orderState):
        self.row("completed", orderState.status)

    def completedOrdersEnd(self):
        self.ended.add("completed")

    def openOrderEnd(self):
        self.ended.add("open")

    def accountSummary(self, reqId, account, tag, value, currency):
        self.row(reqId, tag)

    def accountSummaryEnd(self, reqId):
        self.ended.add(reqId)

    def managedAccounts(self, accountsList):
        self.rows["account"] = accountsList

    def pnlSingle(self, reqId, pos, dailyPnL, unrealizedPnL, realizedPnL, value):
        self.rows[reqId] = realizedPnL


def until(what, condition):
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.005)


def contract_of(kind, symbol, **more):
    contract = Contract()
    contract.secType, contract.symbol, contract.currency = kind, symbol, "USD"
    contract.exchange = "CME" if kind == "FUT" else "SMART"
    for name, value in more.items():
        setattr(contract, name, value)
    return contract


def ask(app, req_id, send, *arguments):
    send(req_id, *arguments)
    until(f"request {req_id} ends", lambda: req_id in app.ended)
    return app.rows.get(req_id, [])


def contracts(app, said):
    [aapl] = ask(app, 1001, app.reqContractDetails, contract_of("STK", "AAPL"))
    said["stock"] = [aapl.contract.conId, aapl.longName, aapl.minTick, aapl.contract.primaryExchange]
    said["hours"] = bool(aapl.tradingHours) and bool(aapl.liquidHours)
    params = ask(app, 1002, app.reqSecDefOptParams, "SPY", "", "STK", 756733)
    _, trading_class, multiplier, expiries, strikes = next(row for row in params if row[0] == "SMART")
    wanted = contract_of("OPT", "SPY", strike=500, right="C", tradingClass=trading_class)
    wanted.lastTradeDateOrContractMonth = sorted(expiries)[-1]
    [option] = ask(app, 1003, app.reqContractDetails, wanted)
    said["option"] = [option.contract.secType, option.contract.strike, option.contract.right]
    said["option"] += [option.contract.multiplier, option.contract.localSymbol[:6], option.underSymbol]
    said["chain"] = [len(expiries) > 10, 500.0 in strikes, multiplier]
    futures = ask(app, 1004, app.reqContractDetails, contract_of("FUT", "ES"))
    said["futures"] = [len(futures), futures[0].contract.multiplier, futures[0].minTick]
    samples = ask(app, 1005, app.reqMatchingSymbols, "AAPL")
    said["samples"] = [samples[0].contract.symbol, samples[0].derivativeSecTypes]
    return aapl.contract, option.contract, futures[0].contract


def data(app, contract, option, said):
    bars = ask(app, 1010, app.reqHistoricalData, contract, "", "2 D", "1 hour", "TRADES", 1, 1, False, [])
    said["bars"] = [len(bars), all(bar.low <= bar.open <= bar.high and bar.volume > 0 for bar in bars)]
    days = ask(app, 1011, app.reqHistoricalData, contract, "", "1 M", "1 day", "MIDPOINT", 1, 2, False, [])
    said["days"] = 15 <= len(days) <= 24
    head = ask(app, 1012, app.reqHeadTimeStamp, contract, "TRADES", 1, 1)
    said["head"] = f"{head[:4]}-{head[4:6]}-{head[6:8]}"
    for req_id, one in ((1013, contract), (1014, option)):
        app.reqMktData(req_id, one, "", False, False, [])
    until("quotes", lambda: all({1, 2} <= app.rows.get(req_id, {}).keys() for req_id in (1013, 1014)))
    until("greeks", lambda: "delta" in app.rows[1014])
    said["quote"] = [app.rows[1013][1], app.rows[1013][2]]
    said["delta"] = 0 < app.rows[1014]["delta"] < 1
    for req_id in (1013, 1014):
        app.cancelMktData(req_id)


def order_of(action, kind, quantity, **more):
    order = Order()
    order.action, order.orderType, order.totalQuantity = action, kind, quantity
    for name, value in more.items():
        setattr(order, name, value)
    return order


def filled(app, order_id):
    """Return the execId of an order's only fill, once its commission came too."""
    until(f"order {order_id} fills", lambda: app.statuses.get(order_id, ("",))[0] == "Filled")
    until("an execution", lambda: any(fill[5] == order_id for fill in app.fills))
    exec_id = next(fill[4] for fill in app.fills if fill[5] == order_id)
    until("a commission", lambda: exec_id in app.fees)
    return exec_id


def orders(app, contract, first, said):
    entry, target, stop = first, first + 1, first + 2
    app.placeOrder(entry, contract, order_of("BUY", "LMT", 100, lmtPrice=191.0, transmit=False))
    app.placeOrder(target, contract, order_of("SELL", "LMT", 100, lmtPrice=195.0, parentId=entry, transmit=False))
    app.placeOrder(stop, contract, order_of("SELL", "STP", 100, auxPrice=185.0, parentId=entry))
    exec_id = filled(app, entry)
    working = ("Submitted", "trigger")
    until("the children work", lambda: (app.statuses[target][0], app.statuses[stop][1]) == working)
    realized = app.fees[exec_id].realizedPNL
    said["entry"] = [app.statuses[entry][2], app.fees[exec_id].commission, None if realized > FAR else realized]
    said["children"] = [app.statuses[target][0], *app.statuses[stop][:2]]
    for order_id in (target, stop):
        app.cancelOrder(order_id)
    until("both are cancelled", lambda: {app.statuses[n][0] for n in (target, stop)} == {"Cancelled"})
    app.placeOrder(first + 3, contract, order_of("SELL", "MKT", 100, whatIf=True))
    until("a what-if answer", lambda: "what_if" in app.rows)
    said["what_if"] = app.rows["what_if"]
    app.placeOrder(first + 4, contract, order_of("SELL", "MKT", 100, tif="DAY"))
    exec_id = filled(app, first + 4)
    said["sale"] = [app.statuses[first + 4][2], round(app.fees[exec_id].realizedPNL, 2)]


def derived_orders(app, option, future, first, said):
    for order_id, name, contract in ((first, "option_trade", option), (first + 1, "future_trade", future)):
        app.placeOrder(order_id, contract, order_of("BUY", "MKT", 2))
        filled(app, order_id)
        said[name] = [contract.secType, next(fill[3] for fill in app.fills if fill[5] == order_id)]
    app.reqPositions()
    until("positions", lambda: "positions" in app.ended)
    said["held"] = sorted([kind, *values] for kind, values in app.held.items() if values[0])


def account(app, said):
    app.fills.clear()
    ask(app, 1020, app.reqExecutions, ExecutionFilter())
    said["executions"] = [[kind, side, shares] for req_id, kind, side, shares, *_ in app.fills if req_id == 1020]
    app.reqCompletedOrders(False)
    until("completed orders", lambda: "completed" in app.ended)
    said["completed"] = sorted(app.rows["completed"])
    app.statuses.clear()
    app.reqAllOpenOrders()
    until("open orders", lambda: "open" in app.ended)
    said["open"] = len(app.statuses)
    summary = ask(app, 1021, app.reqAccountSummary, "All", "NetLiquidation,BuyingPower,TotalCashValue")
    said["summary"] = {"NetLiquidation", "BuyingPower", "TotalCashValue"} <= set(summary)
    app.reqPnLSingle(1022, app.rows["account"], "", 265598)
    until("profits", lambda: 1022 in app.rows)
    said["pnl"] = round(app.rows[1022], 2)


def main():
    records = Records()
    logging.getLogger().addHandler(records)
    app, said = App(), {}
    app.connect("127.0.0.1", int(sys.argv[1]), 11)
    reader = threading.Thread(target=app.run, daemon=True)
    reader.start()
    until("connected", lambda: app.next_id is not None and "account" in app.rows)
    said["version"], said["account"] = app.serverVersion(), app.rows["account"]
    contract, option, future = contracts(app, said)
    data(app, contract, option, said)
    orders(app, contract, app.next_id, said)
    derived_orders(app, option, future, app.next_id + 5, said)
    account(app, said)
    app.disconnect()
    reader.join(WAIT_S_MAX)
    said["codes"] = sorted(code for code in set(app.codes) if not 2100 <= code < 2200)
    said["error_records"] = records.texts
    print(json.dumps(said))


if __name__ == "__main__":
    main()
