"""The sentence and the remedy for each thing that a replica can say of its parts (`gatekeeper.model.readiness`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gatekeeper.model.readiness import Part, Word


@dataclass(frozen=True)
class Finding:
    """One sentence for people, and what to do. `{name}` is the target's."""

    sentence: str
    remedy: str


_LOGIN: Final = (
    "the vault refuses the login {role}: its role or policy is missing, its key is gone, or the login was revoked",
    "run pingee-gatekeeper bootstrap --plan: it names what is missing; then start the gatekeeper anew with fresh logins",
)
_KEY: Final = "find out who changed it before anything is deployed; a rotated key is pinned anew by a reviewed change of the configuration"
_OWNER: Final = "have a policy owner push a commit that passes: pingee-gatekeeper check-config --config FILE says why; the old policy stays in force"


def _login(role: str) -> Finding:
    return Finding(_LOGIN[0].replace("{role}", role), _LOGIN[1])


FINDINGS: Final[Mapping[tuple[Part, Word], Finding]] = MappingProxyType(
    {
        (Part.DATABASE, Word.UNREACHABLE): Finding(
            "the gatekeeper cannot reach its database", "start PostgreSQL; pings wait and go on by themselves"
        ),
        (Part.DATABASE, Word.SLOW): Finding("the database does not answer within 3 s", "look at its load, disk and locks"),
        (Part.SCHEMA, Word.MIGRATION_NEEDED): Finding(
            "the database's schema is older than this gatekeeper: it was put back under it",
            "run pingee-gatekeeper migrate --config FILE, then restart",
        ),
        (Part.SCHEMA, Word.CANNOT_TELL): Finding("the schema is known only from a database that answers", ""),
        (Part.DATABASE_CLOCK, Word.AHEAD): Finding("the database's clock is ahead of the gatekeeper's", "set both clocks by NTP"),
        (Part.DATABASE_CLOCK, Word.BEHIND): Finding("the database's clock is behind the gatekeeper's", "set both clocks by NTP"),
        (Part.DATABASE_CLOCK, Word.CANNOT_TELL): Finding("the database's clock is known only from a database that answers", ""),
        (Part.VAULT, Word.SEALED): Finding(
            "the vault is sealed, so nothing can be signed or deployed", "have its keepers unseal it; pings wait and go on"
        ),
        (Part.VAULT, Word.UNREACHABLE): Finding(
            "the vault does not answer",
            "start it or mend the way to it; meanwhile pings wait. What must not wait: pingee-doorkeeper override at the target",
        ),
        (Part.VAULT, Word.UNTRUSTED): Finding(
            "the vault's certificate does not come from the pinned CA", "compare [vault] ca_file with the vault's own CA"
        ),
        (Part.VAULT, Word.SLOW): Finding("the vault does not answer within 3 s", "look at its load and its leader"),
        (Part.VAULT_CLOCK, Word.AHEAD): Finding(
            "the vault's clock is ahead of the gatekeeper's", "set both clocks by NTP: its certificates live minutes"
        ),
        (Part.VAULT_CLOCK, Word.BEHIND): Finding(
            "the vault's clock is behind the gatekeeper's", "set both clocks by NTP: its certificates live minutes"
        ),
        (Part.VAULT_CLOCK, Word.CANNOT_TELL): Finding("the vault's clock is known only from a vault that answers unsealed", ""),
        (Part.VAULT_LOG, Word.REFUSED): _login("log"),
        (Part.VAULT_LOG, Word.KEY_DIFFERS): Finding("the vault's log key is not the pinned one", _KEY),
        (Part.VAULT_LOG, Word.CANNOT_TELL): Finding("the login log and the log key are known only from a vault that answers", ""),
        (Part.VAULT_DECIDE, Word.REFUSED): _login("decide"),
        (Part.VAULT_DECIDE, Word.KEY_DIFFERS): Finding("the vault's receipt key is not the pinned one", _KEY),
        (Part.VAULT_DECIDE, Word.CANNOT_TELL): Finding("the login decide and the receipt key are known only from a vault that answers", ""),
        (Part.VAULT_ACT, Word.REFUSED): _login("act"),
        (Part.VAULT_ACT, Word.CANNOT_TELL): Finding("the login act is known only from a vault that answers", ""),
        (Part.LOG, Word.BEHIND): Finding(
            "entries stay unpublished for more than a minute: the log's publisher is behind",
            "mend vault and database first; then see the gatekeeper's log",
        ),
        (Part.LOG, Word.STOPPED): Finding(
            "the log refuses to go on: something signed, stored or kept disagrees", "touch nothing; run pingee-gatekeeper log fsck --config FILE"
        ),
        (Part.LOG, Word.UNPUBLISHED): Finding("nothing of the log was published yet", "wait a moment; if it stays so, see the gatekeeper's log"),
        (Part.WITNESSES, Word.NO_QUORUM): Finding(
            "too few witnesses cosign the newest checkpoint: nothing new is published, and nothing deploys",
            "the gatekeeper's log names who does not cosign; mend the way to them, or ask their operators",
        ),
        (Part.WITNESSES, Word.OPEN): Finding(
            "checkpoints are published without the quorum of witnesses (fail_open): verifiers that want it refuse them",
            "mend the witnesses, then end it by an order of two operators with fail_open=false",
        ),
        (Part.WITNESSES, Word.UNLOGGED): Finding(
            "the [witnesses] of the configuration are not those of the log's newest witness-change entry",
            "have two operators order it: pingee log order new witnesses; name the file as /witnesses/order and restart",
        ),
        (Part.WITNESSES, Word.UNREACHABLE): Finding(
            "a witness does not cosign, and the others are still a quorum", "the gatekeeper's log names it and says why; ask its operators"
        ),
        (Part.POLICY, Word.REWOUND): Finding("the newest policy does not descend from the one in force (config-rewound)", _OWNER),
        (Part.POLICY, Word.UNREVIEWED): Finding("the newest policy is not signed by an owner whom the one before names (config-unreviewed)", _OWNER),
        (Part.POLICY, Word.INVALID): Finding("the newest policy does not parse or contradicts itself (config-invalid)", _OWNER),
        (Part.POLICY, Word.UNAVAILABLE): Finding(
            "the policy repository cannot be read (config-unavailable); the policy in force stays", "mend the way to it, or its branch"
        ),
        (Part.CERTIFICATE, Word.EXPIRING): Finding("the gatekeeper's own certificate ends within 14 days", "give it a new one and restart it"),
        (Part.CERTIFICATE, Word.EXPIRED): Finding("the gatekeeper's own certificate has expired", "give it a new one and restart it"),
        (Part.CERTIFICATE, Word.CANNOT_TELL): Finding("this listener has no certificate of its own", ""),
        (Part.BUILDER_CA, Word.EXPIRING): Finding(
            "a builder CA of the policy ends within 14 days", "add its successor to the policy, reviewed, and sign with it"
        ),
        (Part.BUILDER_CA, Word.EXPIRED): Finding(
            "a builder CA of the policy has expired: its builders' statements are refused", "put its successor into the policy"
        ),
        (Part.TARGET, Word.UNREACHABLE): Finding(
            "the target {name} does not answer SSH", "start its SSH server or mend the way to it; what runs there goes on"
        ),
        (Part.TARGET, Word.UNTRUSTED): Finding(
            "the target {name} shows another host key than the pinned one", "find out why; pin the new one by a reviewed change of [targets.{name}]"
        ),
        (Part.TARGET, Word.SLOW): Finding("the target {name} does not answer SSH within 3 s", "look at the host and the way to it"),
    }
)
"""What is not listed is told with the word itself."""
