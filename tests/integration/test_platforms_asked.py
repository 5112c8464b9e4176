"""The API with platforms that are asked about each token's run: Zuul's REST API and a Kubernetes API server, both at real TLS ports (row 101)."""

import json
from contextlib import asynccontextmanager

import pytest

from clients.demo.certificate import make_certificate
from gatekeeper.adapters.https_fetch import HttpsFetch
from gatekeeper.adapters.kubernetes_review import KubernetesReview
from gatekeeper.deploy.liveruns import HELD_S, LiveRuns
from gatekeeper.ports.tokenreview import ClusterAddress
from tests.fakes import frames, signing
from tests.fakes.api import running_api
from tests.fakes.clusters import REVIEWER, running_api_server
from tests.fakes.house import OLD_COMMIT, House
from tests.fakes.issuers import HandClock
from tests.fakes.platforms import ACCOUNT, BUILDERS, SHA, URLS, ZUUL_BUILD, changed, our_key, zuul_build

pytestmark = pytest.mark.anyio
MADE = frames.make_artifact("1")
ZUUL = """builds_url = "{url}"
triggers = ["post"]
[issuers.zuul.projects]
"example-tenant/opendev.example.org/group/hello" = "hello"
[issuers.zuul.builders]
"example-tenant/post/hello-publish" = "https://builders.example/zuul"
"""
KUBERNETES = f"""unbound = true
[issuers.kubernetes.projects]
"{ACCOUNT}" = "hello"
[issuers.kubernetes.builders]
"{ACCOUNT}" = "https://builders.example/kubernetes"
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("platforms")
    make_certificate(directory, "platform CA")
    return directory


@asynccontextmanager
async def running(kind, issuer, certificates, tmp_path):
    house, clock = House(), HandClock()
    credential = tmp_path / "cluster.token"
    credential.write_text(REVIEWER)
    async with running_api_server(certificates) as server:
        server.cluster.now = int(house.clock().timestamp())
        files = house.policy.files
        files[f"{kind}.json"] = our_key(kind).jwks()
        head = f'[issuers.{kind}]\nkind = "{kind}"\nurl = "{URLS[kind]}"\njwks = "{kind}.json"\nalgorithms = ["RS256"]\n'
        files["issuers.toml"] += (head + issuer.format(url=server.url)).encode()
        files["builders.toml"] += f'[builders."{BUILDERS[kind]}"]\nsigner = "x509:builder-ca"\nissuer = "{kind}"\nprojects = ["hello"]\n'.encode()
        clusters = KubernetesReview({"kubernetes": ClusterAddress(server.url, certificates / "ca.pem", credential)})
        runs = LiveRuns(HttpsFetch(certificates / "ca.pem"), clusters, clock=clock)
        async with running_api(house, runs=runs) as api:
            yield api, server, clock


def token(api, kind, **changes):
    now = int(api.house.clock().timestamp())
    return changed(kind, lambda claims: claims.update({"iat": now, "exp": now + 600} | ({"nbf": now} if kind == "kubernetes" else {}) | changes))


def zuul_says(server, **changes):
    server.answer = b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(zuul_build(**changes)).encode()


def manifest(api, commit):
    source = {"repository": signing.REPOSITORY, "commit": commit, "tree": "2" * 40}
    run = api.house.ca.run(commit=commit, run=ZUUL_BUILD, builder_id=BUILDERS["zuul"])
    return run.sign(signing.manifest_statement(artifact=MADE.digest, source=source, builder={"id": BUILDERS["zuul"]}, run=ZUUL_BUILD))


async def test_a_zuul_run_submits_what_was_built_of_its_builds_commit_and_nothing_else(certificates, tmp_path):
    async with running("zuul", ZUUL, certificates, tmp_path) as (api, server, clock):
        zuul_says(server)
        run = token(api, "zuul")
        refused = await api.post("/v1/artifacts", run, manifest(api, OLD_COMMIT))
        refused.refused(422, "provenance-commit")
        accepted = await api.post("/v1/artifacts", run, manifest(api, SHA))
        assert (accepted.status, accepted.json["digest"]) == (202, MADE.digest)
        upload = await api.ask("PUT", accepted.json["missing"][0]["upload"], run, body=MADE.manifest)
        assert upload.status == 201
        assert [request.target.decode() for request, _ in server.heard] == [f"/api/tenant/example-tenant/build/{ZUUL_BUILD}"]
        assert b"authorization" not in dict(server.heard[0][0].headers)
        certificate = await api.post("/v1/builder-certificates", token(api, "zuul", aud="pingee:certificates:production"), {"csr": "x"})
        assert "does not speak to this audience" in certificate.refused(401, "unauthenticated")["detail"]
        zuul_says(server, result="FAILURE")
        clock.now += HELD_S
        assert "build is over" in (await api.get("/v1/whoami", run)).refused(403, "not-authorised")["detail"]
        server.answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        clock.now += HELD_S
        problem = (await api.post("/v1/artifacts", run, manifest(api, SHA))).refused(503, "identity-unavailable")
        assert "HTTP 404" in problem["detail"]


async def test_nobody_is_asked_about_a_token_that_is_not_genuine_or_not_admitted(certificates, tmp_path):
    async with running("zuul", ZUUL, certificates, tmp_path) as (api, server, _clock):
        good = token(api, "zuul")
        (await api.get("/v1/whoami", good[:-6] + "AAAAAA")).refused(401, "unauthenticated")
        (await api.get("/v1/whoami", token(api, "zuul", aud="pingee:test"))).refused(401, "unauthenticated")
        (await api.get("/v1/whoami", token(api, "zuul", pipeline="check"))).refused(403, "not-authorised")
        assert server.heard == []


async def test_a_pods_token_is_taken_while_the_cluster_knows_the_pod(certificates, tmp_path):  # row 101
    async with running("kubernetes", KUBERNETES, certificates, tmp_path) as (api, server, clock):
        pod = token(api, "kubernetes")
        assert (await api.get("/v1/whoami", pod)).status == 200
        server.cluster.delete_pods()
        clock.now += HELD_S
        assert "its pod is gone" in (await api.get("/v1/whoami", pod)).refused(401, "unauthenticated")["detail"]
        server.cluster.reviewers.clear()
        clock.now += HELD_S
        problem = (await api.get("/v1/whoami", pod)).refused(503, "identity-unavailable")
        assert "may not create tokenreviews" in problem["detail"]
        assert pod not in json.dumps(problem)


async def test_a_pods_token_brings_nothing_in(certificates, tmp_path):
    async with running("kubernetes", KUBERNETES, certificates, tmp_path) as (api, _server, _clock):
        answer = await api.post("/v1/artifacts", token(api, "kubernetes"), manifest(api, SHA))
        assert "names no commit" in answer.refused(403, "not-authorised")["detail"]
