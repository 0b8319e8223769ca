"""The JSON form of a signal, as people and other programs write it: `config/signal.schema.json`. Pure.

Prices are decimal strings or JSON numbers, read digit by digit and never through a float. What the form allows and
trading does not (a stop on the wrong side, a symbol that is not traded, a signal long expired) is for the guards.
"""

from __future__ import annotations

import calendar
import difflib
import json
import re
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from actors.messages import Side, Signal
from kernels.fixed8 import Fixed8Error, format_fixed8, parse_price

BYTES_MAX = 16_384
TTL_S_MAX = 604_800

_PRICE = {
    "anyOf": [
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$", "maxLength": 64},
        {"type": "number", "exclusiveMinimum": 0},
    ]
}

Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$", max_length=64)]
Price = Annotated[msgspec.Raw, Meta(extra_json_schema=_PRICE)]
Nanoseconds = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class SignalForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A wish to open a bracket. Exactly one of `ttl_s`, `expires` and `expires_ns` says how long it holds."""

    signal_id: Annotated[Identifier, Meta(description="Unique for ever; a second signal of this id is a duplicate.")]
    strategy: Identifier
    symbol: Annotated[str, Meta(min_length=1, max_length=64)]
    side: Side
    take_profit: Annotated[
        Price | UnsetType,
        Meta(description="Price. A signal without it is refused by the allocator (guard bracket_sides)."),
    ] = UNSET
    stop: Annotated[
        Price | UnsetType,
        Meta(description="Price. A signal without it is refused by the allocator (guard bracket_sides)."),
    ] = UNSET
    limit: Annotated[Price | UnsetType, Meta(description="Price; left out: enter at the market.")] = UNSET
    reference: Annotated[
        Price | UnsetType,
        Meta(description="Price that the signal was made at; without it the allocator refuses to size it."),
    ] = UNSET
    ttl_s: Annotated[float, Meta(gt=0, le=TTL_S_MAX)] | UnsetType = UNSET
    expires: Annotated[str, Meta(max_length=64, extra_json_schema={"format": "date-time"})] | UnsetType = UNSET
    expires_ns: Nanoseconds | UnsetType = UNSET
    ts_event_ns: Nanoseconds | UnsetType = UNSET
    correlation_id: Annotated[str, Meta(max_length=128)] = ""


class SignalFormError(ValueError):
    """A text that is no signal; names the field, its value and the remedy."""


_decoder = msgspec.json.Decoder(SignalForm)


def parse_signal(payload: bytes, received_ns: int) -> Signal:
    """Return the signal; `received_ns` begins a `ttl_s` where no `ts_event_ns` does. Raises SignalFormError."""
    if len(payload) > BYTES_MAX:
        raise SignalFormError(f"signal has {len(payload)} bytes. Remedy: at most {BYTES_MAX}")
    try:
        form = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SignalFormError(_explained(str(error), payload)) from error
    for name, text in (("signal_id", form.signal_id), ("strategy", form.strategy), ("symbol", form.symbol)):
        if text != text.strip() or not text.isprintable() or (name == "symbol" and ":" in text):
            raise SignalFormError(f"{name} is {text!r}. Remedy: the plain name, with nothing around it")
    begins_ns = received_ns if form.ts_event_ns is UNSET else form.ts_event_ns
    return Signal(
        signal_id=form.signal_id,
        strategy=form.strategy,
        symbol=form.symbol,
        side=form.side,
        take_profit_px=_price("take_profit", form.take_profit),
        stop_px=_price("stop", form.stop),
        reference_px=_price("reference", form.reference),
        limit_px=_price("limit", form.limit),
        ts_event_ns=begins_ns,
        expires_ns=_expires_ns(form, begins_ns),
        correlation_id=form.correlation_id,
    )


def format_signal(signal: Signal) -> bytes:
    """Return the form of a signal, which `parse_signal` reads back to the same."""
    form = {
        "signal_id": signal.signal_id,
        "strategy": signal.strategy,
        "symbol": signal.symbol,
        "side": signal.side.value,
        "take_profit": format_fixed8(signal.take_profit_px) if signal.take_profit_px else None,
        "stop": format_fixed8(signal.stop_px) if signal.stop_px else None,
        "limit": format_fixed8(signal.limit_px) if signal.limit_px else None,
        "reference": format_fixed8(signal.reference_px) if signal.reference_px else None,
        "expires_ns": signal.expires_ns,
        "ts_event_ns": signal.ts_event_ns,
        "correlation_id": signal.correlation_id or None,
    }
    return msgspec.json.encode({name: value for name, value in form.items() if value is not None})


def schema_text() -> str:
    """Return the JSON Schema of the form, as `config/signal.schema.json` holds it."""
    schema = msgspec.json.schema(SignalForm)
    definition = schema["$defs"]["SignalForm"]
    definition["oneOf"] = [{"required": [name]} for name in _ENDS]
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


_ENDS = ("ttl_s", "expires", "expires_ns")


def _expires_ns(form: SignalForm, begins_ns: int) -> int:
    given = [name for name in _ENDS if getattr(form, name) is not UNSET]
    if len(given) != 1:
        raise SignalFormError(f"{' and '.join(_ENDS)}: {given or 'none'} given. Remedy: give exactly one of them")
    if form.expires_ns is not UNSET:
        return form.expires_ns
    if form.expires is not UNSET:
        return _time_ns(form.expires)
    assert form.ttl_s is not UNSET
    return begins_ns + round(form.ttl_s * 1e9)


_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


def _time_ns(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time, to all of its nine places; no leap second."""
    found = _TIME.fullmatch(text)
    if found is not None:
        year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
        fraction, sign, off_hours, off_minutes = found.groups()[6:]
        offset_s = (int(off_hours or 0) * 3_600 + int(off_minutes or 0) * 60) * (-1 if sign == "-" else 1)
        of_month = calendar.monthrange(year, month)[1] if year and 1 <= month <= 12 else 0
        of_day = hour < 24 and minute < 60 and second < 60 and int(off_hours or 0) < 24 and int(off_minutes or 0) < 60
        if of_day and 1 <= day <= of_month:
            seconds = calendar.timegm((year, month, day, hour, minute, second)) - offset_s
            return seconds * 10**9 + int((fraction or "0").ljust(9, "0"))
    raise SignalFormError(f'expires is {text!r}. Remedy: a time with its zone, e.g. "2026-01-30T15:59:00Z"')


def _price(name: str, raw: msgspec.Raw | UnsetType) -> int:
    """Fixed8 of the value as it stands in the text: quotes off, no float in between. 0: not given."""
    if raw is UNSET:
        return 0
    text = bytes(raw).decode()
    try:
        price = parse_price(text[1:-1] if text.startswith('"') else text)
    except Fixed8Error as error:
        raise SignalFormError(
            f'{name} is {text[:80]}: {error}. Remedy: a plain decimal of at most 8 places, e.g. "187.25"'
        ) from error
    if price == 0:
        raise SignalFormError(f"{name} is {text[:80]}. Remedy: a price above 0, or leave it out")
    return price


def _explained(error: str, payload: bytes) -> str:
    reason, _, place = error.partition(" - at `$.")
    shown = payload[:200].decode(errors="replace")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", reason)
    if unknown:
        near = difflib.get_close_matches(unknown[1], SignalForm.__struct_fields__, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{unknown[1]} is no field of a signal; {hint}Remedy: see config/signal.schema.json. Got {shown}"
    missing = re.fullmatch(r"Object missing required field `(.*)`", reason)
    if missing:
        return f"{missing[1]} is missing. Remedy: give it. Got {shown}"
    if not place:
        return f"not a signal's JSON: {reason}. Remedy: see config/signal.schema.json. Got {shown}"
    name = place.rstrip("`")
    return f"{name}: {reason}. Remedy: see config/signal.schema.json. Got {shown}"
