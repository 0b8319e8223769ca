"""`--fresh`: empties a run directory, if it is one and nothing stands in it that a person must see first."""

from __future__ import annotations

import shutil
from pathlib import Path

from actors.adapters.identity import IdentityFile


class RefusedToWipe(RuntimeError):
    """--fresh was asked for on a folder that is not a run directory."""


def refuse_while_halted(run_dir: Path) -> None:
    """Raises RefusedToWipe."""
    halt = IdentityFile(run_dir / "identity.json").halt()
    if halt is not None:
        raise RefusedToWipe(
            f"{run_dir} is halted: {halt.reason} (by {halt.by}); --fresh would forget it. "
            "Remedy: understand it, clear it with `run.py resume`, then start with --fresh"
        )


def wipe(run_dir: Path, keep: set[str]) -> None:
    """Empty a run directory of ours. Raises RefusedToWipe for a folder that does not look like one."""
    names = {path.name for path in run_dir.iterdir()} - keep
    if names and not names & {"engine.json", "identity.json", "ledger"}:
        raise RefusedToWipe(
            f"{run_dir} has files but no engine.json: not a run directory of Apex, so --fresh does not empty it. "
            "Remedy: name another with --set run.run_dir=…"
        )
    for path in run_dir.iterdir():
        if path.name in keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
