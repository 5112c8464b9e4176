"""`target.toml` beside what tests/unit/test_doorkeeper_files.py asks of it: what holds where nothing is said, and what nobody reads."""

import pytest

from clients.doorkeeper.target import Caps, ComponentSlot, parse_target
from gatekeeper.model.fields import FieldError

HEAD = 'version = 1\ntarget = "host-1"\ninstance = "production"\nenvironment = "production"\n'
HELLO = "[components.hello]\nport = 80\n"


def test_what_is_not_said_is_the_default():
    target = parse_target((HEAD + HELLO).encode())
    assert target.components == (ComponentSlot("hello", 80, (), None),)
    assert target.caps == Caps()
    assert target.override_any is False
    assert target.component("other") is None


def test_a_cap_that_is_said_leaves_the_others_as_they_are():
    caps = parse_target((HEAD + "[caps]\ngrace_s = 7\n" + HELLO).encode()).caps
    assert caps == Caps(grace_s=7)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (HEAD + "x = 1\n" + HELLO, "/x"),
        (HEAD + "[caps]\nx = 1\n" + HELLO, "/caps/x"),
        (HEAD + "[caps]\nreleases = 0\n" + HELLO, "/caps/releases"),
        (HEAD.replace("version = 1", "version = 2") + HELLO, "/version"),
    ],
)
def test_what_nobody_reads_is_refused_by_its_place(text, place):
    with pytest.raises(FieldError, match=f"^{place}: "):
        parse_target(text.encode())
