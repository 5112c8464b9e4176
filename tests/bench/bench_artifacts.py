"""An artifact's bytes on their way through the gatekeeper: never in memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from clients.demo.certificate import make_certificate
from tests.bench.registry import Bar, Figure, Measured, bench
from tests.fakes.oci_registry import running_registry

ROOT = Path(__file__).parents[2]
RSS = "artifact.stream.rss_mib"
SIZE_MIB = 100


@bench(RSS)
def stream() -> list[Figure]:
    """What a process grows by while 100 MiB go into a store and come back, hashed both times: the larger of layout and registry.

    Beside it what the process held before. The registry is in this process, the store in one of its own.
    """
    with tempfile.TemporaryDirectory(prefix="pingee-bench-") as name:
        directory = Path(name)
        make_certificate(directory / "tls", "a CA of the bench")
        measured = [_measure(directory / "layout")]
        with running_registry(directory / "tls") as registry:
            measured.append(_measure(directory / "files", registry.url, str(directory / "tls")))
    grown, before = max((found["most"] - found["before"], found["before"]) for found in measured)
    return [Figure(RSS, grown, "MiB", before, Bar(Measured.VALUE, at_most=32))]


def _measure(directory: Path, *registry: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.stream_artifact", str(SIZE_MIB), str(directory), *registry]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=300)
    return json.loads(done.stdout)
