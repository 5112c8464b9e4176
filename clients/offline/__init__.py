"""Verification with nothing but Python and `cryptography`: no server, no clock, no configuration."""
