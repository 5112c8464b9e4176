"""`pingee doctor`: one sentence for each thing that is wrong, and what to do. It works when everything is down.

What is reached is asked: the server (TLS, its certificate, its clock), our own token and files, the log against its policy file, and, where
`--operator URL` names it, what the replica says of its own parts. What could be known only through a part that is away is "cannot tell".
"""

from __future__ import annotations

import ssl
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2

from gatekeeper.tlog.errors import BadNoteSignature, TlogError
from gatekeeper.tlog.logpolicy import open_cosigned, parse_log_policy

from .check import Check, document, render, untold, verdict, well, wrong
from .exits import Exit
from .output import print_json, safe
from .reach import get, operator, own_token, server, vault
from .server import Access


@dataclass(frozen=True)
class Asked:
    """What to look at: the access that other commands would use, and what only the doctor is told."""

    access: Access
    log_policy: Path | None
    trusted_root: Path | None
    operator: str | None
    vault: str | None
    vault_ca_file: Path | None


def doctor(asked: Asked, arguments: Namespace) -> Exit:
    """Look, tell, and end with 0 (all well), 3 (something is wrong) or 7 (nothing is seen to be wrong, and something cannot be told)."""
    checks = tuple(examine(asked, now=datetime.now(UTC)))
    if arguments.output == "json":
        print_json(document(checks))
    else:
        print(render(checks, verbose=arguments.verbose))
    return verdict(checks)


def examine(asked: Asked, *, now: datetime) -> Iterator[Check]:
    """Every check that can be made, in the order in which a person would mend them. `now` is our own clock."""
    yield from own_token(asked.access, now)
    reached = False
    for check in server(asked.access, now):
        reached = reached or (check.name, check.ok) == ("server", True)
        yield check
    yield from _log(asked, reached=reached)
    yield from _trusted_root(asked.trusted_root)
    if asked.vault is not None:
        yield vault(asked.vault, asked.vault_ca_file)
    yield from operator(asked.operator, now)


def _log(asked: Asked, *, reached: bool) -> Iterator[Check]:
    name, file = "log-policy", asked.log_policy
    trusted = "get it from the reviewed configuration, not from the gatekeeper: --log-policy FILE or PINGEE_LOG_POLICY"
    if file is None:
        yield wrong(name, "log-policy-absent", "no log policy file is named: nothing of the log can be checked from here", trusted)
        return
    try:
        policy = parse_log_policy(file.read_bytes())
    except OSError as error:
        yield wrong(name, "log-policy-absent", f"the log policy file {file} cannot be read: {error.strerror}", trusted)
        return
    except TlogError as error:
        yield wrong(name, "log-policy-malformed", f"{file} is no log policy: {error}", trusted)
        return
    if not reached or asked.access.url is None:
        yield untold(name, f"{file} is of {policy.log.name}; whether the server's log is that one is not known without an answer")
        return
    try:
        answer = get(asked.access.url, "/log/checkpoint", asked.access)
        origin = answer.text.partition("\n")[0]
        if answer.status_code != 200:
            yield untold("log", f"the server shows no checkpoint (HTTP {answer.status_code})", "see --operator URL: the log's own state")
        elif origin != policy.log.name:
            yield wrong(name, "log-policy-other", f"{file} is for the log {policy.log.name}, and the server's is {safe(origin)[:200]}", trusted)
        else:
            opened = open_cosigned(answer.content, policy)
            yield well(name, "log-policy", f"the server's checkpoint of {opened.size} entries is signed as {file} demands")
    except (httpx2.HTTPError, ssl.SSLError, OSError):
        yield untold("log", "the server's checkpoint did not come whole")
    except BadNoteSignature:
        sentence = f"the server's log has the origin of {file} and is not signed by its key"
        yield wrong("log", "bad-signature", sentence, "keep both, tell whoever audits the log, and deploy nothing until it is understood")
    except TlogError as error:
        yield wrong("log", "log-unverified", f"the server's checkpoint does not satisfy {file}: {error}", "ask who runs the log and its witnesses")


def _trusted_root(file: Path | None) -> Iterator[Check]:
    if file is None:
        return
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        remedy = "name the file of the reviewed configuration: PINGEE_TRUSTED_ROOT"
        yield wrong("trusted-root", "trusted-root-absent", f"the trusted root {file} cannot be read: {error.strerror}", remedy)
    else:
        yield well("trusted-root", "trusted-root", f"the trusted root {file} is there")
