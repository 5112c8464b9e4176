"""Whether an artifact was adopted somewhere: the row only points, the log's `adopt` entry says so."""

from __future__ import annotations

import logging

from gatekeeper.model.decision import Candidate
from gatekeeper.model.digest import digest_of
from gatekeeper.model.evidence import Absent, Evidence, Present
from gatekeeper.model.label import Viewer
from gatekeeper.ports.records import AdoptionRecord
from gatekeeper.tlog.entry import AdoptEntry, parse_entry
from gatekeeper.tlog.errors import TlogError

from .parts import Parts
from .proven import demand_in_log

_log = logging.getLogger(__name__)


async def adopted_there(parts: Parts, candidate: Candidate, viewer: Viewer) -> Evidence[bool]:
    """Present, with the digest of the entry, where the log says that these bytes were adopted in this place. Raises `PortError`."""
    record = await parts.adoptions.adoption(candidate.environment, candidate.component, viewer)
    if record is None or record.log_index is None or record.artifact != candidate.artifact:
        return Absent()
    try:
        if not _says(record, candidate):
            raise TlogError("the entry is about something else")
        await demand_in_log(parts, record.entry, record.log_index)
    except TlogError as error:
        _log.error("ALARM: the adoption of %s/%s does not stand in the log: %s", candidate.environment, candidate.component, error)
        return Absent()
    return Present(value=True, digests=(digest_of(record.entry),))


def _says(record: AdoptionRecord, candidate: Candidate) -> bool:
    entry = parse_entry(record.entry)
    if not isinstance(entry, AdoptEntry):
        return False
    wanted = (candidate.environment, candidate.component, (candidate.artifact,), candidate.config)
    return (entry.environment, entry.component, entry.running, entry.candidate_config) == wanted
