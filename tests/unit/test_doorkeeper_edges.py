"""What the doorkeeper reads of an artifact, member by member, and whose it must be; a bundle's member of another log."""

import json
from dataclasses import replace

import pytest

from clients.doorkeeper.artifact import MalformedArtifact, Run, parse_config, parse_manifest
from clients.doorkeeper.bundle import check_bundle
from clients.doorkeeper.checks import check_run
from clients.doorkeeper.state import NOTHING
from clients.doorkeeper.target import Caps, ComponentSlot, InstalledTarget, Pinned, parse_receipt_keys
from gatekeeper.model.receipt import encode_receipt, parse_receipt
from gatekeeper.model.verified import Refusal
from gatekeeper.tlog.logpolicy import parse_log_policy
from gatekeeper.verify.rollback import BundleMember
from tests.fakes.frames import Gatekeeper, make_artifact, now

ARTIFACT = make_artifact()
MANIFEST, CONFIG = json.loads(ARTIFACT.manifest), json.loads(ARTIFACT.config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": 1}, "manifest: /x"),
        ({"layers": []}, "manifest: /layers: must be one layer"),
        ({"layers": MANIFEST["layers"] * 2}, "manifest: /layers"),
        ({"annotations": []}, "manifest: /annotations"),
        ({"config": MANIFEST["config"] | {"x": 1}}, "manifest: /config/x"),
        ({"config": MANIFEST["config"] | {"annotations": 1}}, "manifest: /config/annotations"),
        ({"config": MANIFEST["layers"][0]}, "manifest: /config/mediaType"),
        ({"layers": [MANIFEST["layers"][0] | {"urls": ["https://x"]}]}, "manifest: /layers/0/urls"),
    ],
    ids=str,
)
def test_a_manifest_of_another_shape_is_refused(change, message):
    with pytest.raises(MalformedArtifact, match=message):
        parse_manifest(json.dumps(MANIFEST | change).encode())


def test_blobs_may_be_annotated():
    annotated = MANIFEST | {"config": MANIFEST["config"] | {"annotations": {"a": "b"}}}
    assert parse_manifest(json.dumps(annotated).encode()) == parse_manifest(ARTIFACT.manifest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": 1}, "config: /x"),
        ({"source": None}, "config: /source"),
        ({"run": CONFIG["run"] | {"user": "root"}}, "config: /run/user"),
        ({"run": CONFIG["run"] | {"argv": []}}, "config: /run/argv: is empty"),
        ({"run": CONFIG["run"] | {"health": "/a b"}}, "config: /run/health: must be an absolute path without spaces"),
        ({"run": CONFIG["run"] | {"health": "a"}}, "config: /run/health: must be an absolute path without spaces"),
        ({"run": CONFIG["run"] | {"health": "http://x/"}}, "config: /run/health: must be an absolute path without spaces"),
    ],
    ids=str,
)
def test_a_config_of_another_shape_is_refused(change, message):
    with pytest.raises(MalformedArtifact, match=message):
        parse_config(json.dumps(CONFIG | change).encode())


def test_an_artifact_of_another_component_is_refused():
    statement = Gatekeeper().statement(ARTIFACT)
    run = parse_config(ARTIFACT.config)
    assert isinstance(run, Run)
    assert check_run(run, statement) is None
    refusal = check_run(replace(run, component="other"), statement)
    assert refusal == Refusal("receipt-other-target", "the artifact is of another component")


def test_a_member_of_another_log_is_refused():
    gatekeeper = Gatekeeper()
    target = InstalledTarget(gatekeeper.target, "production", "production", (ComponentSlot("hello", 1, (), None),), Caps())
    pinned = Pinned(target, parse_log_policy(gatekeeper.log_policy), parse_receipt_keys(gatekeeper.receipt_keys), None)
    good = gatekeeper.receipt(gatekeeper.statement(ARTIFACT, at=now()))
    read = parse_receipt(good)
    moved = encode_receipt(statement=read.statement, entry=read.entry, index=read.index, origin="other.example/log", evidence=())
    proof = gatekeeper.log.proof(0)
    refusal = check_bundle(gatekeeper.bundle([(good, 0)], others=(BundleMember(moved, proof),)), "hello", pinned, NOTHING)
    assert refusal == Refusal("receipt-missing", "rollback bundle: a member is of other.example/log, which is not the log's origin here")
