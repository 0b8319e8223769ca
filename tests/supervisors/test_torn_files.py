"""Files that were written down and came back as something else: bytes that are not even text."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.adapters.identity import IdentityDamaged, IdentityFile
from config.schema import load
from supervisors.exit_note import read_exit_note
from supervisors.run_files import NotRunning, read_engine_file
from supervisors.session_record import RECORD_NAME, SessionRecord

NO_TEXT = b'{"role":"\xff\xfe"}'


def test_an_engine_file_that_is_no_text_is_not_running_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "engine.json").write_bytes(NO_TEXT)
    with pytest.raises(NotRunning, match="start the engine again"):
        read_engine_file(load(None, [f"run.run_dir={tmp_path}"]))


def test_an_exit_note_that_is_no_text_is_no_note(tmp_path: Path) -> None:
    (tmp_path / "exits").mkdir()
    (tmp_path / "exits" / "book.json").write_bytes(NO_TEXT)
    assert read_exit_note(str(tmp_path), "book", 1) is None


def test_a_session_record_that_is_no_text_is_no_record(tmp_path: Path) -> None:
    (tmp_path / RECORD_NAME).write_bytes(NO_TEXT)
    assert SessionRecord.load(tmp_path) is None


@pytest.mark.parametrize("content", [NO_TEXT, b"{}", b"null", b""])
def test_an_identity_file_without_its_content_is_damaged_and_never_made_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "identity.json"
    path.write_bytes(content)
    with pytest.raises(IdentityDamaged):
        IdentityFile(path).read()
    assert path.read_bytes() == content
