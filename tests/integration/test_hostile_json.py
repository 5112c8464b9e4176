"""Attack matrix 18-22 at the doors that a stranger reaches: HTTP bodies, signed payloads, tokens, and the frame to a real doorkeeper."""

from __future__ import annotations

import json
import os
import re

import pytest

from clients.doorkeeper.cli import apply
from gatekeeper.model.digest import digest_of
from gatekeeper.model.frame import PartName
from tests.fakes import signing
from tests.fakes.api import CI, running_api
from tests.fakes.doorkeepers import installed
from tests.fakes.frames import frame_of, make_artifact, parts_of
from tests.fakes.hostile_json import spoil
from tests.fakes.house import COMPONENT, ENVIRONMENT

pytestmark = pytest.mark.anyio

DEPTH = 8000
"""nested objects of this depth still fit into the 64 KiB of a small body: they are refused for their depth"""
UNKNOWN = "sha256:" + "0" * 64


@pytest.fixture
async def api():
    async with running_api() as found:
        yield found


async def alive(api):
    assert (await api.get("/v1/running")).status == 200
    assert not api.house.database.state.rows


PING = json.dumps({"environment": ENVIRONMENT, "component": COMPONENT, "artifact": UNKNOWN}).encode()
BODIES = {
    "/v1/pings": (PING, "person"),
    "/v1/rollbacks": (json.dumps({"environment": ENVIRONMENT, "component": COMPONENT, "reason": "back"}).encode(), "operator"),
    "/v1/pings/" + "0" * 32 + "/cancellation": (b'{"reason":"no"}', "person"),
    "/v1/builder-certificates": (b'{"csr":"x"}', "certificate"),
    "/v1/artifacts": (signing.FakeCa().run().sign(signing.manifest_statement()), "run"),
    "/v1/results": (signing.FakeCa().run().sign(signing.result_statement()), "run"),
    "/v1/votes": (signing.FakeCa().run().sign(signing.manifest_statement()), "person"),
}


def token_of(api, who):
    match who:
        case "person":
            return api.token()
        case "operator":
            return api.operator_token()
        case "certificate":
            return api.run_token(aud="pingee:certificates:production")
        case _:
            return api.run_token()


@pytest.mark.parametrize("path", BODIES)
async def test_a_body_that_can_be_read_in_two_ways_is_ping_malformed(api, path):
    good, who = BODIES[path]
    token = token_of(api, who)
    sound = await api.post(path, token, good)
    assert sound.json["code"] != "ping-malformed" or path == "/v1/builder-certificates", "the good one is refused for something else"
    depth = 100_000 if path in ("/v1/artifacts", "/v1/results") else DEPTH if path != "/v1/votes" else 7000
    small = path == "/v1/builder-certificates"  # 16 KiB
    for case in spoil(good, depth=1000 if small else depth):
        answer = await api.post(path, token, case.data)
        problem = answer.refused(400, "ping-malformed")
        assert re.search(case.words, problem["detail"]), f"{case.name}: {problem['detail']}"
    await alive(api)


async def test_a_hundred_thousand_nested_arrays_are_too_large_or_too_deep(api):
    deep = b"[" * 100_000 + b"]" * 100_000
    (await api.post("/v1/pings", api.token(), deep)).refused(413, "too-large")
    problem = (await api.post("/v1/artifacts", api.run_token(), b'{"a":' + deep + b"}")).refused(400, "ping-malformed")
    assert "nested deeper than 32" in problem["detail"]
    await alive(api)


async def test_a_signature_does_not_make_a_payload_readable(api):
    run = api.house.ca.run()
    for case in spoil(signing.manifest_statement(), depth=50_000):
        problem = (await api.post("/v1/artifacts", api.run_token(), run.sign(case.data))).refused(400, "ping-malformed")
        assert re.search(case.words, problem["detail"]), f"{case.name}: {problem['detail']}"
    reviewer = api.house.reviewers["bob"]
    for case in spoil(json.dumps({"_type": "x", "subject": [], "predicateType": "x", "predicate": {}}).encode(), depth=5000):
        (await api.post("/v1/votes", api.token("bob"), reviewer.sign(case.data))).refused(400, "ping-malformed")
    await alive(api)


async def test_a_token_of_such_json_is_unauthenticated(api):
    now = int(api.house.clock().timestamp())
    claims = json.dumps(signing.run_claims(now, aud="pingee:production")).encode()
    header = b'{"alg":"ES256","kid":"k1","typ":"JWT"}'
    assert (await api.get("/v1/whoami", CI.token(claims, header=header))).status == 200
    for case in spoil(claims, integer="exp", depth=500):
        problem = (await api.get("/v1/whoami", CI.token(case.data, header=header))).refused(401, "unauthenticated")
        assert re.search(case.words, problem["detail"]), f"{case.name}: {problem['detail']}"
    for case in spoil(header, depth=500):
        problem = (await api.get("/v1/whoami", CI.token(claims, header=case.data))).refused(401, "unauthenticated")
        assert re.search(case.words, problem["detail"]), f"{case.name}: {problem['detail']}"
    await alive(api)


# the doorkeeper


@pytest.fixture
def door(tmp_path):
    with installed(tmp_path) as door:
        yield door


def offered(door, named, frame, capsys, tmp_path):
    """The doorkeeper's own code on a descriptor, as `serve` calls it; its exit code and last line."""
    (tmp_path / "frame").write_bytes(frame)
    descriptor = os.open(tmp_path / "frame", os.O_RDONLY)
    try:
        code = apply(door.place, descriptor, named)
    finally:
        os.close(descriptor)
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_frame_of_such_json_is_malformed_and_changes_nothing(door, capsys, tmp_path):
    receipt, items = door.gatekeeper.deploy(make_artifact(), old=0)
    frame = frame_of(parts_of(items))
    header, _, rest = frame.partition(b"\n")
    before = door.state()
    for case in spoil(header, integer="size", depth=5000):
        if b"\n" in case.data:  # two lines are a header and its first part
            continue
        code, answer = offered(door, receipt, case.data + b"\n" + rest, capsys, tmp_path)
        assert code == 1, case.name
        assert re.search(case.words + "|header is no line", answer["error"]), f"{case.name}: {answer}"
    for name in (PartName.RECEIPT, PartName.MANIFEST, PartName.CONFIG):
        for case in spoil(items[name], depth=1000):
            spoilt = {**items, name: case.data}
            named = digest_of(case.data) if name is PartName.RECEIPT else receipt
            code, answer = offered(door, named, frame_of(parts_of(spoilt)), capsys, tmp_path)
            if name is PartName.RECEIPT:
                assert code == 1
                assert re.search(case.words, answer["error"]), f"{case.name}: {answer}"
            else:
                # Other bytes than those decided on: they are never parsed.
                assert (code, answer["refused"]) == (3, "digest-mismatch"), case.name
    assert door.state() == before
    assert door.status()["components"] == []
    assert door.status()["record"].startswith("intact")
    assert not list(door.place.incoming.iterdir())
    # As a program, once: the same words by the same exit code, and then the good frame is still taken.
    code, lines = door.serve(receipt, header[:-1] + b',"v":1}\n' + rest)
    assert (code, "stands twice" in lines[-1]["error"]) == (1, True)
    code, answer = door.apply(receipt, items)
    assert (code, answer["outcome"]) == (0, "healthy")


@pytest.mark.parametrize("name", ["state.json", "record.jsonl"])
def test_a_doorkeepers_own_file_of_such_json_is_exit_7(door, name):
    receipt, items = door.gatekeeper.deploy(make_artifact(), old=0)
    path = door.place.var / name
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b',"v":1}' if name == "state.json" else b'{"v":1,"v":1}\n')
    code, answer = door.apply(receipt, items)
    assert (code, name in answer["error"]) == (7, True)
    path.write_bytes(good)
    assert door.apply(receipt, items)[0] == 0
