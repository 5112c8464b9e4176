"""Bare calls to a gatekeeper's API, for whoever does not use our commands: a thief, or a build system of another make."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from ssl import create_default_context
from typing import Any, Final

from .world import InstanceWorld

CALL_S: Final = 30
MAX_ANSWER: Final = 4 * 1024 * 1024


@dataclass(frozen=True)
class Called:
    """How a call was answered."""

    status: int
    body: bytes

    @property
    def code(self) -> str:
        """The reason code of a refusal; `accepted` where it was none."""
        return "accepted" if self.status < 400 else str(self.document()["code"])

    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def call(instance: InstanceWorld, path: str, *, body: bytes | None = None, token: str | None = None) -> Called:
    """GET, or POST where there is a body. No proxy, no redirect is of interest here: the server gives none."""
    headers = {"Content-Type": "application/json", **({} if token is None else {"Authorization": f"Bearer {token}"})}
    request = urllib.request.Request(f"{instance.url}{path}", data=body, headers=headers)  # noqa: S310 -- our own https URL
    context = create_default_context(cafile=instance.ca_file)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=CALL_S) as answer:
            return Called(answer.status, answer.read(MAX_ANSWER))
    except urllib.error.HTTPError as error:
        with error:
            return Called(error.code, error.read(MAX_ANSWER))
