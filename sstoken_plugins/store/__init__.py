"""Log-probabilities that are kept for later, known by the content of the document they belong to."""

from .codec import decode, encode, resolution, stored_bytes
from .disk import DiskStore, StoreError
from .memory import MemoryStore

__all__ = [
    "DiskStore",
    "MemoryStore",
    "StoreError",
    "decode",
    "encode",
    "resolution",
    "stored_bytes",
]
