"""Logs: a bounded file for each process. Set up after the fork, in each process for itself."""

from __future__ import annotations

import logging
import os
import sys
from types import FrameType

from loguru import logger

FORMAT = "{time:YYYY-MM-DDTHH:mm:ss.SSSSSSZZ} {level: <8} {extra[role]} {message}"


class Intercept(logging.Handler):
    """Hands the standard library's log records to loguru, under the logger's name, with the caller they came from."""

    def emit(self, record: logging.LogRecord) -> None:
        """Forward one record."""
        frame: FrameType | None = logging.currentframe()
        depth = 2
        while frame is not None and frame.f_code.co_filename == logging.__file__:
            frame, depth = frame.f_back, depth + 1
        told = logger.opt(depth=depth, exception=record.exc_info)
        told.log(record.levelname, "{}: {}", record.name, record.getMessage())


def log_to_file(run_dir: str, role: str, level: str = "INFO") -> None:
    """Send this process's logs to `run_dir/logs/<role>.log`, at most 4 files of 10 MB.

    The actor system replaces the root logger by one that ships records as messages; that is undone here, because
    some are lost at shutdown and the rest compete with orders.
    """
    folder = os.path.join(run_dir, "logs")
    os.makedirs(folder, exist_ok=True)
    logger.remove()
    logger.configure(extra={"role": role})
    logger.add(
        os.path.join(folder, f"{role}.log"),
        format=FORMAT,
        level=level,
        rotation="10 MB",
        retention=3,
        enqueue=False,
        backtrace=False,
        diagnose=False,
    )
    root = logging.RootLogger(logging.WARNING)
    root.handlers[:] = [Intercept()]
    logging.root = root
    logging.Logger.root = root
    logging.Logger.manager = logging.Manager(root)


def log_to_terminal(level: str = "INFO") -> None:
    """Log lines on standard error, for the guardian without a terminal view."""
    logger.remove()
    logger.configure(extra={"role": "run.py"})
    logger.add(sys.stderr, format=FORMAT, level=level, enqueue=False, backtrace=False, diagnose=False)
