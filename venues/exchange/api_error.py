"""A refusal in the exchange's own form, and the few that several parts of it give."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web


class ApiError(Exception):
    """HTTP 400, unless said otherwise, with a code and a message in the body."""

    def __init__(self, code: int, message: str, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.headers = headers or {}


class _Body(msgspec.Struct):
    code: int
    msg: str


INVALID_SYMBOL: Final = (-1121, "Invalid symbol.")
NO_SUCH_ORDER: Final = (-2013, "Order does not exist.")
UNKNOWN_CANCEL: Final = (-2011, "Unknown order sent.")
INSUFFICIENT_BALANCE: Final = (-2010, "Account has insufficient balance for requested action.")
DUPLICATE_ORDER: Final = (-2010, "Duplicate order sent.")
WOULD_TAKE: Final = (-2010, "Order would immediately match and take.")
MARKET_CLOSED: Final = (-1013, "Market is closed.")


def missing(name: str) -> ApiError:
    """A parameter that must be there and is not."""
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def not_required(name: str) -> ApiError:
    """A parameter that may not be there, given the others."""
    return ApiError(-1106, f"Parameter '{name}' sent when not required.")


def illegal(name: str, pattern: str) -> ApiError:
    """A parameter with characters that it may not have."""
    return ApiError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{pattern}'.")


def error_response(error: ApiError) -> web.Response:
    """Return the HTTP answer to what was refused."""
    body = msgspec.json.encode(_Body(error.code, str(error)))
    return web.Response(body=body, status=error.status, headers=error.headers, content_type="application/json")
