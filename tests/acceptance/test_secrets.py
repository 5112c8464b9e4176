"""A canary that lies in the vault is searched for everywhere else. The scan is shown to see: a planted copy is found."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

LIMIT = 64 * 1024 * 1024


def canaries(demo):
    """The secrets as the workloads got them: the only place outside the vault where they may be."""
    found = {}
    for name in ("test", "production"):
        settings = [p for p in (Path(demo.world.directory) / "targets" / name).rglob("*") if p.is_file() and b"PINGEE_CANARY=" in p.read_bytes()]
        text = settings[0].read_text()
        found[name] = next(line.partition("=")[2] for line in text.splitlines() if line.startswith("PINGEE_CANARY="))
        assert found[name].startswith(f"canary-{name}-")
        assert all(p.stat().st_mode & 0o077 == 0 for p in settings)
    return found


def files_with(needle, *roots):
    files = [path for root in roots for path in Path(root).rglob("*") if path.is_file() and path.stat().st_size < LIMIT]
    return [str(path) for path in files if needle in path.read_bytes()]


@pytest.fixture
def dump(demo, tmp_path):
    """Everything a stranger could read: log, pages, JSON, database, artifact layouts, process output, environments."""
    production = demo.world.instance("production")
    commands = (("running", "-o", "json"), ("status", "-o", "json"), ("log", "tail", "-n", "999"))
    texts = [demo.stage.pingee(production, *command).out for command in commands]
    for instance in demo.world.instances:
        url = Path(instance.database_url_file).read_text().strip()
        texts.append(dump_database(url))
    (tmp_path / "texts").write_text("\n".join(texts))
    environs = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes()
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            # The workload itself is meant to have it.
            if b"greeter" not in line:
                environs.append(line + b"\0" + environ)
    (tmp_path / "environs").write_bytes(b"\n".join(environs))
    return tmp_path


def dump_database(url):
    async def read():
        connection = await asyncpg.connect(url)
        try:
            tables = await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
            return "\n".join([str([tuple(r.values()) for r in await connection.fetch(f'select * from "{t["tablename"]}"')]) for t in tables])
        finally:
            await connection.close()

    return asyncio.run(read())


def test_canaries_are_nowhere_but_in_the_vault_and_with_their_workload(demo, dump):
    directory = Path(demo.world.directory)
    for name, canary in canaries(demo).items():
        needle = canary.encode()
        assert files_with(needle, dump) == []
        rooms = [directory / room for room in ("instances", "work", "policy", "operator", "postgres", "platform", "people")]
        assert files_with(needle, *rooms) == []
        other = "test" if name == "production" else "production"
        assert files_with(needle, directory / "targets" / other) == []
        assert needle not in (directory / "keeper.log").read_bytes()


def test_the_scan_sees_a_planted_copy(demo, dump):
    canary = canaries(demo)["production"]
    (dump / "leak").write_text(f"... {canary} ...")
    assert files_with(canary.encode(), dump) == [str(dump / "leak")]
