"""A Kubernetes cluster of few words: accounts, pods, and tokens bound to them. Its TokenReview in memory, and as an API server over TLS."""

import base64
import json
import ssl
from contextlib import asynccontextmanager, suppress

import h11
import trio
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from gatekeeper.ports.errors import Denied, Unavailable
from gatekeeper.ports.tokenreview import Workload
from tests.fakes.platforms import NOW, our_key, recorded

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
POD = "authentication.kubernetes.io/pod-uid"
REVIEWER = "credential-of-the-reviewer"


class FakeCluster:
    """Objects by namespace and name, with their uids; it signs with `our_key("kubernetes")`. `asked` counts reviews."""

    def __init__(self):
        inner = recorded("kubernetes")["claims"]["kubernetes.io"]
        self.now, self.asked, self.reviewers = NOW, 0, {REVIEWER}
        self.accounts = {(inner["namespace"], inner["serviceaccount"]["name"]): inner["serviceaccount"]["uid"]}
        self.pods = {(inner["namespace"], inner["pod"]["name"]): inner["pod"]["uid"]}

    def delete_pods(self):
        self.pods.clear()

    def status(self, token, audiences):
        """`status` of a TokenReview."""
        self.asked += 1
        claims = self._claims(token)
        if claims is None or not self._lives(claims["kubernetes.io"]):
            return {"user": {}, "error": "[invalid bearer token, service account token is not valid]"}
        common = [audience for audience in audiences if audience in claims["aud"]]
        if not common:
            return {"user": {}, "error": "[invalid bearer token, token audiences do not match]"}
        inner = claims["kubernetes.io"]
        user = {"username": f"system:serviceaccount:{inner['namespace']}:{inner['serviceaccount']['name']}", "uid": inner["serviceaccount"]["uid"], "groups": ["system:serviceaccounts", "system:authenticated"]}
        if "pod" in inner:
            user["extra"] = {POD: [inner["pod"]["uid"]], "authentication.kubernetes.io/pod-name": [inner["pod"]["name"]]}
        return {"authenticated": True, "user": user, "audiences": common}

    def _claims(self, token):
        try:
            head, payload, signature = token.split(".")
            our_key("kubernetes").key.public_key().verify(_decoded(signature), f"{head}.{payload}".encode(), PKCS1v15(), hashes.SHA256())
            claims = json.loads(_decoded(payload))
        except (ValueError, InvalidSignature):
            return None
        return claims if claims["exp"] > self.now else None

    def _lives(self, inner):
        account, pod = inner["serviceaccount"], inner.get("pod")
        namespace = inner["namespace"]
        if self.accounts.get((namespace, account["name"])) != account["uid"]:
            return False
        return pod is None or self.pods.get((namespace, pod["name"])) == pod["uid"]


class FakeTokenReview:
    """`TokenReview` in memory. `away` names what goes wrong; `denied` refuses our credential."""

    def __init__(self, clusters=None):
        self.clusters, self.away, self.denied = dict(clusters or {}), "", False

    async def review(self, issuer, token, audience):
        await trio.lowlevel.checkpoint()
        if issuer not in self.clusters or self.away:
            raise Unavailable("identity-unavailable", self.away or f"no [clusters.{issuer}]")
        if self.denied:
            raise Denied("identity-unavailable", "our own credential")
        status = self.clusters[issuer].status(token, [audience])
        if not status.get("authenticated"):
            return None
        user = status["user"]
        return Workload(user["username"], user["uid"], "".join(user.get("extra", {}).get(POD, ())))


class ApiServer:
    """A cluster's API server. `answer`, when set, is what it says instead, bytes of a whole HTTP answer; `heard` is what it was sent."""

    def __init__(self, cluster):
        self.cluster, self.answer, self.heard, self.port = cluster, None, [], 0

    @property
    def url(self):
        return f"https://localhost:{self.port}"

    async def serve(self, stream):
        http = h11.Connection(h11.SERVER)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError, h11.RemoteProtocolError):
            request, body = await _request(http, stream)
            self.heard.append((request, body))
            if self.answer is not None:
                await stream.send_all(self.answer)
            else:
                status, document = self._review(request, body)
                data = json.dumps(document).encode()
                headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
                for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=data), h11.EndOfMessage()):
                    await stream.send_all(http.send(event))
            await stream.aclose()

    def _review(self, request, body):
        headers = dict(request.headers)
        credential = headers.get(b"authorization", b"").removeprefix(b"Bearer ").decode()
        if credential not in self.cluster.reviewers:
            return (403 if credential == "somebody" else 401), {"kind": "Status", "status": "Failure"}
        if (request.method, request.target) != (b"POST", PATH.encode()) or headers.get(b"content-type") != b"application/json":
            return 404, {"kind": "Status", "status": "Failure"}
        asked = json.loads(body)
        if (asked["apiVersion"], asked["kind"]) != ("authentication.k8s.io/v1", "TokenReview"):
            return 400, {"kind": "Status", "status": "Failure"}
        status = self.cluster.status(asked["spec"]["token"], asked["spec"]["audiences"])
        return 201, asked | {"metadata": {"creationTimestamp": None}, "status": status}


@asynccontextmanager
async def running_api_server(certificates, cluster=None):
    """An API server at a port of its own, with the certificate of that directory."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "tls.pem", certificates / "tls.key")
    server = ApiServer(cluster or FakeCluster())
    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
    server.port = listeners[0].transport_listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server
        nursery.cancel_scope.cancel()


async def _request(http, stream):
    request, body = None, b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            return request, body


def _decoded(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
