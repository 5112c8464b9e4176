"""Commit stage: no network, nothing but the tree."""

import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import greeter


class Answers(unittest.TestCase):
    def test_the_page_greets_and_names_the_version(self):
        status, _, body = greeter.answer("/", {"GREETING": "Moin"})
        self.assertEqual(status, 200)
        self.assertEqual(body, f"Moin. This is version {greeter.version()}.\n")

    def test_it_is_healthy(self):
        self.assertEqual(greeter.answer("/healthz", {})[0], 200)

    def test_a_secret_is_never_shown(self):
        _, _, body = greeter.answer("/about", {"API_KEY": "hunter2"})
        self.assertTrue(json.loads(body)["api_key"])
        self.assertNotIn("hunter2", body)

    def test_other_paths_are_not_found(self):
        self.assertEqual(greeter.answer("/etc/passwd", {})[0], 404)
