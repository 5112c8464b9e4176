"""A demo that fails ends with what the doctor found; the doctor's own failure never hides the step's."""

import subprocess
from argparse import Namespace
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from clients.demo import diagnosis, main
from clients.demo.steps import Done
from clients.demo.telling import StepFailed, Telling


@pytest.fixture
def house(tmp_path):
    log = tmp_path / "gatekeeper.log"
    log.write_text("the last word\n")
    instances = tuple(SimpleNamespace(name=name, operator_url=f"http://{name}", log_file=str(log)) for name in ("test", "production"))
    return SimpleNamespace(directory=str(tmp_path), instances=instances)


class Stage:
    def __init__(self, world):
        pass

    def as_person(self, person, instance, *arguments, code):
        assert (person, code) == ("olga", None)
        assert arguments[:3] == ("doctor", "--operator", f"http://{instance.name}")
        if instance.name == "production":
            raise subprocess.TimeoutExpired("pingee", 180)
        return Done(3, f"WRONG        vault: the vault is sealed; asked with {' '.join(arguments[3:])}\n", "")


def test_a_failing_demo_ends_with_the_doctors_findings(house, tmp_path, monkeypatch, capsys):
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "address").write_text("https://vault\n")

    @contextmanager
    def standing(*_, **__):
        yield house

    def fails(*_):
        raise StepFailed("ping 1 is indeterminate (vault-unavailable), expected deployed")

    monkeypatch.setattr(diagnosis, "Stage", Stage)
    monkeypatch.setattr(main, "_house", standing)
    monkeypatch.setattr(main, "_repository", lambda *_: tmp_path)
    monkeypatch.setattr(main, "show", fails)
    options = Namespace(component=None, repo=None, keep=False)
    assert main._demo(options, tmp_path, Telling(as_json=True)) == 1
    told = capsys.readouterr()
    assert '"ok": false' in told.out
    said = told.err.strip().splitlines()
    assert said[0] == "pingee demo: ping 1 is indeterminate (vault-unavailable), expected deployed"
    assert said[2:] == [
        "pingee doctor, test:",
        f"WRONG        vault: the vault is sealed; asked with --vault https://vault --vault-ca-file {tmp_path}/vault/ca.pem",
        "pingee doctor could not be asked about production: TimeoutExpired",
    ]
