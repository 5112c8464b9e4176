"""The step `hostile-build`, read again by somebody who believes nothing the demo said of itself. SECURE; rows 113 and 137."""

from __future__ import annotations

import json
import re
import ssl
import unicodedata
import urllib.request
from pathlib import Path

import pytest

from clients.demo.git import git
from clients.demo.processes import environment

NOTHING = ("secrets readable", "addresses answering", "sockets answering", "sockets seen", "loopback listeners", "kernel doors open")


@pytest.fixture(scope="module")
def detail(demo):
    return demo.step("hostile-build")


@pytest.fixture(scope="module")
def log(demo, detail):
    """The stored log's own bytes, as the gatekeeper serves them, and the answer's headers."""
    instance = demo.world.instance("production")
    context = ssl.create_default_context(cafile=instance.ca_file)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(f"{instance.url}/v1/artifacts/{detail['artifacts'][0]}/log", timeout=30) as answer:
        return answer.read(), answer.headers


def test_the_stored_log_says_that_the_build_got_nothing(demo, detail, log):
    """SECURE, row 137: the log is the build's own word, and its digest is in the signed provenance."""
    found = dict(re.findall(r"^probe: ([^:\n]+): (.*)$", log[0].decode("utf-8", "replace"), re.MULTILINE))
    for name in NOTHING:
        assert re.match(r"0( of \d+)?$", found[name]), (name, found[name])
    assert found["environment"].startswith("7 ")
    assert found["forks"].endswith("then EAGAIN")
    assert "seccomp 2" in found["user"]


def test_the_real_addresses_of_the_house_were_tried(demo, detail, log):
    """Row 137: what answers nobody inside is where the house's services really are."""
    commit = git("rev-parse", "refs/heads/hostile", cwd=Path(demo.world.repository_path))
    tried = json.loads(git("show", f"{commit}:addresses.json", cwd=Path(demo.world.repository_path)))
    urls = {f"https://{host}:{port}" for _, host, port in tried["addresses"]} | {f"http://{host}:{port}" for _, host, port in tried["addresses"]}
    for instance in demo.world.instances:
        assert {instance.url, instance.operator_url, instance.workload_url} <= urls
    vault = (Path(demo.world.directory) / "vault" / "bao.hcl").read_text()
    assert any(f'api_addr     = "{url}"' in vault for url in urls)
    assert f"0 of {len(tried['addresses'])}" in log[0].decode("utf-8", "replace")
    assert str(Path(demo.world.directory) / "operator" / "supervisor.token") in tried["files"]


def test_the_builder_itself_is_told_nothing_of_the_vault(demo):
    """Row 137: its command line and environment name no address, file or credential of the vault; it asks for certificates at a gatekeeper."""
    run = demo.stage.start_run("a" * 40)
    told = json.dumps([demo.stage.build_command(run), environment()])
    vault = (Path(demo.world.directory) / "vault" / "bao.hcl").read_text()
    addresses = re.findall(r"127\.0\.0\.1:\d+", vault)
    assert addresses
    assert not [word for word in (*addresses, "/operator/", "/vault/", "VAULT_", "BAO_") if word in told]


def test_the_second_build_found_nothing_of_the_first_and_made_the_same_bytes(demo, detail):
    """CLEANWORKSPACE."""
    assert detail["second_build_found_of_the_first"] == "0"
    assert detail["artifacts"][0] == detail["artifacts"][1]
    assert "a daemon" in detail["inside"]["left behind"]


def test_the_stored_log_is_harmless_to_look_at(demo, detail, log):
    """Row 113: kept as printed, served as text that no browser renders, escaped by our own commands."""
    raw, headers = log
    assert b"\x1b[2J" in raw
    assert b"\xff\xfe" in raw
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    shown = demo.stage.pingee(demo.world.instance("production"), "build-log", detail["artifacts"][0]).out
    assert r"\x1b[2J" in shown
    assert [c for c in shown if c not in "\n\t" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}] == []
    assert "pingee-builder: every test passed" in shown  # it may say so; the signed result does not come from the log


def test_signed_claims_are_the_builders_own(demo, detail):
    """What stands in the log about the hostile build is what the builder knows: commit, tree, one harmless output."""
    commit = git("rev-parse", "refs/heads/hostile", cwd=Path(demo.world.repository_path))
    chain = demo.stage.pingee(demo.world.instance("production"), "provenance", detail["artifacts"][0], "-o", "json").document()
    assert chain["source"]["commit"] == commit
    assert chain["deployments"] == []
    assert chain["component"] == "hostile"


@pytest.mark.parametrize(
    ("variant", "code"), [("links", "output-refused"), ("many", "output-refused"), ("files", "workspace-full"), ("endless", "stage-timeout")]
)
def test_each_variant_ended_with_its_code_and_left_no_artifact(demo, detail, variant, code):
    """SECURE, MAXBUILDTIME: the reason is the builder's, and nobody knows the artifact that was never made."""
    assert detail["ended"][variant].startswith(f"{code} ")
    commit = git("rev-parse", f"refs/heads/hostile-{variant}", cwd=Path(demo.world.repository_path))
    for instance in demo.world.instances:
        assert demo.stage.pingee(instance, "artifacts", "--commit", commit, "-o", "json").document() == []


def test_an_honest_build_right_after_is_whole(demo, detail):
    chain = demo.stage.pingee(demo.world.instance("test"), "provenance", detail["an_honest_build_right_after"], "-o", "json").document()
    main = git("rev-list", "refs/heads/main", cwd=Path(demo.world.repository_path)).splitlines()
    assert chain["source"]["commit"] in main
    assert {s["status"] for s in chain["statements"]} == {"verified"}
