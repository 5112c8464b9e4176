"""What the server does when its own state directory cannot be written: it goes on, says so, and tries again."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock

from gatekeeper import serve

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@dataclass
class Source:
    loaded: str = "1" * 40
    changed: bool = True

    async def refresh(self):
        await trio.lowlevel.checkpoint()
        changed, self.changed = self.changed, False
        return changed


async def test_a_policy_that_cannot_be_remembered_is_in_force_and_remembered_as_soon_as_there_is_room(tmp_path, monkeypatch, caplog):
    settings = SimpleNamespace(state=tmp_path, policy=SimpleNamespace(refresh_s=10))
    woken, source = [], Source()

    async def wake():
        woken.append(trio.current_time())
        await trio.lowlevel.checkpoint()

    parts = SimpleNamespace(policy=SimpleNamespace(current=lambda: SimpleNamespace(commit=source.loaded)), pings=SimpleNamespace(wake=wake))
    write, full = serve.Path.write_text, True

    def write_text(self, *arguments, **options):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, *arguments, **options)

    monkeypatch.setattr(serve.Path, "write_text", write_text)
    (tmp_path / "policy.loaded").write_bytes(b"0" * 40 + b"\n")
    with trio.move_on_after(25):
        await serve._refresh_policy(parts, source, settings)
    assert serve.last_loaded(settings) == "0" * 40, "the old floor stays whole"
    assert caplog.text.count("cannot be remembered") == 2
    assert "No space left" in caplog.text
    assert len(woken) == 1, "and what waits for the new policy is woken all the same"
    full = False
    with trio.move_on_after(15):
        await serve._refresh_policy(parts, source, settings)
    assert serve.last_loaded(settings) == "1" * 40
