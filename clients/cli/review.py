"""`pingee key new` and `pingee vote`: a reviewer's own key, and a vote signed with it."""

from __future__ import annotations

import base64
import os
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key

from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import moment
from gatekeeper.model.uris import IN_TOTO_PAYLOAD
from gatekeeper.verify.bundle import encode_bundle
from gatekeeper.verify.dsse import pae
from gatekeeper.verify.vote import vote_statement

from .exits import Exit, Failure
from .output import print_json, print_pairs, say
from .server import Server


def key_new(arguments: Namespace) -> Exit:
    """Make an Ed25519 key in a file of mode 0600 and print its public half for the policy repository."""
    key = Ed25519PrivateKey.generate()
    path = Path(arguments.file)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Failure(Exit.USAGE, f"{path} exists; a key is never overwritten") from None
    except OSError as error:
        raise Failure(Exit.USAGE, f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(handle, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    print(_public(key))
    say("put this line into `keys` of your entry in people.toml of the policy repository; the change is reviewed like any other")
    return Exit.OK


def vote(server: Server, arguments: Namespace) -> Exit:
    """Sign a vote for one exact revision and store it."""
    key = load_key(Path(arguments.key))
    payload = vote_statement(
        project=arguments.project,
        change=arguments.change,
        revision=arguments.revision,
        tree=arguments.tree,
        label=arguments.label,
        value=arguments.value,
        at=moment(datetime.now(UTC)),
    )
    bundle = encode_bundle(payload, key.sign(pae(IN_TOTO_PAYLOAD, payload)), key_hint=digest_of(raw_public(key)))
    found = server.post("/v1/votes", bundle)
    if arguments.output == "json":
        print_json(found)
    else:
        print_pairs({name: found[name] for name in ("project", "change", "revision", "label", "value", "voter")})
    return Exit.OK


def load_key(path: Path) -> Ed25519PrivateKey:
    """A person's own key, from a file that nobody else can read."""
    try:
        if path.stat().st_mode & 0o077:
            raise Failure(Exit.USAGE, f"others can read {path}: chmod 600 {path}, and think about who has seen it")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise Failure(Exit.USAGE, f"the key {path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise Failure(Exit.USAGE, f"{path} is no unencrypted PEM private key; make one with: pingee key new FILE") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Failure(Exit.USAGE, f"{path} is no Ed25519 key; make one with: pingee key new FILE")
    return key


def raw_public(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of its public half."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _public(key: Ed25519PrivateKey) -> str:
    return "ed25519 " + base64.b64encode(raw_public(key)).decode()
