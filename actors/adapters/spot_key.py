"""The API key of the spot account: read from a file that is its owner's alone, used to sign, shown nowhere."""

from __future__ import annotations

import hashlib
import hmac
import stat
import urllib.parse
from pathlib import Path

import msgspec


class KeyFileError(ValueError):
    """The key file cannot be used; the text names it and the remedy, and nothing that is in it."""


class ApiKey(msgspec.Struct, frozen=True):
    """Key and secret. Its text shows neither."""

    api_key: str
    secret: str

    def __repr__(self) -> str:
        return "ApiKey(…)"

    def signed(self, params: dict[str, str]) -> str:
        """Return the parameters as a query string with their signature."""
        query = urllib.parse.urlencode(params)
        return f"{query}&signature={hmac.new(self.secret.encode(), query.encode(), hashlib.sha256).hexdigest()}"


def read_key(path: Path) -> ApiKey:
    """Return the key in a file {"api_key", "secret"} of mode 0600. Raises KeyFileError."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_bytes()
    except OSError as error:
        raise KeyFileError(
            f"API key file {path}: {error.strerror}. Remedy: name the file, or start the venue"
        ) from None
    if mode & 0o077:
        raise KeyFileError(f"API key file {path} has mode {mode:o}; others may read it. Remedy: chmod 600 {path}")
    try:
        key = msgspec.json.decode(content, type=ApiKey)
    except msgspec.DecodeError:
        key = ApiKey("", "")
    if not (key.api_key.isascii() and key.api_key.isalnum() and key.secret):
        raise KeyFileError(f'API key file {path} is not {{"api_key": …, "secret": …}}. Remedy: restore it')
    return key
