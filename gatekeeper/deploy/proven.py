"""That an entry stands in the log: asked again wherever a row of ours only points to one."""

from __future__ import annotations

from gatekeeper.tlog.checkpoint import parse_checkpoint
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.errors import ProofMismatch
from gatekeeper.tlog.merkle import leaf_hash, verify_inclusion
from gatekeeper.tlog.note import parse_note
from gatekeeper.tlog.proof import parse_proof

from .parts import Parts


async def demand_in_log(parts: Parts, entry: bytes, index: int) -> None:
    """Raises `TlogError` where these bytes do not stand at this index of the origin that they name, `PortError` where that cannot be told now.

    The checkpoint's signature is the log's own business; that the entry is under its root is ours.
    """
    origin = parse_entry(entry).origin
    proof = parse_proof((await parts.log.prove(index)).proof if origin == parts.origin else await parts.origins.prove(origin, index))
    checkpoint = parse_checkpoint(parse_note(proof.checkpoint).text)
    if (proof.index, checkpoint.origin) != (index, origin):
        raise ProofMismatch("the log proved another entry")
    verify_inclusion(leaf_hash(entry), index, checkpoint.size, proof.path, checkpoint.root)
