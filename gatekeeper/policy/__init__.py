"""The pure decision and its rules."""
