"""A real doorkeeper and a thief: with a fresh receipt and a credential, the environment of the workload is still not the thief's to choose."""

import pytest

from gatekeeper.model.frame import PartName
from tests.fakes.doorkeepers import installed
from tests.fakes.frames import make_artifact

CONFIGURATION = b'secrets = ["TOKEN"]\n[values]\nGREETING = "good day"\n'


@pytest.fixture
def door(tmp_path):
    with installed(tmp_path) as door:
        yield door


def test_plain_values_come_from_the_file_that_the_decision_names(door):
    receipt, items = door.gatekeeper.deploy(make_artifact(), old=0, settings=b"TOKEN=hush\n", configuration=CONFIGURATION)
    code, answer = door.apply(receipt, items)
    assert (code, answer["outcome"]) == (0, "healthy")
    assert door.page() == "good day 1"
    file = door.place.settings("hello", receipt.removeprefix("sha256:"))
    assert file.read_bytes() == b"GREETING=good day\nTOKEN=hush\n"
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("part", "data", "code"),
    [
        (PartName.CONFIGURATION, CONFIGURATION.replace(b"good day", b"evil day"), "digest-mismatch"),
        (PartName.CONFIGURATION, b"", "digest-mismatch"),
        (PartName.SETTINGS, b"", "config-secret-refused"),
        (PartName.SETTINGS, b"TOKEN=hush\nGREETING=evil\n", "config-secret-refused"),
        (PartName.SETTINGS, b"TOKEN=hush\nMORE=evil\n", "config-secret-refused"),
    ],
)
def test_a_thief_chooses_no_value_and_no_name(door, part, data, code):
    receipt, items = door.gatekeeper.deploy(make_artifact(), old=0, settings=b"TOKEN=hush\n", configuration=CONFIGURATION)
    before = door.state()
    status, answer = door.apply(receipt, {**items, part: data})
    assert (status, answer["refused"]) == (3, code)
    assert "evil" not in str(answer)
    assert door.state() == before
    assert not list(door.place.incoming.glob("*"))
    assert door.apply(receipt, items)[0] == 0, "the receipt is unspent"


def test_a_frame_without_a_configuration_is_none(door):
    receipt, items = door.gatekeeper.deploy(make_artifact(), old=0)
    del items[PartName.CONFIGURATION]
    code, answer = door.apply(receipt, items)
    assert code == 1
    assert "the frame has no configuration" in str(answer)


def test_names_that_loaders_read_are_refused_at_the_door_too(door):
    receipt, items = door.gatekeeper.deploy(make_artifact(), old=0, configuration=b'[values]\nLD_PRELOAD = "evil.so"\n')
    code, answer = door.apply(receipt, items)
    assert (code, answer["refused"]) == (3, "config-invalid")
