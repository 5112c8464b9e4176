"""The check at the target."""
