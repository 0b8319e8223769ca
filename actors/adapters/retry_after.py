"""What a venue says about when to come back."""

from __future__ import annotations

from typing import Final

DAY_S: Final = 86_400.0
BUSY_S: Final = {429: 30.0, 418: 120.0}
"""Where the venue refuses without saying for how long."""


def retry_after_s(status: int, header: str | None) -> float:
    """Return the seconds to stay away after an HTTP refusal; 0 for a status that says nothing of it.

    The header counts for 429 and 418, in whole seconds, at most three days (the longest ban); anything else in it is
    as if it were absent.
    """
    if status in (429, 418) and header is not None and header.isascii() and header.isdigit():
        return min(float(header[:9]), 3 * DAY_S)
    return BUSY_S.get(status, 0.0)
