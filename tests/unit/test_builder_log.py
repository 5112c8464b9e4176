import errno

import pytest

from builder.log import BuildLog, Escaper
from gatekeeper.model.digest import digest_of


def test_raw_bytes_are_kept_and_hashed(tmp_path):
    log = BuildLog(tmp_path / "log")
    log.write(b"\x1b[31mred\xff\n")
    assert log.digest == digest_of(b"\x1b[31mred\xff\n")
    assert (tmp_path / "log").read_bytes() == b"\x1b[31mred\xff\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    log.close()


def test_the_log_is_bounded_and_says_so_once(tmp_path):
    log = BuildLog(tmp_path / "log", limit=10)
    log.write(b"12345")
    log.write(b"67890abc")
    log.write(b"more")
    log.note("stage ended")
    log.close()
    assert (tmp_path / "log").read_bytes() == (
        b"1234567890\npingee-builder: the log ends here, at 10 bytes\npingee-builder: stage ended\n"
    )
    assert log.digest == digest_of((tmp_path / "log").read_bytes())


def test_followers_learn_of_growth_and_of_the_end(tmp_path):
    log = BuildLog(tmp_path / "log")
    assert log.wait(0, 0) == (0, False)
    log.write(b"x")
    assert log.wait(0, 0) == (1, False)
    log.close()
    assert log.wait(1, 0) == (1, True)


def test_control_and_direction_characters_become_visible():
    assert Escaper().feed("a\tb\n\x1b[2J\r\x9b\u202e\u2028é".encode(), last=True) == "a\tb\n\\x1b[2J\\r\\x9b\\u202e\\u2028é"


def test_a_character_split_between_chunks_stays_whole():
    escaper = Escaper()
    assert escaper.feed("é".encode()[:1]) + escaper.feed("é".encode()[1:]) == "é"
    assert escaper.feed(b"\xff\xc3", last=True) == "\\xff\\xc3"


def test_a_short_write_is_continued_and_a_full_disk_leaves_the_digest_of_what_is_there(tmp_path):
    log = BuildLog(tmp_path / "log")
    raw, room = log._file, 7

    class Short:
        def write(self, data):
            nonlocal room
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = raw.write(bytes(data)[: min(3, room)])
            room -= written
            return written

        def close(self):
            raw.close()

    log._file = Short()
    log.write(b"12345")
    assert (log.digest, log.size) == (digest_of(b"12345"), 5)
    with pytest.raises(OSError, match="No space left"):
        log.write(b"67890")
    log.close()
    assert (log.digest, log.size) == (digest_of(b"1234567"), 7)
    assert (tmp_path / "log").read_bytes() == b"1234567"
