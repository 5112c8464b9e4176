"""The witness's directory, and its own Ed25519 key, which cosigns (cosignature/v1) and signs nothing else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from gatekeeper.tlog.cosignature import cosigned_message, encode_cosignature
from gatekeeper.tlog.errors import MalformedVerifierKey
from gatekeeper.tlog.note import NoteSignature, VerifierKey, cosigner_vkey, encode_vkey, parse_vkey

MAX_KEY: Final = 4096


class Unusable(Exception):
    """The witness's directory or an argument cannot be used: one sentence."""


@dataclass(frozen=True)
class Home:
    """Where a witness lives."""

    directory: Path

    @property
    def key(self) -> Path:
        """PKCS#8 PEM, 0600."""
        return self.directory / "witness.key"

    @property
    def vkey(self) -> Path:
        """What others pin; also where our name stands."""
        return self.directory / "witness.vkey"

    @property
    def store(self) -> Path:
        """What was seen of each log."""
        return self.directory / "witness.sqlite"


class WitnessKey:
    """Holds the private key; says nothing of it."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.vkey: VerifierKey = cosigner_vkey(name, key.public_key().public_bytes_raw())

    def cosign(self, text: bytes, timestamp: int) -> NoteSignature:
        """Our line over a note's text at that POSIX second."""
        return encode_cosignature(self.vkey, timestamp, self._key.sign(cosigned_message(text, timestamp)))


def make_home(home: Home, name: str) -> str:
    """Make directory (0700) and key; returns the vkey. Raises `Unusable`; an existing key is never replaced."""
    home.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = Ed25519PrivateKey.generate()
    try:
        vkey = encode_vkey(WitnessKey(name, private).vkey)
        _write_new(home.key, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    except MalformedVerifierKey as error:
        raise Unusable(f"--name: {error}") from None
    except FileExistsError:
        raise Unusable(f"{home.key} is there already: a witness keeps its key, and another witness has a directory of its own") from None
    _write_new(home.vkey, vkey.encode() + b"\n", 0o644)
    return vkey


def load_key(home: Home) -> WitnessKey:
    """Raises `Unusable` where the files are missing, readable by others, or do not belong together."""
    try:
        if home.key.stat().st_mode & 0o077:
            raise Unusable(f"{home.key}: others can read it; make a new witness, for this key may be known")
        private = load_pem_private_key(home.key.read_bytes()[:MAX_KEY], password=None)
        name = parse_vkey(home.vkey.read_text("utf-8")[:MAX_KEY].strip()).name
    except OSError as error:
        raise Unusable(f"{error.filename}: {error.strerror}; make a witness with: pingee-witness init {home.directory} --name NAME") from None
    except (ValueError, TypeError):
        raise Unusable(f"{home.directory}: witness.key is no private key, or witness.vkey no verifier key") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise Unusable(f"{home.key}: not an Ed25519 key")
    key = WitnessKey(name, private)
    if encode_vkey(key.vkey) != home.vkey.read_text("utf-8").strip():
        raise Unusable(f"{home.directory}: witness.key and witness.vkey do not belong together")
    return key


def _write_new(file: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as opened:
        os.fchmod(descriptor, mode)
        opened.write(data)
        opened.flush()
        os.fsync(descriptor)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
