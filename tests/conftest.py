"""For all tests: nothing is fetched, nothing is reported, and one core is enough."""

from __future__ import annotations

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["AXOLOTL_DO_NOT_TRACK"] = "1"
os.environ["AXOLOTL_TEE_STDOUT"] = "0"  # its copy of the output can wait for itself when pytest captures it too
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch

torch.set_num_threads(1)  # tiny models only lose by waiting for a second thread


def pytest_collection_finish(session):
    """Trainers collect garbage before and after each training: what is imported by now need not be looked at again,
    which saves such a test a third of its time."""
    gc.collect()
    gc.freeze()
