"""The `pingee` command."""
