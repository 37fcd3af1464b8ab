"""Handwritten digits: what three small classifiers, really trained, said about images they had not seen.

Belongs here: the shipped files, where they are, and the script that makes them again (`train`, needs scikit-learn).
Does not: the tables that hold them (`evaluation`).

The images are scikit-learn's copy of the UCI ML hand-written digits (E. Alpaydin, C. Kaynak, 1998; CC BY 4.0).
"""

from __future__ import annotations

from pathlib import Path

RESULTS = Path(__file__).with_name("digits_results.csv")
"""One line an image of the test half and a model: `image, model, label, predicted, confidence, probability, margin`."""
IMAGES = Path(__file__).with_name("digits_images.parquet")
"""One row an image: `image`, `label`, `split` (train, test), `pixels` (64 bytes, 8 rows of 8, from 0 to 16)."""
