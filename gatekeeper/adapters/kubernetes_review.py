"""`ports.tokenreview.TokenReview` at Kubernetes API servers: `POST /apis/authentication.k8s.io/v1/tokenreviews`, once for each question.

The token goes to the one server that stands in the configuration beside the issuer's name, over TLS with that server's own CA, and nowhere else.
What may ask is a service account that may create `tokenreviews` and do nothing besides; its credential is read anew each time, as the cluster
renews it. The answer's audiences are compared by us: a server that does not know audiences says "authenticated" of any token (TokenReview v1,
`status.audiences`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import trio

from gatekeeper.crossing import in_thread
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.ports.errors import Denied, Unavailable, Untrustworthy
from gatekeeper.ports.tokenreview import ClusterAddress, Workload

from .https_fetch import HttpsFetch, OtherStatus

MAX_REVIEW: Final = 256 * 1024
READERS: Final = 4
READ_S: Final = 2.0
"""for the credential: whoever renews it may keep it on a file system that is away"""
_MAX_CREDENTIAL: Final = 16 * 1024
_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_POD: Final = "authentication.kubernetes.io/pod-uid"
_CAUSE: Final = "identity-unavailable"
_REFUSALS: Final = frozenset({401, 403})


class KubernetesReview:
    """By the issuer's name. Raises `OSError` where a CA cannot be read."""

    def __init__(self, clusters: Mapping[str, ClusterAddress]) -> None:
        self._clusters = {name: (cluster, HttpsFetch(cluster.ca_file)) for name, cluster in clusters.items()}
        self._readers = trio.CapacityLimiter(READERS)

    async def review(self, issuer: str, token: str, audience: str) -> Workload | None:
        """See `TokenReview`."""
        if issuer not in self._clusters:
            raise Unavailable(_CAUSE, f"the gatekeeper's configuration has no [clusters.{issuer}] to ask whether the token's pod lives")
        cluster, https = self._clusters[issuer]
        credential = await self._credential(cluster.token_file)
        question = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token, "audiences": [audience]}}
        try:
            answer = await https.post(cluster.url + _PATH, json.dumps(question).encode(), credential=credential)
        except OtherStatus as error:
            if error.status in _REFUSALS:
                raise Denied(_CAUSE, f"the cluster answers our own credential with HTTP {error.status}: it may not create tokenreviews") from None
            raise
        try:
            return _read(answer, audience)
        except (MalformedJson, FieldError) as error:
            raise Untrustworthy(_CAUSE, f"the cluster's answer is no TokenReview: {type(error).__name__}") from None

    async def _credential(self, file: Path) -> str:
        try:
            return await in_thread(_credential, file, deadline_s=READ_S, limiter=self._readers)
        except trio.TooSlowError:
            raise Unavailable(_CAUSE, "our credential for the cluster cannot be read in time") from None


def _read(answer: bytes, audience: str) -> Workload | None:
    review = Fields(parse_object(answer, max_bytes=MAX_REVIEW))
    review.choice("apiVersion", ("authentication.k8s.io/v1",))
    review.choice("kind", ("TokenReview",))
    status = review.nested("status")
    if not status.optional("authenticated", status.boolean):
        return None
    if audience not in status.texts("audiences", max_items=20):
        return None
    user = status.nested("user")
    extra = user.nested("extra") if user.has("extra") else Fields({})
    pods = extra.texts(_POD, max_items=1) if extra.has(_POD) else ()
    return Workload(user.text("username"), user.text("uid"), "".join(pods))


def _credential(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            text = stream.read(_MAX_CREDENTIAL + 1).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text.isprintable() or " " in text or not 0 < len(text) <= _MAX_CREDENTIAL:
        raise Unavailable(_CAUSE, "our credential for the cluster cannot be read")
    return text
