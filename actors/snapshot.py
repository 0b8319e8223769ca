"""The snapshot's form: a JSON line of header, then the state, checked before it is believed."""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec

from actors.core import Core
from actors.ports import LedgerCorrupt
from actors.role import Role
from kernels.layered_map import LayeredMap

S = TypeVar("S")


class SnapshotHeader(msgspec.Struct, frozen=True):
    """What is known before the state is decoded. `checksum` is BLAKE2b-128, in hex, over the rest and the state."""

    role: str
    schema_version: int
    seq: int
    checksum: str


class _StoredCore(msgspec.Struct, frozen=True):
    """A `Core` as it is stored: only the role's own state has a schema that a role can migrate."""

    seq: int
    role: msgspec.Raw
    outbox: msgspec.Raw
    sent: msgspec.Raw
    accepted: msgspec.Raw
    alarms: msgspec.Raw = msgspec.Raw(b"{}")


class SnapshotDamaged(ValueError):
    """This snapshot is not what was written; the older one and a longer tail serve instead."""


def _as_dict(value: object) -> object:
    """What a map's layers hold is no part of the stored form."""
    if isinstance(value, LayeredMap):
        return value.as_dict()
    raise TypeError(f"a state holds a {type(value).__name__}, which has no stored form")


_encode = msgspec.json.Encoder(enc_hook=_as_dict).encode


def encode_snapshot(role: Role[S], core: Core[S]) -> bytes:
    """Write `core` as a header line and a JSON body."""
    body = _encode(core)
    checksum = _checksum(role.name, role.schema_version, core.seq, body)
    header = SnapshotHeader(role.name, role.schema_version, core.seq, checksum)
    return msgspec.json.encode(header) + b"\n" + body


def decode_snapshot(role: Role[S], payload: bytes) -> Core[S]:
    """Read it back, migrated if of the version before. Raises SnapshotDamaged, LedgerCorrupt (unknown version)."""
    head, separator, body = payload.partition(b"\n")
    try:
        header = msgspec.json.decode(head, type=SnapshotHeader)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotDamaged(f"{role.name}: snapshot header unreadable: {error}") from error
    if not separator or header.checksum != _checksum(header.role, header.schema_version, header.seq, body):
        raise SnapshotDamaged(f"{role.name}: snapshot of seq {header.seq} fails its checksum")
    if header.role != role.name:
        raise LedgerCorrupt(f"{role.name}: the snapshot under this role's key is {header.role}'s")
    if header.schema_version == role.schema_version - 1:
        before = msgspec.json.decode(body, type=_StoredCore)
        migrated = msgspec.Raw(role.migrate(header.schema_version, bytes(before.role)))
        body = msgspec.json.encode(msgspec.structs.replace(before, role=migrated))
    elif header.schema_version != role.schema_version:
        raise LedgerCorrupt(
            f"{role.name}: snapshot has schema version {header.schema_version}, this program reads "
            f"{role.schema_version} and {role.schema_version - 1}; run the version that wrote it, or start with --fresh"
        )
    core: Core[S] = msgspec.json.decode(body, type=Core[role.state_type])  # type: ignore[name-defined]
    if core.seq != header.seq:
        raise SnapshotDamaged(f"{role.name}: snapshot header says seq {header.seq}, its state {core.seq}")
    return core


def _checksum(role: str, schema_version: int, seq: int, body: bytes) -> str:
    """Cover the header too: a flipped byte in it must not look like another role's or version's snapshot."""
    digest = hashlib.blake2b(f"{role}\n{schema_version}\n{seq}\n".encode(), digest_size=16)
    digest.update(body)
    return digest.hexdigest()
