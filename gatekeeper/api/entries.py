"""`GET /v1/entries`: the index over the log's entries. It may omit, and says how far it goes; the log cannot (interfaces, 2.1)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlencode

from quart import Blueprint, Response, request

from gatekeeper.deploy.entries import Asked, Found, search
from gatekeeper.deploy.parts import Parts
from gatekeeper.model.fields import FieldError
from gatekeeper.model.moment import MalformedMoment, Moment, moment, parse_moment, render_moment
from gatekeeper.model.strictjson import JsonValue
from gatekeeper.ports.entries import MAX_PAGE, EntryHit
from gatekeeper.sequencer import Sequencer

from .answer import answer_json
from .authenticate import reader
from .problem import ApiError

_KIND: Final = re.compile(r"[a-z][a-z-]{0,31}")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,14}")


def entry_routes(parts: Parts, log: Sequencer) -> Blueprint:
    """The route."""
    routes = Blueprint("entries", __name__)

    @routes.get("/v1/entries")
    async def list_entries() -> Response:
        who, asked = reader(parts), _asked()
        published = log.published()
        if published is None:
            raise ApiError("log-unavailable", "nothing was published yet", retry_after=1)
        found = await search(parts, who, asked, published.size)
        cursor = str(found.hits[-1].row.index) if len(found.hits) == asked.limit and found.hits[-1].row.index else None
        headers = {}
        if cursor is not None:
            kept = {name: value for name, value in request.args.items() if name not in ("cursor", "limit")}
            headers["Link"] = f'</v1/entries?{urlencode({**kept, "limit": asked.limit, "cursor": cursor})}>; rel="next"'
        return answer_json({**_document(found, published.note.decode()), "next": cursor}, headers=headers)

    return routes


def _asked() -> Asked:
    arguments = request.args
    kind, person = arguments.get("kind"), arguments.get("person")
    if kind is not None and _KIND.fullmatch(kind) is None:
        raise FieldError("/kind", "is a kind of entry such as decision")
    return Asked(
        kind=kind,
        environment=arguments.get("environment"),
        component=arguments.get("component"),
        person=person,
        since=_since(arguments.get("since")),
        below=None if (cursor := arguments.get("cursor")) is None else _number("cursor", cursor),
        limit=_limit(arguments.get("limit", "50")),
    )


def _since(text: str | None) -> Moment | None:
    try:
        return None if text is None else parse_moment(text)
    except MalformedMoment as error:
        raise FieldError("/since", str(error)) from None


def _limit(text: str) -> int:
    limit = _number("limit", text)
    if not 1 <= limit <= MAX_PAGE:
        raise FieldError("/limit", f"is a number from 1 to {MAX_PAGE}")
    return limit


def _number(name: str, text: str) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise FieldError(f"/{name}", "is a number")
    return int(text)


def _document(found: Found, note: str) -> dict[str, JsonValue]:
    items: list[JsonValue] = [_item(hit) for hit in found.hits]
    document: dict[str, JsonValue] = {"apiVersion": "pingee/v1", "kind": "EntryList", "items": items, "checkpoint": note, "indexed": found.indexed}
    if found.names is not None:
        document["people"] = dict(found.names)
    return document


def _item(hit: EntryHit) -> JsonValue:
    row = hit.row
    return {
        "index": row.index,
        "kind": row.kind,
        "at": render_moment(moment(row.at)),
        "environment": row.environment,
        "component": row.component,
        # The exact bytes, which are JSON themselves: what is verified is never parsed and spelled again.
        "body": hit.body.decode(),
        "proof": f"/log/proof/{row.index}",
    }
