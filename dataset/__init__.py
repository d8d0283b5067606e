"""Tokenized pickle or parquet -> token ids, ground truth, checksum.

The one way in is `load_dataset`; what it gives is a `Dataset`, checked once and read-only.
"""

from dataset.dataset import Dataset
from dataset.load import load_dataset

__all__ = ["Dataset", "load_dataset"]
