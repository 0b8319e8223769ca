"""The field lists of the messages, for server versions 157 to 178, without the leading message id.

Source: observed with four clients (ib_insync 0.9.86, ib_async 2.1.0, ibapi 9.81.1 and a later build) and recorded
gateway sessions. Defaults of what a server sends are those that a recorded gateway sent for a plain stock order.
"""

from __future__ import annotations

from venues.gateway.layout import Layout, Repeat, Values, Variants, When, fields
from venues.gateway.wire import UNSET_DOUBLE

SERVER_VERSION_MIN = 157
SERVER_VERSION_MAX = 178

CONTRACT_12 = fields(
    "conId symbol secType expiry strike right multiplier exchange primaryExchange currency localSymbol tradingClass"
)
CONTRACT_11 = fields(
    "conId=0 symbol secType expiry strike=0 right=? multiplier exchange currency localSymbol tradingClass"
)
_EXECUTION_CONTRACT = fields(
    "conId=0 symbol secType expiry strike=0.0 right multiplier exchange currency localSymbol tradingClass"
)
_TAG_VALUE = fields("tag value")
_SCALE = fields(
    "scalePriceAdjustValue scalePriceAdjustInterval scaleProfitOffset scaleAutoReset scaleInitPosition "
    "scaleInitFillQty scaleRandomPercent"
)
_PEG_BENCH = fields(
    "referenceContractId isPeggedChangeAmountDecrease peggedChangeAmount referenceChangeAmount referenceExchangeId"
)
_COMBO_LEG = fields("conId ratio action exchange openClose shortSaleSlot designatedLocation exemptCode")


def _is_bag(values: Values) -> bool:
    return values.get("secType") == "BAG"


def _has_scale(values: Values) -> bool:
    try:
        return 0 < float(values.get("scalePriceIncrement") or 0) < 1e300
    except ValueError:
        return False


def _is_peg_bench(values: Values) -> bool:
    return values.get("orderType") == "PEG BENCH"


def _has_mid_offsets(values: Values) -> bool:
    if values.get("orderType") == "PEG BEST":
        return values.get("competeAgainstBestOffset") in ("Infinite", "Infinity")
    return values.get("orderType") == "PEG MID"


def _has_neutral_type(values: Values) -> bool:
    return bool(values.get("deltaNeutralOrderType", "None"))


_CONDITIONS = Variants(
    "conditions",
    {"1": 6, "3": 3, "4": 3, "5": 4, "6": 5, "7": 5},
    fields("conditionsIgnoreRth conditionsCancelOrder"),
)
_DELTA_NEUTRAL: Layout = (
    *fields("deltaNeutralContract=0"),
    When(lambda v: v.get("deltaNeutralContract", "0") == "1", fields("dncConId dncDelta dncPrice")),
)
_ALGO: Layout = (
    *fields("algoStrategy"),
    When(lambda v: bool(v.get("algoStrategy")), (Repeat("algoParams", _TAG_VALUE),)),
)
_COMBO: Layout = (Repeat("comboLegs", _COMBO_LEG), Repeat("orderComboLegs", fields("price")))
_ROUTING = Repeat("smartComboRoutingParams", _TAG_VALUE)
_MID_OFFSETS = fields("midOffsetAtWhole midOffsetAtHalf")


def _from_170(body: Layout) -> Layout:
    """A conditional part cannot carry a gate of its own: it hangs on a version that the reader put in."""
    return (When(lambda v: int(v.get("serverVersion", "0")) >= 170, body),)


PLACE_ORDER: Layout = (
    *fields("orderId"),
    *CONTRACT_12,
    *fields(
        "secIdType secId action totalQuantity orderType lmtPrice auxPrice tif ocaGroup account openClose origin "
        "orderRef transmit parentId blockOrder sweepToFill displaySize triggerMethod outsideRth hidden"
    ),
    When(_is_bag, (*_COMBO, _ROUTING)),
    *fields(
        "sharesAllocation discretionaryAmt goodAfterTime goodTillDate faGroup faMethod faPercentage faProfile<177 "
        "modelCode shortSaleSlot designatedLocation exemptCode ocaType rule80A settlingFirm allOrNone minQty "
        "percentOffset eTradeOnly firmQuoteOnly nbboPriceCap auctionStrategy startingPrice stockRefPrice delta "
        "stockRangeLower stockRangeUpper overridePercentageConstraints volatility volatilityType "
        "deltaNeutralOrderType deltaNeutralAuxPrice"
    ),
    When(
        _has_neutral_type,
        fields(
            "deltaNeutralConId deltaNeutralSettlingFirm deltaNeutralClearingAccount deltaNeutralClearingIntent "
            "deltaNeutralOpenClose deltaNeutralShortSale deltaNeutralShortSaleSlot deltaNeutralDesignatedLocation"
        ),
    ),
    *fields(
        "continuousUpdate referencePriceType trailStopPrice trailingPercent scaleInitLevelSize scaleSubsLevelSize "
        "scalePriceIncrement"
    ),
    When(_has_scale, _SCALE),
    *fields("scaleTable activeStartTime activeStopTime hedgeType"),
    When(lambda v: bool(v["hedgeType"]), fields("hedgeParam")),
    *fields("optOutSmartRouting clearingAccount clearingIntent notHeld"),
    *_DELTA_NEUTRAL,
    *_ALGO,
    *fields("algoId whatIf orderMiscOptions solicited randomizeSize randomizePrice"),
    When(_is_peg_bench, _PEG_BENCH),
    _CONDITIONS,
    *fields(
        "adjustedOrderType triggerPrice lmtPriceOffset adjustedStopPrice adjustedStopLimitPrice "
        "adjustedTrailingAmount adjustableTrailingUnit extOperator softDollarTierName softDollarTierValue cashQty "
        "mifid2DecisionMaker mifid2DecisionAlgo mifid2ExecutionTrader mifid2ExecutionAlgo dontUseAutoPriceForHedge "
        "isOmsContainer discretionaryUpToLimitPrice usePriceMgmtAlgo duration>=158 postToAts>=160 "
        "autoCancelParent>=162 advancedErrorOverride>=166 manualOrderTime>=169"
    ),
    *_from_170(
        (
            When(lambda v: v["exchange"] == "IBKRATS", fields("minTradeQty")),
            When(lambda v: v["orderType"] == "PEG BEST", fields("minCompeteSize competeAgainstBestOffset")),
            When(_has_mid_offsets, _MID_OFFSETS),
        )
    ),
)

_TAIL_170 = fields(
    "minTradeQty>=170 minCompeteSize>=170 competeAgainstBestOffset>=170 midOffsetAtWhole>=170 midOffsetAtHalf>=170"
)

OPEN_ORDER: Layout = (
    *fields("orderId"),
    *CONTRACT_11,
    *fields(
        "action totalQuantity orderType lmtPrice=0.0 auxPrice=0.0 tif ocaGroup account openClose origin=0 orderRef "
        "clientId permId outsideRth=0 hidden=0 discretionaryAmt=0 goodAfterTime sharesAllocation faGroup faMethod "
        "faPercentage faProfile<177 modelCode goodTillDate rule80A percentOffset settlingFirm shortSaleSlot=0 "
        "designatedLocation exemptCode=-1 auctionStrategy=0 startingPrice stockRefPrice delta stockRangeLower "
        "stockRangeUpper displaySize=2147483647 blockOrder=0 sweepToFill=0 allOrNone=0 minQty ocaType=0 eTradeOnly=0 "
        "firmQuoteOnly=0 nbboPriceCap parentId=0 triggerMethod=0 volatility volatilityType=0 "
        "deltaNeutralOrderType=None deltaNeutralAuxPrice"
    ),
    When(
        _has_neutral_type,
        fields(
            "deltaNeutralConId=0 deltaNeutralSettlingFirm deltaNeutralClearingAccount deltaNeutralClearingIntent "
            "deltaNeutralOpenClose=? deltaNeutralShortSale=0 deltaNeutralShortSaleSlot=0 "
            "deltaNeutralDesignatedLocation"
        ),
    ),
    *fields(
        "continuousUpdate=0 referencePriceType=0 trailStopPrice trailingPercent basisPoints basisPointsType "
        "comboLegsDescrip"
    ),
    *_COMBO,
    _ROUTING,
    *fields("scaleInitLevelSize=2147483647 scaleSubsLevelSize=2147483647 scalePriceIncrement"),
    When(_has_scale, _SCALE),
    *fields("hedgeType"),
    When(lambda v: bool(v.get("hedgeType")), fields("hedgeParam")),
    *fields("optOutSmartRouting=0 clearingAccount clearingIntent=IB notHeld=0"),
    *_DELTA_NEUTRAL,
    *_ALGO,
    *fields(
        "solicited=0 whatIf=0 status initMarginBefore=? maintMarginBefore=? equityWithLoanBefore=? "
        "initMarginChange=? maintMarginChange=? equityWithLoanChange=? initMarginAfter=? maintMarginAfter=? "
        "equityWithLoanAfter=? commission minCommission maxCommission commissionCurrency warningText randomizeSize=0 "
        "randomizePrice=0".replace("=?", f"={UNSET_DOUBLE}")
    ),
    When(_is_peg_bench, _PEG_BENCH),
    _CONDITIONS,
    *fields(
        "adjustedOrderType=None triggerPrice=? adjustedTrailStopPrice=? lmtPriceOffset=? adjustedStopPrice=? "
        "adjustedStopLimitPrice=? adjustedTrailingAmount=? adjustableTrailingUnit=0 softDollarTierName "
        "softDollarTierValue softDollarTierDisplay cashQty=0 dontUseAutoPriceForHedge=1 isOmsContainer=0 "
        "discretionaryUpToLimitPrice=0 usePriceMgmtAlgo=0 duration>=158 postToAts>=160 autoCancelParent>=162=0".replace(
            "=?", f"={UNSET_DOUBLE}"
        )
    ),
    *_TAIL_170,
)

COMPLETED_ORDER: Layout = (
    *CONTRACT_11,
    *fields(
        "action totalQuantity orderType lmtPrice=0.0 auxPrice=0.0 tif ocaGroup account openClose origin=0 orderRef "
        "permId outsideRth=0 hidden=0 discretionaryAmt=0 goodAfterTime faGroup faMethod faPercentage faProfile<177 "
        "modelCode goodTillDate rule80A percentOffset settlingFirm shortSaleSlot=0 designatedLocation exemptCode=-1 "
        "startingPrice stockRefPrice delta stockRangeLower stockRangeUpper displaySize=2147483647 sweepToFill=0 "
        "allOrNone=0 minQty ocaType=0 triggerMethod=0 volatility volatilityType=0 deltaNeutralOrderType=None "
        "deltaNeutralAuxPrice"
    ),
    When(
        _has_neutral_type,
        fields(
            "deltaNeutralConId=0 deltaNeutralShortSale=0 deltaNeutralShortSaleSlot=0 deltaNeutralDesignatedLocation"
        ),
    ),
    *fields("continuousUpdate=0 referencePriceType=0 trailStopPrice trailingPercent comboLegsDescrip"),
    *_COMBO,
    _ROUTING,
    *fields("scaleInitLevelSize=2147483647 scaleSubsLevelSize=2147483647 scalePriceIncrement"),
    When(_has_scale, _SCALE),
    *fields("hedgeType"),
    When(lambda v: bool(v.get("hedgeType")), fields("hedgeParam")),
    *fields("clearingAccount clearingIntent=IB notHeld=0"),
    *_DELTA_NEUTRAL,
    *_ALGO,
    *fields("solicited=0 status randomizeSize=0 randomizePrice=0"),
    When(_is_peg_bench, _PEG_BENCH),
    _CONDITIONS,
    *fields(
        "adjustedTrailStopPrice=? lmtPriceOffset=? cashQty=0 dontUseAutoPriceForHedge=1 isOmsContainer=0 "
        "autoCancelDate filledQuantity=0 refFuturesConId=2147483647 autoCancelParent=0 shareholder imbalanceOnly=0 "
        "routeMarketableToBbo=0 parentPermId completedTime completedStatus".replace("=?", f"={UNSET_DOUBLE}")
    ),
    *_TAIL_170,
)

EXECUTION: Layout = (
    *fields("reqId=-1 orderId"),
    *_EXECUTION_CONTRACT,
    *fields(
        "execId time account exchange side shares price permId clientId liquidation=0 cumQty avgPrice orderRef "
        "evRule evMultiplier modelCode lastLiquidity=2 pendingPriceRevision>=178=0"
    ),
)

CONTRACT_DETAILS: Layout = (
    *fields(
        "version<164=8 reqId symbol secType lastTrade strike=0 right exchange currency localSymbol marketName "
        "tradingClass conId minTick mdSizeMultiplier<164=100 multiplier orderTypes validExchanges priceMagnifier=1 "
        "underConId=0 longName primaryExchange contractMonth industry category subcategory timeZoneId tradingHours "
        "liquidHours evRule evMultiplier"
    ),
    Repeat("secIds", _TAG_VALUE),
    *fields(
        "aggGroup=1 underSymbol underSecType marketRuleIds=26 realExpirationDate stockType=COMMON minSize>=164=1 "
        "sizeIncrement>=164=1 suggestedSizeIncrement>=163=100"
    ),
)
