"""Log-probabilities that are kept for later, known by the content of the document they belong to."""

from .codec import MISSING, decode, encode, resolution, stored_bytes
from .disk import DiskStore, StoreError
from .lookup import INDEX, BatchIndex
from .memory import MemoryStore

__all__ = [
    "INDEX",
    "MISSING",
    "BatchIndex",
    "DiskStore",
    "MemoryStore",
    "StoreError",
    "decode",
    "encode",
    "resolution",
    "stored_bytes",
]
