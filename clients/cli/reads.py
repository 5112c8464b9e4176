"""`pingee running provenance artifact whoami`: what runs, and what put it there."""

from __future__ import annotations

import hashlib
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from gatekeeper.model.digest import digest_of

from .exits import Exit, Failure
from .output import origin_word, print_json, print_pairs, print_table, safe
from .server import Server


def running(server: Server, arguments: Namespace) -> Exit:
    """What runs where."""
    query = "&".join([f"environment={arguments.environment}"] * bool(arguments.environment) + ["drift"] * arguments.drift)
    items: Any = server.get(f"/v1/running?{query}" if query else "/v1/running")["items"]
    if arguments.output == "json":
        print_json(items)
    else:
        rows = [
            (
                *(i["environment"], i["component"], origin_word(i["commit"]), i["artifact"], i["config"][:12], i["since"], i["log_index"]),
                _drift(i.get("drift")),
            )
            for i in items
        ]
        print_table(("ENVIRONMENT", "COMPONENT", "COMMIT", "ARTIFACT", "CONFIGURATION", "SINCE", "LOG", "DRIFT"), rows)
    return Exit.OK


def _drift(drift: Any) -> str:
    if not drift:
        return "-"
    return f"{drift['kind']}: {drift['running'] or 'nothing'} runs, seen {drift['observed']}"


def provenance(server: Server, arguments: Namespace) -> Exit:
    """Commit, review, build, tests and decisions behind a digest, ENVIRONMENT/COMPONENT or commit."""
    document: Any = server.get(f"/v1/artifacts/{_digest(server, arguments.what)}/provenance")
    if arguments.output == "json":
        print_json(document)
        return Exit.OK
    print_pairs({"artifact": document["artifact"], "component": document["component"], **_beginning(document)})
    print()
    print_table(
        ("EVIDENCE", "STAGE", "STATUS", "LOG", "DIGEST"),
        [(s["kind"], s["stage"] or "-", s["status"], s["log_index"], s["digest"]) for s in document["statements"]],
    )
    print()
    print_table(("VOTE", "VALUE", "REVISION"), [(v["voter"], f"{v['label']} {v['value']:+d}", v["revision"]) for v in document["votes"]])
    print()
    print_table(
        ("DEPLOYED TO", "STATE", "PURPOSE", "CONFIGURATION", "AT", "DECISION", "OUTCOME", "PING"),
        [
            (d["environment"], d["state"], d["purpose"], d["config"][:12], d["since"], d["log_index"], d["outcome_index"], d["ping_id"] or "-")
            for d in document["deployments"]
        ],
    )
    return Exit.OK


def _beginning(document: Any) -> dict[str, Any]:
    """Where the artifact comes from: a build, or an adoption."""
    source, build = document["source"], document["build"]
    if source is None or build is None:
        where = [f"{a['environment']}/{a['component']} at {a['at']}, log index {a['log_index']}" for a in document["adopted"]]
        return {"origin": origin_word(None), "adopted": "; ".join(where)}
    return {
        "repository": source["repository"],
        "commit": source["commit"],
        "tree": source["tree"],
        "pushed by": build["uploader"],
        "builder": f"{build['builder']} run {build['run']}",
        "received": build["received"],
    }


def artifact_list(server: Server, arguments: Namespace) -> Exit:
    """Artifacts of a commit or project."""
    query = "&".join(f"{name}={value}" for name, value in (("commit", arguments.commit), ("project", arguments.project)) if value)
    items: Any = server.get(f"/v1/artifacts?{query}")["items"]
    if arguments.output == "json":
        print_json(items)
    else:
        print_table(("ARTIFACT", "COMPONENT", "COMMIT", "RECEIVED"), [(i["digest"], i["component"], i["commit"][:12], i["received"]) for i in items])
    return Exit.OK


def artifact_log(server: Server, arguments: Namespace) -> Exit:
    """The build log of an artifact, as the builder stored it."""
    # What the build's own commands printed: split at newlines alone, and escaped, so that a log cannot rewrite the screen it is read on.
    text = server.get_bytes(f"/v1/artifacts/{arguments.digest}/log").decode("utf-8", "backslashreplace")
    sys.stdout.writelines("\t".join(safe(part) for part in line.split("\t")) + "\n" for line in text.removesuffix("\n").split("\n"))
    return Exit.OK


def receipt(server: Server, arguments: Namespace) -> Exit:
    """Write a receipt's exact bytes to a file."""
    data = server.get_bytes(f"/v1/receipts/{arguments.digest}")
    if digest_of(data) != arguments.digest:
        raise Failure(Exit.DENIED, f"the server sent other bytes: sha256:{hashlib.sha256(data).hexdigest()}")
    Path(arguments.file).write_bytes(data)
    return Exit.OK


def whoami(server: Server, arguments: Namespace) -> Exit:
    """Who the token says you are."""
    document: Any = server.get("/v1/whoami")
    if arguments.output == "json":
        print_json(document)
    else:
        print_pairs({**document, "groups": ", ".join(document["groups"])})
    return Exit.OK


def _digest(server: Server, what: str) -> str:
    if what.startswith("sha256:"):
        return what
    if "/" in what:
        environment, _, component = what.partition("/")
        items: Any = server.get(f"/v1/running?environment={environment}&component={component}")["items"]
        if not items:
            raise Failure(Exit.REMOTE, f"nothing that you may see runs at {what}")
        return str(items[0]["artifact"])
    found: Any = server.get(f"/v1/artifacts?commit={what}")["items"]
    if not found:
        raise Failure(Exit.REMOTE, f"no artifact of commit {what} is known")
    return str(found[0]["digest"])
