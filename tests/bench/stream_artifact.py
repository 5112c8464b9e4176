"""`python -m tests.bench.stream_artifact MIB DIRECTORY [URL CERTIFICATES]`: one blob into an artifact store and back, in this process alone.

Into the layout in the directory, or into the registry at the URL. Prints what the process held before and at most, in MiB, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from gatekeeper.adapters.layout import open_layout
from gatekeeper.adapters.registry import open_registry
from gatekeeper.model.digest import Digest
from gatekeeper.ports.artifacts import ArtifactStore
from gatekeeper.ports.registry import RegistryAddress

MEGA = 1024 * 1024


def megabyte(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest() * (MEGA // 32)


def held(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


async def opened(directory: Path, registry: list[str], size: int) -> ArtifactStore:
    if not registry:
        return await open_layout(directory)
    address = RegistryAddress(registry[0], "team/app", Path(registry[1]) / "ca.pem")
    return await open_registry(address, directory, max_blob=size * MEGA)


async def stream(store: ArtifactStore, size: int) -> None:
    whole = hashlib.sha256()
    for number in range(size):
        whole.update(megabyte(number))
    digest = Digest(f"sha256:{whole.hexdigest()}")

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(size):
            yield megabyte(number)

    put = await store.put(digest, chunks(), max_bytes=size * MEGA)
    if put != size * MEGA or (await store.local(digest)).stat().st_size != put:
        raise SystemExit("the blob did not come back whole")


async def main(size: int, directory: Path, registry: list[str]) -> None:
    store = await opened(directory, registry, size)
    await stream(store, 1)  # what is loaded once is not what is measured
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
    before = held("VmRSS")
    await stream(store, size)
    print(json.dumps({"before": before, "most": held("VmHWM")}))


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
