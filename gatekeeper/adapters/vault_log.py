"""Role `log` on a vault: transit Ed25519 and the check-and-set head record (`log-format.md` sections 5 and 6)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gatekeeper.ports.errors import PortError, Untrustworthy
from gatekeeper.ports.vault import CasMismatch, HeadRecord

from .vault import CAS_MISMATCH, Answer, VaultSession, integer_of, text_of

MAX_NOTE: Final = 64 * 1024
MAX_EDGE: Final = 128 * 1024


class VaultLog:
    """`ports.vault.LogVault` of one instance. `public_key`: the 32 pinned bytes of the log key.

    `key_version` None: the version at which the vault keeps that very key. Which key signs is pinned either way; never "the latest".
    """

    def __init__(self, session: VaultSession, instance: str, *, public_key: bytes, key_version: int | None = None) -> None:
        self._session = session
        self._key = f"{instance}-deploylog"
        self._head = f"kv/data/{instance}/deploylog/head"
        self._pinned = public_key
        self._verifier = Ed25519PublicKey.from_public_bytes(public_key)
        self._key_version = key_version

    async def public_key(self) -> bytes:
        """See `LogVault`."""
        answer = await self._session.read(f"transit/keys/{self._key}")
        found = key_versions(answer, self._key_version, lambda text: decoded(text) == self._pinned)
        if not found:
            raise Untrustworthy("key-differs", "the vault's log key is not the pinned one")
        self._key_version = found[0]
        return self._pinned

    async def sign(self, note_text: bytes) -> bytes:
        """See `LogVault`."""
        if not note_text.endswith(b"\n") or len(note_text) > MAX_NOTE:
            raise ValueError("a note's text ends in a newline and has at most 64 KiB")
        # Never `prehashed` and no hash algorithm: OpenBao ignores them for Ed25519, others refuse or sign something else.
        version = self._key_version
        if version is None:
            await self.public_key()
            version = self._key_version or 0
        body = {"input": base64.b64encode(note_text).decode(), "key_version": version}
        answer = await self._session.write(f"transit/sign/{self._key}", body)
        signature = transit_signature(text_of(answer, "data", "signature"), version)
        try:
            self._verifier.verify(signature, note_text)
        except InvalidSignature:
            genuine = False
        else:
            genuine = True
        if not genuine:
            raise Untrustworthy("signature-wrong", "the vault's signature does not verify under the pinned log key")
        return signature

    async def read_head(self) -> HeadRecord | None:
        """See `LogVault`."""
        answer = await self._session.read(self._head)
        if answer is None:
            return None
        return HeadRecord(
            decoded(text_of(answer, "data", "data", "note")),
            integer_of(answer, "data", "metadata", "version"),
            _edge(answer),
        )

    async def write_head(self, note: bytes, *, cas: int, edge: bytes = b"") -> int:
        """See `LogVault`."""
        if not note or len(note) > MAX_NOTE or len(edge) > MAX_EDGE:
            raise ValueError("a note has 1 byte to 64 KiB, an edge at most 128 KiB")
        data = {"note": base64.b64encode(note).decode(), "edge": base64.b64encode(edge).decode()}
        body: Mapping[str, object] = {"data": data, "options": {"cas": cas}}
        mismatch = False
        try:
            answer = await self._session.write(self._head, body)
        except PortError as error:
            if error.cause_code != CAS_MISMATCH:
                raise
            mismatch = True
        if mismatch:
            raise CasMismatch(CAS_MISMATCH, "another writer has written the log's head since version " + str(cas))
        return integer_of(answer, "data", "version")


def key_versions(answer: Mapping[str, Any] | None, wanted: int | None, is_pinned: Callable[[str], bool]) -> list[int]:
    """The versions of a transit key that hold the pinned public key; only the wanted one is looked at, where one is wanted."""
    try:
        versions = (answer or {})["data"]["keys"]
        texts = {int(version): str(key["public_key"]) for version, key in versions.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Untrustworthy("vault-answer", "the vault's answer about a key is not understood") from None
    return sorted(version for version, text in texts.items() if wanted in (None, version) and is_pinned(text))


def _edge(answer: Answer) -> bytes:
    # A head from before edges were kept has none. A wrong one proves nothing: it is believed only where its root is the note's.
    try:
        return decoded(text_of(answer, "data", "data", "edge"))
    except Untrustworthy:
        return b""


def transit_signature(text: str, key_version: int) -> bytes:
    """The bytes in `vault:vN:<base64>`; `Untrustworthy` if it is of another key version or another form."""
    prefix = f"vault:v{key_version}:"
    if not text.startswith(prefix):
        raise Untrustworthy("vault-answer", "the vault signed with another key version than the pinned one")
    return decoded(text.removeprefix(prefix))


def decoded(text: str) -> bytes:
    """Strict base64 of the vault's answer."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise Untrustworthy("vault-answer", "the vault's answer is not base64 where it has to be")
