"""`pingee ping status watch explain rollback adopt cancel`: ask, look, follow, understand, go back."""

from __future__ import annotations

import secrets
import time
from argparse import Namespace
from typing import Any

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.ping import ENDED, State

from .exits import Exit, Failure, exit_of_state
from .output import origin_word, print_json, print_pairs, print_table, safe, say
from .server import Server


def ping(server: Server, arguments: Namespace) -> Exit:
    """Ask to deploy. Without `--wait`: 0 accepted, 3 already denied."""
    body: dict[str, Any] = {"environment": arguments.environment, "component": arguments.component, "reason": arguments.reason or ""}
    if arguments.artifact:
        body["artifact"] = arguments.artifact
    elif arguments.commit:
        body["artifact"] = _newest_artifact(server, arguments.commit)
    if arguments.config:
        body["config"] = arguments.config
    if arguments.deadline:
        body["deadline"] = arguments.deadline
    return _ask(server, "/v1/pings", body, arguments)


def rollback(server: Server, arguments: Namespace) -> Exit:
    """Return to bytes that ran before; `--list` prints which those are."""
    place = f"environment={arguments.environment}&component={arguments.component}"
    if arguments.list:
        members: Any = server.get(f"/v1/rollbacks?{place}")["items"]
        if arguments.output == "json":
            print_json(members)
        else:
            rows = [(m["artifact"], origin_word(m["commit"]), m["config"][:12], m["since"]) for m in members]
            print_table(("ARTIFACT", "COMMIT", "CONFIGURATION", "SINCE"), rows)
        return Exit.OK
    body: dict[str, Any] = {"environment": arguments.environment, "component": arguments.component, "reason": arguments.reason or "rollback"}
    if arguments.to:
        body["to"] = arguments.to
    return _ask(server, "/v1/rollbacks", body, arguments)


def status(server: Server, arguments: Namespace) -> Exit:
    """One ping, or the newest ones."""
    if arguments.ping is None:
        pings: Any = server.get("/v1/pings?limit=20")["items"]
        if arguments.output == "json":
            print_json(pings)
        else:
            rows = [(p["id"], f"{p['environment']}/{p['component']}", p["state"], ", ".join(p["reasons"]), p["times"]["created"]) for p in pings]
            print_table(("PING", "WHERE", "STATE", "WHY", "CREATED"), rows)
        return Exit.OK
    found = server.get(f"/v1/pings/{arguments.ping}")
    _print_ping(found, arguments.output)
    return Exit.OK


def watch(server: Server, arguments: Namespace) -> Exit:
    """Follow a ping until it ends or the time is over; Ctrl-C stops watching only."""
    found = _wait(server, arguments.ping, arguments.timeout, quiet=arguments.output == "json")
    _print_ping(found, arguments.output)
    return _exit(found)


def explain(server: Server, arguments: Namespace) -> Exit:
    """Every rule of the last decision, and what would make the failing ones pass."""
    document: Any = server.get(f"/v1/pings/{arguments.ping}/explanation")
    if arguments.output == "json":
        print_json(document)
        return Exit.OK
    rules = [r for r in document["rules"] if not arguments.missing or r["result"] in ("fail", "unreadable")]
    place = f"{document['component']} -> {document['environment']}"
    mode = f"   mode {document['mode']}" if document.get("mode") else ""
    print(safe(f"{document['headline']}{mode}   {place}   {document['artifact']}   ping {document['ping_id']}"))
    print(safe(f"{document['purpose']}, with the configuration of {document['config']}") + "\n")
    print_table(("RULE", "RESULT", "FOUND", "NEED"), [(r["rule"], r["result"], r["actual"], r["need"] or "-") for r in rules])
    failing = [r for r in document["rules"] if r["result"] in ("fail", "unreadable")]
    for row in failing if arguments.verbose else failing[:1]:
        print("\n" + safe(f"{row['rule']}: {row['reason']}"))
        print(f"  expected   {safe(row['expected'])}\n  actual     {safe(row['actual'])}\n  who        {safe(row['who'])}")
    if document.get("let_pass"):
        print("\n" + safe(f"Mode warn let pass: {', '.join(document['let_pass'])}"))
    if document["next_step"]:
        print(f"\nNext: {safe(document['next_step']['text'])}   ({safe(document['next_step']['who'])})")
    if document["detail"]:
        print(f"\n{safe(document['detail'])}")
    policy = document["policy"]
    found = f"Policy {policy['revision']} {policy['digest']}   evaluated {document['evaluated_at']}   log index {document['log_index']}"
    print("\n" + safe(found))
    print(safe(document["permalink"]))
    return Exit.OK


def adopt(server: Server, arguments: Namespace) -> Exit:
    """Record what runs as the first member of the rollback set."""
    body = {"environment": arguments.environment, "component": arguments.component, "reason": arguments.reason}
    key = arguments.idempotency_key or secrets.token_hex(16)
    found: Any = server.post("/v1/adoptions", encode_canonical(body), headers={"Idempotency-Key": key})
    if arguments.output == "json":
        print_json(found)
    else:
        where = f"{found['environment']}/{found['component']}"
        print_pairs({"adopted": where, "artifact": found["artifact"], "config": found["config"], "log index": found["log_index"]})
        say(f"nothing was deployed; it comes back with: pingee rollback {found['environment']} {found['component']} --to {found['artifact']}")
    return Exit.OK


def cancel(server: Server, arguments: Namespace) -> Exit:
    """Withdraw a ping that waits."""
    found = server.post(f"/v1/pings/{arguments.ping}/cancellation", encode_canonical({"reason": arguments.reason}))
    _print_ping(found, arguments.output)
    return Exit.OK


def _ask(server: Server, path: str, body: dict[str, Any], arguments: Namespace) -> Exit:
    key = arguments.idempotency_key or secrets.token_hex(16)
    found: Any = server.post(path, encode_canonical(body), headers={"Idempotency-Key": key})
    if arguments.wait:
        found = _wait(server, found["id"], arguments.timeout, quiet=arguments.output == "json")
        _print_ping(found, arguments.output)
        return _exit(found)
    _print_ping(found, arguments.output)
    if arguments.output != "json":
        say(f"follow it: pingee watch {found['id']}   why: pingee explain {found['id']}")
    return Exit.DENIED if found["state"] == State.DENIED else Exit.OK


def _wait(server: Server, ping_id: str, timeout_s: float, *, quiet: bool) -> Any:
    deadline = time.monotonic() + timeout_s
    shown = None
    try:
        while True:
            asked_at = time.monotonic()
            left = max(0, min(server.longest_wait_s, int(deadline - asked_at)))
            found: Any = server.get(f"/v1/pings/{ping_id}", headers={"Prefer": f"wait={left}"} if shown else None)
            state = (found["state"], tuple(found["reasons"]))
            if state != shown:
                shown = state
                if not quiet:
                    say(f"{found['state']}" + (f": {', '.join(found['reasons'])}" if found["reasons"] else ""))
            now = time.monotonic()
            if State(found["state"]) in ENDED or now >= deadline:
                return found
            if now - asked_at < 1:
                # answered at once, by a server that holds no answer back: do not ask again in a tight loop
                time.sleep(min(1.0, deadline - now))
    except KeyboardInterrupt:
        raise Failure(Exit.PENDING, f"stopped watching; the ping goes on: pingee watch {ping_id}") from None


def _exit(found: Any) -> Exit:
    return exit_of_state(State(found["state"]), tuple(found["reasons"]))


def _print_ping(found: Any, output: str) -> None:
    if output == "json":
        print_json(found)
        return
    print_pairs(
        {
            "ping": found["id"],
            "where": f"{found['environment']}/{found['component']}",
            "artifact": found["artifact"],
            "commit": found["commit"] or origin_word(None),
            "configuration": found["config"],
            "purpose": found["purpose"],
            "state": found["state"] + (f" ({', '.join(found['reasons'])})" if found["reasons"] else ""),
            "log index": "-" if found["log_index"] is None else found["log_index"],
            "detail": found["detail"] or "-",
            "page": found["permalink"],
        }
    )


def _newest_artifact(server: Server, commit: str) -> str:
    items: Any = server.get(f"/v1/artifacts?commit={commit}")["items"]
    if not items:
        raise Failure(Exit.REMOTE, f"no artifact of commit {commit} is known; was it built and submitted?")
    say(f"artifact {items[0]['digest']}")
    return str(items[0]["digest"])


