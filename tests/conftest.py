"""For all tests: nothing is fetched, nothing is reported, and no more cores are used than a small machine has."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["AXOLOTL_DO_NOT_TRACK"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch

torch.set_num_threads(min(2, os.cpu_count() or 1))
