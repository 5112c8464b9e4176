"""Pages: server-rendered, whole without JavaScript, the same Viewer as the API. They read, and print the command that acts (interfaces, 9)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from quart import Blueprint, Response

from gatekeeper.api.authenticate import reader
from gatekeeper.api.problem import ApiError
from gatekeeper.deploy.calls import viewer_of
from gatekeeper.deploy.explain import explain
from gatekeeper.deploy.parts import Parts
from gatekeeper.deploy.query import ping_json, running_json
from gatekeeper.ports.pings import PingFilter

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Accept",
}


def page_routes(parts: Parts) -> Blueprint:
    """The routes of `/`, `/running`, `/pings/{id}`."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
    )
    style = (Path(__file__).parent / "templates" / "style.css").read_text()
    routes = Blueprint("pages", __name__)

    def page(name: str, **values: Any) -> Response:
        text = templates.get_template(name).render(instance=parts.instance, **values)
        return Response(text, content_type="text/html; charset=utf-8", headers=_HEADERS)

    @routes.get("/style.css")
    async def get_style() -> Response:
        return Response(style, content_type="text/css; charset=utf-8", headers={"Cache-Control": "public, max-age=3600"})

    @routes.get("/")
    async def get_index() -> Response:
        viewer = viewer_of(reader(parts))
        running = await running_json(parts, viewer)
        pings = [ping_json(ping, public_url="") for ping in await parts.pings.list_pings(PingFilter(limit=25), viewer)]
        return page("index.html", running=running, pings=pings)

    @routes.get("/running")
    async def get_running() -> Response:
        viewer = viewer_of(reader(parts))
        return page("running.html", running=await running_json(parts, viewer))

    @routes.get("/pings/<ping_id>")
    async def get_ping(ping_id: str) -> Response:
        viewer = viewer_of(reader(parts))
        ping = await parts.pings.get(ping_id, viewer) if len(ping_id) == 32 else None
        if ping is None:
            raise ApiError("not-found")
        events = await parts.pings.events(ping_id, 0, viewer)
        return page("ping.html", ping=ping_json(ping, public_url=""), explanation=explain(ping, public_url=parts.public_url), events=events)

    return routes
