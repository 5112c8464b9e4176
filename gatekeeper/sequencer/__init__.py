"""The log's sequencer: orders entries, commits them in groups, publishes signed and cosigned checkpoints (log format, section 6)."""

from .sequencer import Sequencer
from .tree import Published
from .witnessing import Witnessed, WitnessPlan

__all__ = ["Published", "Sequencer", "WitnessPlan", "Witnessed"]
