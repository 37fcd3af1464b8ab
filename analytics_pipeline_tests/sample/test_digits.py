"""The shipped digits: what the script makes."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from analytics_pipeline.sample import digits
from analytics_pipeline.sample.digits import train


def test_training_again_gives_the_shipped_files(tmp_path: Path) -> None:
    """Nobody has to believe the figures: the script that made them is shipped beside them."""
    train.write(tmp_path)

    shipped, again = pl.read_csv(digits.RESULTS), pl.read_csv(tmp_path / digits.RESULTS.name)
    assert_frame_equal(again, shipped, abs_tol=0.01)
    assert_frame_equal(pl.read_parquet(tmp_path / digits.IMAGES.name), pl.read_parquet(digits.IMAGES))


def test_results_are_about_images_that_no_model_was_trained_on() -> None:
    split = dict(pl.read_parquet(digits.IMAGES, columns=["image", "split"]).iter_rows())
    with digits.RESULTS.open() as file:
        results = list(csv.DictReader(file))

    assert {split[int(result["image"])] for result in results} == {"test"}
    assert len(results) == 3 * list(split.values()).count("test")


def test_a_result_agrees_with_itself() -> None:
    results = pl.read_csv(digits.RESULTS)

    right = results.filter(pl.col("predicted") == pl.col("label"))
    assert (right["confidence"] == right["probability"]).all()
    assert (right["margin"] >= 0).all()
    wrong = results.filter(pl.col("predicted") != pl.col("label"))
    assert (wrong["margin"] <= 0).all()


def test_images_are_small_and_whole() -> None:
    images = pl.read_parquet(digits.IMAGES)

    assert images.height == 1797
    assert set(images["pixels"].bin.size().to_list()) == {64}
    assert max(max(pixels) for pixels in images["pixels"]) == 16
    assert digits.IMAGES.stat().st_size < 200_000
    assert digits.RESULTS.stat().st_size < 300_000


@pytest.mark.parametrize("file", [digits.RESULTS, digits.IMAGES], ids=lambda file: file.suffix)
def test_the_files_stand_inside_the_package(file: Path) -> None:
    assert file.parent == Path(digits.__file__).parent
