"""What a query may look like: comments of any depth before its first word, and as many columns as PostgreSQL gives."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from analytics_pipeline.errors import SourceQueryRefused
from analytics_pipeline.store import Store
from analytics_pipeline_tests.sync.scenario import NOW, UNPARTITIONED, job_of, published, spec_of


@pytest.mark.parametrize(
    "query",
    [
        "/* outer /* inner */ still outer */ SELECT 1 AS id",
        "/* a */ -- b /* c\n /* d /* e /* f */ */ */ (/* g */ SELECT 1 AS id)",
        "/**/WITH one AS (SELECT 1 AS id) SELECT * FROM one",
        "\n\tvalues (1)",
    ],
)
def test_comments_of_any_depth_may_stand_before_the_first_word(query: str) -> None:
    """Otherwise a query that psql runs is refused."""
    assert spec_of(dataset_query=query).dataset_query == query


@pytest.mark.parametrize("query", ["/* SELECT */ DELETE FROM x", "/* a /* b */ SELECT 1", "-- SELECT 1", "selection"])
def test_a_select_inside_a_comment_is_none(query: str) -> None:
    """Otherwise the refusal comes from the server, at night."""
    with pytest.raises(ValidationError, match="one SELECT"):
        spec_of(dataset_query=query)


def test_1663_columns_are_read_and_one_more_is_refused_by_a_sentence(postgres_url: str, store: Store) -> None:
    """Otherwise the column that a sync adds makes it fail with the words of Postgres."""

    def wide(columns: int) -> str:
        return "SELECT 1 AS id, " + ", ".join(f"{n} AS c{n}" for n in range(columns - 1))

    narrow = {"results_query": "SELECT 1 AS id", **UNPARTITIONED}
    job_of(store, postgres_url, spec_of(dataset_query=wide(1663), **narrow)).refresh(now=NOW)
    assert published(store, "SELECT c0, c1661 FROM demo_dataset") == [(0, 1661)]
    with pytest.raises(SourceQueryRefused, match=r"1,664 columns, and a sync reads at most 1,663"):
        job_of(store, postgres_url, spec_of(dataset_query=wide(1664), **narrow)).refresh(now=NOW)
