"""Acceptance stage: against the deployed artifact, at PINGEE_TARGET_URL; nothing else can be reached."""

import os
import unittest
import urllib.request
from pathlib import Path

TARGET = os.environ["PINGEE_TARGET_URL"]


def get(path):
    with urllib.request.urlopen(TARGET + path, timeout=10) as answer:
        return answer.status, answer.read().decode("utf-8")


class Deployed(unittest.TestCase):
    def test_it_is_healthy(self):
        self.assertEqual(get("/healthz"), (200, "ok\n"))

    def test_it_runs_the_version_of_this_commit(self):
        version = (Path(__file__).resolve().parent.parent / "version.txt").read_text("utf-8").strip()
        self.assertIn(f"This is version {version}.", get("/")[1])
