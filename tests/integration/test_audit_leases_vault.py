"""A real OpenBao: what honest and dishonest hands had it sign is told apart by its audit file and a log that decided on one of them."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clients.cli.main import main
from gatekeeper import bootstrap
from gatekeeper.adapters.vault import Connection
from gatekeeper.model.lease import lease_digest
from gatekeeper.model.moment import later, moment
from gatekeeper.tlog.entry import AdoptEntry, Reference, encode_entry, parse_entry
from tests.fakes import log_directory
from tests.fakes.running_vault import running_vault
from tests.fakes.vault_thefts import ADOPTED, TARGET, play

pytestmark = pytest.mark.xdist_group("vault-audit")  # one worker, one vault

GOLDEN = Path(__file__).parents[1] / "assets" / "log"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with running_vault(tmp_path_factory.mktemp("leases"), keep_root=True) as house:
        yield house


@pytest.fixture(scope="module")
def audited(house, tmp_path_factory):
    """The scene played, then a log that decided on its first honest deploy: the policy file and the exported directory."""
    directory, began = tmp_path_factory.mktemp("log"), moment(datetime.now(UTC))
    serials = play(house)
    decision, outcome, adopt = (parse_entry((GOLDEN / f"{kind}.json").read_bytes()) for kind in ("decision", "outcome", "adopt"))
    assert isinstance(adopt, AdoptEntry)
    allow = replace(decision, entry_id="1" * 32, at=began, not_after=later(began, seconds=600), target=(TARGET,))
    ends = later(moment(datetime.now(UTC)), seconds=60)
    named = replace(outcome, entry_id="2" * 32, at=ends, of=Reference(log_directory.ORIGIN, 1), lease=(lease_digest(serials["honest"]),))
    log = [*log_directory.entries(1), *map(encode_entry, (allow, named, replace(adopt, entry_id=ADOPTED, at=ends)))]
    (directory / "policy").write_bytes(log_directory.POLICY)
    log_directory.write(log_directory.served(log), directory / "log")
    return directory, serials


def test_each_deed_is_told_for_what_it_is(house, audited, capsys):
    directory, serials = audited
    words = ("audit", "leases", "--vault-audit", str(house.bao.audit_file), "--instance", "test", "--log", str(directory / "log"))
    code = main([*words, "--log-policy", str(directory / "policy"), "-o", "json"])
    found = json.loads(capsys.readouterr().out)
    named = {f"{serial:x}": name for name, serial in serials.items()}
    told = {named[alarm["serial"]]: alarm["what"] for alarm in found["alarms"] if alarm["serial"]}
    assert (code, told) == (
        3,
        {"second-of-one-token": "no-allow", "stolen": "no-allow", "issued-by-root": "no-allow", "changed-role": "not-read-only"},
    )
    assert sorted(alarm["what"] for alarm in found["alarms"] if not alarm["serial"]) == ["settings-read", "wrapped", "wrapped"]
    assert [doubt["what"] for doubt in found["cannot_tell"]] == ["hashed", "hashed"]
    counts = found["counts"]
    assert (counts["certificates_decided_on"], counts["status_certificates"]) == (1, {"adopting": 1, "observing": 1})
    assert (counts["deploy_tokens_unused"], counts["lines_unreadable"]) == (1, 0)
    assert counts["settings_read_by_others"].keys() == {"root"}


def test_a_vault_that_hides_its_certificates_is_seen_by_the_bootstrap_and_mended(house):
    root = Connection(house.address, house.root)
    root.write("sys/mounts/ssh-test/tune", {"audit_non_hmac_response_keys": [""]})
    changes = bootstrap.plan(house.address, house.root, house.layout)
    assert [change.step.path for change in changes.changes] == ["sys/mounts/ssh-test/tune"]
    bootstrap.apply(house.address, house.root, changes)
    assert bootstrap.plan(house.address, house.root, house.layout).changes == ()
