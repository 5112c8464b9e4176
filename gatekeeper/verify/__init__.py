"""Bytes to `Verified` values; no network."""
