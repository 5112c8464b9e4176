"""The log's sequencer: orders entries, commits them in groups, publishes signed checkpoints (log format, section 6)."""

from .sequencer import Sequencer
from .tree import Published

__all__ = ["Published", "Sequencer"]
