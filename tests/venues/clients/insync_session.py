"""One whole session of ib_insync or ib_async with a gateway, printed as JSON. Runs in that client's own environment.

`python insync_session.py MODULE PORT`: connects, asks for everything, places a bracket, sees its fills, cancels its
children, sells, disconnects. It imports nothing but the client.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
import time

WAIT_S_MAX = 60.0
SESSION_S_MAX = 90.0
FAR = 1e300


class Records(logging.Handler):
    """ERROR records of the client's loggers."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


async def until(what, condition):
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        await asyncio.sleep(0.005)


def plain(value):
    return None if value is None or value != value or abs(value) > FAR else value


async def contracts(lib, ib, said):
    [aapl] = await ib.reqContractDetailsAsync(lib.Stock("AAPL", "SMART", "USD"))
    said["stock"] = [aapl.contract.conId, aapl.longName, aapl.minTick, aapl.contract.primaryExchange]
    said["hours"] = bool(aapl.tradingHours) and bool(aapl.liquidHours)
    params = await ib.reqSecDefOptParamsAsync("SPY", "", "STK", 756733)
    chain = next(one for one in params if one.exchange == "SMART")
    expiry = sorted(chain.expirations)[-1]
    wanted = lib.Option("SPY", expiry, 500, "C", "SMART", tradingClass=chain.tradingClass)
    [option] = await ib.reqContractDetailsAsync(wanted)
    said["option"] = [option.contract.secType, option.contract.strike, option.contract.right]
    said["option"] += [option.contract.multiplier, option.contract.localSymbol[:6], option.underSymbol]
    said["chain"] = [len(chain.expirations) > 10, 500.0 in chain.strikes, chain.multiplier]
    futures = await ib.reqContractDetailsAsync(lib.Future("ES", exchange="CME"))
    said["futures"] = [len(futures), futures[0].contract.multiplier, futures[0].minTick]
    samples = await ib.reqMatchingSymbolsAsync("AAPL")
    said["samples"] = [samples[0].contract.symbol, samples[0].derivativeSecTypes]
    return aapl.contract, option.contract, futures[0].contract


async def data(ib, contract, option, said):
    bars = await ib.reqHistoricalDataAsync(contract, "", "2 D", "1 hour", "TRADES", True)
    said["bars"] = [len(bars), all(bar.low <= bar.open <= bar.high and bar.volume > 0 for bar in bars)]
    days = await ib.reqHistoricalDataAsync(contract, "", "1 M", "1 day", "MIDPOINT", True, formatDate=2)
    said["days"] = 15 <= len(days) <= 24
    head = await ib.reqHeadTimeStampAsync(contract, "TRADES", True, 1)
    said["head"] = str(head)[:10]
    tickers = [ib.reqMktData(contract), ib.reqMktData(option)]
    await until("quotes", lambda: all(ticker.bid == ticker.bid and ticker.ask > 0 for ticker in tickers))
    await until("greeks", lambda: tickers[1].modelGreeks is not None)
    said["quote"] = [tickers[0].bid, tickers[0].ask]
    said["delta"] = 0 < tickers[1].modelGreeks.delta < 1
    for one in (contract, option):
        ib.cancelMktData(one)


async def orders(lib, ib, contract, said):
    bracket = ib.bracketOrder("BUY", 100, limitPrice=191.0, takeProfitPrice=195.0, stopLossPrice=185.0)
    trades = []
    for number, order in enumerate(bracket):
        order.orderRef = f"session:{number}"
        trades.append(ib.placeOrder(contract, order))
    entry, target, stop = trades
    await until("the entry fills", lambda: entry.orderStatus.status == "Filled" and entry.fills)
    await until(
        "the children work", lambda: (target.orderStatus.status, stop.orderStatus.whyHeld) == ("Submitted", "trigger")
    )
    await until("a commission", lambda: entry.fills[0].commissionReport.execId)
    said["entry"] = [entry.orderStatus.avgFillPrice, entry.fills[0].commissionReport.commission]
    said["entry"].append(plain(entry.fills[0].commissionReport.realizedPNL) or None)
    said["children"] = [target.orderStatus.status, stop.orderStatus.status, stop.orderStatus.whyHeld]
    for trade in (target, stop):
        ib.cancelOrder(trade.order)
    await until("both are cancelled", lambda: {t.orderStatus.status for t in (target, stop)} == {"Cancelled"})
    state = await ib.whatIfOrderAsync(contract, lib.MarketOrder("SELL", 100))
    said["what_if"] = float(state.commission)
    sale = ib.placeOrder(contract, lib.MarketOrder("SELL", 100, tif="DAY"))
    await until("sold", lambda: sale.orderStatus.status == "Filled" and sale.fills)
    await until("its commission", lambda: sale.fills[0].commissionReport.execId)
    said["sale"] = [sale.orderStatus.avgFillPrice, round(sale.fills[0].commissionReport.realizedPNL, 2)]


async def derived_orders(lib, ib, option, future, said):
    for name, contract in (("option_trade", option), ("future_trade", future)):
        trade = ib.placeOrder(contract, lib.MarketOrder("BUY", 2))
        await until(name, lambda trade=trade: trade.orderStatus.status == "Filled")
        said[name] = [trade.fills[0].contract.secType, trade.fills[0].execution.shares]
    held = {p.contract.secType: (p.position, p.avgCost > 0) for p in await ib.reqPositionsAsync() if p.position}
    said["held"] = sorted([kind, *values] for kind, values in held.items())


async def account(ib, said):
    fills = await ib.reqExecutionsAsync()
    said["executions"] = [[f.contract.secType, f.execution.side, f.execution.shares] for f in fills]
    done = await ib.reqCompletedOrdersAsync(False)
    said["completed"] = sorted(t.orderStatus.status for t in done)
    said["open"] = len(await ib.reqAllOpenOrdersAsync())
    summary = {row.tag for row in await ib.accountSummaryAsync()}
    said["summary"] = {"NetLiquidation", "BuyingPower", "TotalCashValue"} <= summary
    name = ib.managedAccounts()[0]
    pnl = ib.reqPnL(name)
    single = ib.reqPnLSingle(name, "", 265598)
    await until("profits", lambda: pnl.realizedPnL == pnl.realizedPnL and single.realizedPnL == single.realizedPnL)
    said["pnl"] = round(single.realizedPnL, 2)


async def session(lib, port, said):
    ib, codes = lib.IB(), []
    ib.errorEvent += lambda req_id, code, text, contract: codes.append(code)
    await ib.connectAsync("127.0.0.1", port, clientId=11, timeout=20)
    said["version"], said["account"] = ib.client.serverVersion(), ib.managedAccounts()[0]
    contract, option, future = await contracts(lib, ib, said)
    await data(ib, contract, option, said)
    await orders(lib, ib, contract, said)
    await derived_orders(lib, ib, option, future, said)
    await account(ib, said)
    ib.disconnect()
    await until("disconnected", lambda: not ib.isConnected())
    said["codes"] = sorted(code for code in set(codes) if not 2100 <= code < 2200)


def main():
    module, port = sys.argv[1], int(sys.argv[2])
    lib, records = importlib.import_module(module), Records()
    logging.getLogger(module).addHandler(records)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    said = {}
    try:
        loop.run_until_complete(asyncio.wait_for(session(lib, port, said), SESSION_S_MAX))
    except TimeoutError:
        sys.exit(f"not done within {SESSION_S_MAX} s: {said} {records.texts}")
    said["error_records"] = records.texts
    print(json.dumps(said))


if __name__ == "__main__":
    main()
