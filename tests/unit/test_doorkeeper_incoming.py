"""When a frame is late, or ends: read from a pipe, with no time of its own."""

import os

import pytest

from clients.doorkeeper.incoming import Incoming
from gatekeeper.model.digest import digest_of
from gatekeeper.model.frame import MalformedFrame, PartName, PartSpec, encode_header

SPEC = PartSpec(PartName.CONFIG, 3, digest_of(b"abc"))
FRAME = encode_header([SPEC]) + b"abc"


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0), os.fdopen(writing, "wb", buffering=0) as file:
        yield reading, file


@pytest.mark.parametrize("limits", [{"idle_s": 0.0}, {"idle_s": -1.0}, {"whole_s": -1.0}])
def test_a_frame_that_is_late_is_not_read_though_its_bytes_are_there(pipe, limits):
    reading, file = pipe
    file.write(FRAME)
    with pytest.raises(MalformedFrame, match="the frame was not sent in time"):
        Incoming(reading, **limits).header()


def test_the_end_is_waited_for_and_a_sender_who_does_not_close_is_late(pipe):
    reading, file = pipe
    file.write(FRAME)
    frame = Incoming(reading, idle_s=0.01)
    assert frame.part(frame.header()[0]) == b"abc"
    with pytest.raises(MalformedFrame, match="the frame was not sent in time"):
        frame.end()
    file.close()
    frame.end()


@pytest.mark.parametrize("length", [0, 1, len(FRAME) - 4, len(FRAME) - 1])
def test_a_frame_that_ends_early_is_malformed_wherever_it_ends(pipe, length):
    reading, file = pipe
    file.write(FRAME[:length])
    file.close()
    frame = Incoming(reading)
    with pytest.raises(MalformedFrame, match="the frame ends before its last part"):
        frame.part(frame.header()[0])
