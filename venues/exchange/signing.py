"""Who may ask: the API key of the one account, signatures, and timestamps within their window.

Forms: the exchange's spot REST documentation (request security, timing security), as of 2025.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import string
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from venues.exchange.api_error import ApiError, illegal, missing
from venues.exchange.state import StateError

KEY_HEADER: Final = "X-MBX-APIKEY"
RECV_WINDOW_MS: Final = 5_000
RECV_WINDOW_MS_MAX: Final = 60_000
AHEAD_MS_MAX: Final = 1_000
_KEY: Final = re.compile(r"[A-Za-z0-9]{64}")
_ALPHABET: Final = string.ascii_letters + string.digits


class ApiKey(msgspec.Struct, frozen=True):
    """The account's key and secret. Its text shows neither."""

    api_key: str
    secret: str

    def __repr__(self) -> str:
        return "ApiKey(…)"


def random_text(length: int) -> str:
    """Return letters and digits that nobody can guess."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def load_or_make_key(path: Path) -> ApiKey:
    """Return the key in the file; make both once, for the owner's eyes only (mode 0600). Raises StateError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return _make_key(path)
    try:
        key = msgspec.json.decode(content, type=ApiKey)
    except msgspec.DecodeError:
        raise StateError(f"{path} is no API key file; remove it (a new key is made) or restore it") from None
    if not (_KEY.fullmatch(key.api_key) and key.secret):
        raise StateError(f"{path} holds no usable key; remove it (a new key is made) or restore it")
    return key


def _make_key(path: Path) -> ApiKey:
    key = ApiKey(random_text(64), random_text(64))
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(key))
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    return key


def sign(secret: str, payload: str) -> str:
    """Return the signature of a request's parameters as they are sent."""
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


def check_key(key: ApiKey, header: str | None) -> None:
    """Raise ApiError where the header is not the account's key."""
    if header is None or not _KEY.fullmatch(header):
        raise ApiError(-2014, "API-key format invalid.", 401)
    if not hmac.compare_digest(header, key.api_key):
        raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)


def parameters(query: str, body: str) -> dict[str, str]:
    """Return the parameters of query string and form body together. Raises ApiError where one was sent twice."""
    pairs = parse_qsl(query, keep_blank_values=True) + parse_qsl(body, keep_blank_values=True)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ApiError(-1101, "Duplicate values for a parameter detected.")
    return found


def check_signed(key: ApiKey, query: str, body: str, now_ms: int) -> dict[str, str]:
    """Return the parameters of a signed request, without signature and timing. Raises ApiError.

    What is signed is the query string followed by the body, as sent, without the signature itself.
    """
    found = parameters(query, body)
    signature = found.pop("signature", "")
    if not signature:
        raise missing("signature")
    timestamp_ms = _number(found, "timestamp", None)
    window_ms = _number(found, "recvWindow", RECV_WINDOW_MS)
    if window_ms > RECV_WINDOW_MS_MAX:
        raise ApiError(-1131, f"recvWindow must be less than {RECV_WINDOW_MS_MAX}")
    if timestamp_ms >= now_ms + AHEAD_MS_MAX:
        raise ApiError(-1021, f"Timestamp for this request was {AHEAD_MS_MAX}ms ahead of the server's time.")
    if now_ms - timestamp_ms > window_ms:
        raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")
    signed = _without_signature(query) + _without_signature(body)
    if not hmac.compare_digest(sign(key.secret, signed).encode(), signature.lower().encode()):
        raise ApiError(-1022, "Signature for this request is not valid.")
    return found


def _without_signature(text: str) -> str:
    return "&".join(part for part in text.split("&") if not part.startswith("signature="))


def _number(found: dict[str, str], name: str, default: int | None) -> int:
    text = found.pop(name, "")
    if not text:
        if default is None:
            raise missing(name)
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise illegal(name, "^[0-9]{1,20}$")
    return int(text)
