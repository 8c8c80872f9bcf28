"""From a batch of any layout to documents with prompt and response tokens."""

from .documents import IGNORE_INDEX, Documents
from .index import INDEX, BatchIndex
from .micro_batch import OWN_ENTRIES, MicroBatch
from .progress import Counts, Progress

__all__ = ["IGNORE_INDEX", "INDEX", "OWN_ENTRIES", "BatchIndex", "Counts", "Documents", "MicroBatch", "Progress"]
