"""`ports.tokenreview.TokenReview`: one suite over the fake in memory and the adapter at an API server over TLS (row 101); then what only the adapter can do.

The API server is a fake of ours that knows accounts, pods and its own key; a real one is the peer of the deploys to Kubernetes.
"""

import json
import os
import threading

import pytest

from clients.demo.certificate import make_certificate
from gatekeeper.adapters import https_fetch, kubernetes_review
from gatekeeper.adapters.kubernetes_review import KubernetesReview
from gatekeeper.ports.errors import Denied, Unavailable, Untrustworthy
from gatekeeper.ports.tokenreview import ClusterAddress, Workload
from tests.fakes.clusters import PATH, POD, REVIEWER, FakeCluster, FakeTokenReview, running_api_server
from tests.fakes.platforms import AUDIENCE, changed, recorded

pytestmark = pytest.mark.anyio
CLAIMS = recorded("kubernetes")["claims"]
INNER = CLAIMS["kubernetes.io"]
RUN = Workload(CLAIMS["sub"], INNER["serviceaccount"]["uid"], INNER["pod"]["uid"])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cluster")
    make_certificate(directory, "cluster CA")
    return directory


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "cluster.token"
    file.write_text(REVIEWER + "\n")
    return file


@pytest.fixture(params=["memory", "api server"])
async def cluster(request, certificates, token_file):
    found = FakeCluster()
    if request.param == "memory":
        found.port = FakeTokenReview({"kubernetes": found})
        yield found
        return
    async with running_api_server(certificates, found) as server:
        found.port = KubernetesReview({"kubernetes": ClusterAddress(server.url, certificates / "ca.pem", token_file)})
        yield found


@pytest.fixture
async def server(certificates):
    async with running_api_server(certificates) as found:
        yield found


def review_at(server, certificates, token_file):
    return KubernetesReview({"kubernetes": ClusterAddress(server.url, certificates / "ca.pem", token_file)})


async def ask(cluster, change=None, audience=AUDIENCE):
    return await cluster.port.review("kubernetes", changed("kubernetes", change), audience)


async def test_a_living_pods_token_stands_for_its_account_and_pod(cluster):
    assert await ask(cluster) == RUN
    assert cluster.asked == 1


async def test_a_token_after_its_pods_deletion(cluster):  # row 101
    assert await ask(cluster) == RUN
    cluster.delete_pods()
    assert await ask(cluster) is None


async def test_a_pod_that_was_made_again_under_the_same_name(cluster):
    cluster.pods[(INNER["namespace"], INNER["pod"]["name"])] = "00000000-0000-4000-8000-000000000000"
    assert await ask(cluster) is None


async def test_an_account_that_was_deleted_or_made_again(cluster):
    for uid in ("00000000-0000-4000-8000-000000000000", None):
        cluster.accounts[(INNER["namespace"], INNER["serviceaccount"]["name"])] = uid
        assert await ask(cluster) is None


async def test_a_token_of_a_namespace_that_has_no_such_pod(cluster):  # row 101
    assert await ask(cluster, lambda claims: claims["kubernetes.io"].update(namespace="other")) is None


async def test_a_token_for_another_audience(cluster):
    assert await ask(cluster, audience="pingee:test") is None


async def test_an_expired_token_and_one_of_another_key(cluster):
    assert await cluster.port.review("kubernetes", recorded("kubernetes")["token"], AUDIENCE) is None
    cluster.now = CLAIMS["exp"]
    assert await ask(cluster) is None


async def test_a_token_that_is_bound_to_no_pod_stands_for_no_pod(cluster):
    found = await ask(cluster, lambda claims: claims["kubernetes.io"].pop("pod"))
    assert found == Workload(RUN.username, RUN.account_uid, "")


async def test_a_cluster_that_nobody_told_us_of_says_nothing(cluster):
    with pytest.raises(Unavailable, match=r"no \[clusters\.other\]") as caught:
        await cluster.port.review("other", changed("kubernetes"), AUDIENCE)
    assert caught.value.cause_code == "identity-unavailable"
    assert cluster.asked == 0


# the adapter alone


async def test_the_token_is_sent_once_in_the_body_under_our_own_credential(server, certificates, token_file):
    token = changed("kubernetes")
    await review_at(server, certificates, token_file).review("kubernetes", token, AUDIENCE)
    ((request, body),) = server.heard
    assert (request.method, request.target) == (b"POST", PATH.encode())
    assert dict(request.headers)[b"authorization"] == f"Bearer {REVIEWER}".encode()
    assert token not in repr(request)
    assert json.loads(body)["spec"] == {"token": token, "audiences": [AUDIENCE]}


@pytest.mark.parametrize(("credential", "status"), [("nobody", 401), ("somebody", 403)])
async def test_a_credential_that_the_cluster_refuses(server, certificates, token_file, credential, status):
    token_file.write_text(credential)
    with pytest.raises(Denied, match=f"HTTP {status}: it may not create tokenreviews") as caught:
        await review_at(server, certificates, token_file).review("kubernetes", changed("kubernetes"), AUDIENCE)
    assert credential not in str(caught.value)


async def test_a_renewed_credential_is_read_at_the_next_question(server, certificates, token_file):
    found = review_at(server, certificates, token_file)
    server.cluster.reviewers = {"renewed"}
    with pytest.raises(Denied):
        await found.review("kubernetes", changed("kubernetes"), AUDIENCE)
    token_file.write_text("renewed")
    assert await found.review("kubernetes", changed("kubernetes"), AUDIENCE) == RUN


@pytest.mark.parametrize("text", ["", "two words", "line\r\nX-Other: 1", "x" * 20_000, None])
async def test_a_credential_that_is_none_asks_nobody(server, certificates, token_file, text):
    token_file.unlink() if text is None else token_file.write_text(text)
    with pytest.raises(Unavailable, match="our credential for the cluster cannot be read"):
        await review_at(server, certificates, token_file).review("kubernetes", changed("kubernetes"), AUDIENCE)
    assert server.heard == []


GOOD = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
USER = {"username": RUN.username, "uid": RUN.account_uid, "extra": {POD: [RUN.pod_uid]}}


def said(document):
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)


@pytest.mark.parametrize(
    "document",
    [
        b"<html>",
        b"[]",
        {},
        GOOD,
        GOOD | {"kind": "Status", "status": {"authenticated": True, "audiences": [AUDIENCE], "user": USER}},
        GOOD | {"apiVersion": "authentication.k8s.io/v1beta1", "status": {"authenticated": True, "audiences": [AUDIENCE], "user": USER}},
        GOOD | {"status": {"authenticated": "true", "audiences": [AUDIENCE], "user": USER}},
        GOOD | {"status": {"authenticated": True, "user": USER}},
        GOOD | {"status": {"authenticated": True, "audiences": AUDIENCE, "user": USER}},
        GOOD | {"status": {"authenticated": True, "audiences": [AUDIENCE]}},
        GOOD | {"status": {"authenticated": True, "audiences": [AUDIENCE], "user": USER | {"extra": {POD: [RUN.pod_uid, RUN.pod_uid]}}}},
    ],
)
async def test_an_answer_that_is_no_token_review(server, certificates, token_file, document):
    server.answer = said(document)
    with pytest.raises(Untrustworthy, match="is no TokenReview"):
        await review_at(server, certificates, token_file).review("kubernetes", changed("kubernetes"), AUDIENCE)


@pytest.mark.parametrize("audiences", [[], ["pingee:production2"], ["https://kubernetes.default.svc"]])
async def test_a_server_that_knows_no_audiences_says_yes_to_nobody(server, certificates, token_file, audiences):
    server.answer = said(GOOD | {"status": {"authenticated": True, "audiences": audiences, "user": USER}})
    assert await review_at(server, certificates, token_file).review("kubernetes", changed("kubernetes"), AUDIENCE) is None


@pytest.mark.parametrize("status", [b"302 Found\r\nLocation: https://evil.example/", b"307 Temporary Redirect\r\nLocation: /x", b"500 Broken", b"429 Too Many Requests"])
async def test_another_answer_is_unavailable_and_followed_nowhere(server, certificates, token_file, status):
    server.answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(Unavailable, match="HTTP " + status[:3].decode()):
        await review_at(server, certificates, token_file).review("kubernetes", changed("kubernetes"), AUDIENCE)
    assert len(server.heard) == 1


async def test_a_server_of_another_authority_is_shown_nothing(server, certificates, token_file, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    make_certificate(other, "another CA")
    with pytest.raises(Unavailable, match="no connection"):
        await review_at(server, other, token_file).review("kubernetes", changed("kubernetes"), AUDIENCE)
    assert server.heard == []


async def test_an_answer_without_end_is_left(server, certificates, token_file, monkeypatch):
    monkeypatch.setattr(https_fetch, "MAX_ANSWER", 10_000)
    server.answer = b"HTTP/1.1 201 Created\r\n\r\n" + b"x" * 100_000
    with pytest.raises(Unavailable, match="more than 10000 bytes"):
        await review_at(server, certificates, token_file).review("kubernetes", changed("kubernetes"), AUDIENCE)


async def test_a_credential_that_cannot_be_read_in_time_holds_nobody_else_up(server, certificates, tmp_path, monkeypatch):
    monkeypatch.setattr(kubernetes_review, "READ_S", 0.2)
    away = tmp_path / "away"
    os.mkfifo(away)  # like a file of a file system that is away: opening it waits
    back = threading.Timer(30, lambda: os.close(os.open(away, os.O_WRONLY)))
    back.start()
    try:
        with pytest.raises(Unavailable, match="cannot be read in time"):
            await review_at(server, certificates, away).review("kubernetes", changed("kubernetes"), AUDIENCE)
        assert server.cluster.asked == 0
        assert back.is_alive(), "the event loop did not wait for it"
    finally:
        back.cancel()
        back.join()
        os.close(os.open(away, os.O_RDWR))  # lets the thread go
