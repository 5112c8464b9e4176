"""`python -m tests.bench.check_rows VKEY SIZE`: the check of one log on one processor; the database's URL is the first line of the input.

Prints seconds and the process's largest resident size as JSON; fails where anything was wrong with the log.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

import trio

from gatekeeper.postgres.log_check import check_rows
from gatekeeper.tlog.note import parse_vkey

if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    url = sys.stdin.readline().strip()
    began = time.perf_counter()
    checked = trio.run(check_rows, url, parse_vkey(sys.argv[1]))
    took = time.perf_counter() - began
    if not checked.report.sound or checked.report.size != int(sys.argv[2]):
        raise SystemExit(str(checked))
    print(json.dumps({"seconds": took, "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
