"""Verification with no server."""
