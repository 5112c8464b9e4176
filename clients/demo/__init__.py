"""The embedded house on one machine."""
