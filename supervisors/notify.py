"""systemd's readiness protocol (sd_notify(3)): a datagram to the socket that NOTIFY_SOCKET names, or nothing."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Send `READY=1`, `WATCHDOG=1`, `STOPPING=1` or `STATUS=…`; False where nobody listens or it is not taken now."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
        client.setblocking(False)
        try:
            client.sendto(state.encode(), address)
        except OSError:
            return False
    return True
