"""`run.py` on a terminal of its own (the standard library's pty), its output kept as it comes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path

ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[()][A-Z0-9])")
KEPT_BYTES_MAX = 8_000_000


class Terminal:
    """A child with this terminal as its controlling one. Read in a thread, so that the child never blocks."""

    def __init__(self, command: list[str], columns: int, lines: int, cwd: Path) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(lines)}
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=environment,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self._bytes = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._master, 65536)
            except OSError:  # Linux says EIO where others say end of file
                return
            if not part:
                return
            self._bytes += part
            del self._bytes[:-KEPT_BYTES_MAX]

    @property
    def raw(self) -> str:
        """Everything written so far, with its escape sequences."""
        return self._bytes.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        """The same without them."""
        return ESCAPE.sub("", self.raw)

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def wait_for(self, words: str, seconds_max: float) -> None:
        deadline = time.monotonic() + seconds_max
        while words not in self.text:
            assert time.monotonic() < deadline, f"not within {seconds_max} s: {words!r}\n{self.text[-3000:]}"
            assert self.process.poll() is None or words in self.text, f"ended: {self.text[-3000:]}"
            time.sleep(0.05)

    def wait_end(self, seconds_max: float) -> int:
        code = self.process.wait(seconds_max)
        self._reader.join(5)
        return code

    def close(self) -> None:
        """End the child if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        os.close(self._master)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
