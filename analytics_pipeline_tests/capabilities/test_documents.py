"""Run documents: what they may hold, what is said of those that cannot be stored, and their published schemas."""

from __future__ import annotations

import json
import math
import multiprocessing
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from analytics_pipeline.capabilities import CapabilityRun
from analytics_pipeline.capabilities.documents.document import DOCUMENTS
from analytics_pipeline.capabilities.documents.reading import ReadRun, Refusal, read_run
from analytics_pipeline.capabilities.documents.schemas import json_schema
from analytics_pipeline.capabilities.extraction import CAPABILITIES
from analytics_pipeline_tests.capabilities import dropped
from analytics_pipeline_tests.capabilities.dropped import BAD, TABLES, document, text, with_outputs
from analytics_pipeline_tests.capabilities.outputs import MOMENT, RUNS
from analytics_pipeline_tests.workplace import REPOSITORY

SCHEMAS = REPOSITORY / "docs" / "schemas"
PAGE = REPOSITORY / "docs" / "run-documents.md"
CONTEXT = multiprocessing.get_context("spawn")


def refused(content: bytes) -> Refusal:
    found = read_run(content)
    assert isinstance(found, Refusal)
    return found


def only_problem(content: bytes) -> str:
    (problem,) = refused(content).problems
    return str(problem)


def accepted(content: bytes) -> ReadRun:
    found = read_run(content)
    assert isinstance(found, ReadRun), found
    return found


@pytest.mark.parametrize("table", TABLES)
def test_a_document_of_each_capability_gives_the_rows_of_its_extraction(table: str) -> None:
    outputs, facts = RUNS[table]
    run = accepted(text(table, facts.run_uid))

    assert (run.run_uid, run.table) == (facts.run_uid, table)
    assert list(run.payload) == list(CAPABILITIES[table].extract(outputs, facts))
    entities = {
        (row["entity_type"], row["entity_id"]) for row in (row.model_dump(mode="python") for row in run.entities)
    }
    given = {"dataset": facts.datasets, "model": facts.models, "metric": facts.metrics}
    assert entities == {(kind, entity) for kind, ids in given.items() for entity in ids}


@pytest.mark.parametrize("table", TABLES)
def test_a_document_is_a_capability_run(table: str) -> None:
    run = DOCUMENTS[table].model_validate(document(table)).run()

    assert isinstance(run, CapabilityRun)
    assert run.dataset_metadata[0] == {"id": "cifar10"}


def test_provenance_goes_to_the_rows_of_runs() -> None:
    moments = {"submitted_at": "2024-05-01T14:00:00+02:00", "job_id": "j1"}

    (row,) = accepted(text(provenance=moments)).entities

    told = row.model_dump(mode="python")
    assert (told["job_id"], told["submitted_at"]) == ("j1", MOMENT)


def test_the_moment_of_a_run_is_in_utc_and_that_of_the_intake_where_none_is_given() -> None:
    (given,) = accepted(text(created_at="2024-05-01T14:00:00+02:00")).payload
    before = datetime.now(UTC)
    (not_given,) = accepted(text(created_at=None)).payload

    assert given.model_dump(mode="python")["created_at"] == MOMENT
    assert before <= not_given.model_dump(mode="python")["created_at"] <= datetime.now(UTC)


def test_optional_fields_can_be_left_out() -> None:
    needed = ("schema_version", "capability", "run_uid", "capability_id", "datasets", "outputs")

    assert accepted(json.dumps({name: document()[name] for name in needed}).encode()).run_uid == "a1"


def test_a_byte_order_mark_is_no_trouble() -> None:
    """Programs of Windows write one."""
    assert accepted(b"\xef\xbb\xbf" + text()).run_uid == "a1"


@pytest.mark.parametrize("way", BAD)
def test_each_way_to_be_bad_is_told_with_field_and_reason(way: str) -> None:
    content, field, words = BAD[way]

    (problem,) = refused(content).problems

    assert problem.field == field
    assert words in problem.reason


def test_everything_that_is_wrong_is_told_at_once() -> None:
    """Otherwise a user hands the same document over once for each mistake."""
    content = text("dataeval_cleaning", schema_version=7, datasets="cifar10", owner="ada", outputs={"images": [{}]})

    fields = {problem.field for problem in refused(content).problems}

    image = {
        f"outputs.images[0].{name}" for name in ("width", "height", "brightness", "contrast", "sharpness", "labels")
    }
    assert fields == {"schema_version", "datasets", "owner", "outputs.classes", *image}


def test_an_unknown_capability_does_not_hide_what_else_is_wrong() -> None:
    fields = {problem.field for problem in refused(text(capability=None, run_uid="")).problems}

    assert fields == {"capability", "run_uid"}


def test_only_the_first_hundred_problems_are_told_and_all_are_counted() -> None:
    found = refused(text("dataeval_cleaning", outputs={"classes": [], "images": [{}] * 50}))

    assert (len(found.problems), found.count) == (100, 300)


@pytest.mark.parametrize(
    ("repeated", "path"),
    [
        ('"run_uid": "a1", "run_uid": "a2"', "run_uid"),
        ('"models": [{}, {"id": "a", "id": "a"}]', "models[1].id"),
    ],
)
def test_a_key_that_stands_twice_is_refused_where_it_stands(repeated: str, path: str) -> None:
    """JSON's readers take the first or the last of them: nobody knows which was meant."""
    name = repeated.split('"')[1]
    rest = json.dumps({key: value for key, value in document().items() if key != name})

    found = refused(f"{{{repeated}, {rest[1:]}".encode())

    assert f"{path}: stands more than once" in map(str, found.problems)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused_with_their_place(value: str) -> None:
    content = text().replace(b'"coverage_radius": 0.5', f'"coverage_radius": {value}'.encode())

    assert only_problem(content).startswith("outputs.coverage_radius: Input should be a finite number")


@pytest.mark.parametrize("value", ['"4"', "4.5", "true", "null", "-1"])
def test_a_count_is_a_whole_number_and_nothing_like_one(value: str) -> None:
    content = text().replace(b'"image_count": 4', f'"image_count": {value}'.encode())

    assert only_problem(content).startswith("outputs.image_count: ")


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    content = text().replace(b'"image_count": 4', b'"image_count": ' + b"9" * 5000)

    assert only_problem(content).startswith("(document): is not JSON that can be read")


@pytest.mark.parametrize("bomb", [b"[" * 1_000_000, b'{"a":' * 100_000])
def test_deep_nesting_is_refused(bomb: bytes) -> None:
    found = refused(bomb)

    assert found.is_final
    assert "nested deeper" in str(found.problems[0])


@pytest.mark.parametrize("depth", [200, 500, *range(900, 1001, 10)])
def test_no_depth_ends_the_reading_of_other_documents(depth: int) -> None:
    assert refused(text().replace(b'"ada"', b"[" * depth + b"]" * depth)).is_final


WRONG: dict[str, Callable[[], bytes]] = {
    "a list": lambda: with_outputs("dataeval_bias", uncovered=[""] * 1_000_000),
    "a mapping": lambda: with_outputs("dataeval_bias", balance={f"{number}": "" for number in range(90_000)}),
    "mappings in a mapping": lambda: with_outputs(
        "maite_evaluation",
        metrics={f"{metric}": {"overall": {f"{key}": "" for key in range(1000)}} for metric in range(300)},
    ),
    "fields that nobody knows": lambda: text(provenance={f"x{number}": "" for number in range(90_000)}),
    "more fields than any object has": lambda: text(**{f"x{number}": "" for number in range(500_000)}),
    "a key very often": lambda: b"{" + b'"a":1,' * 1_000_000 + b'"a":1}',
}


@pytest.mark.parametrize("what", WRONG)
def test_a_document_that_is_wrong_all_over_is_refused_in_little_memory(what: str) -> None:
    """A million errors of pydantic took 1.3 GB; the kernel would end the intake, and each one after it."""
    with CONTEXT.Pool(1) as pool:
        problems, megabytes = pool.apply(dropped.read_measured, (WRONG[what](),))

    assert 1 <= problems <= 100
    assert megabytes < 700


def test_of_a_large_document_the_first_wrong_item_of_each_list_is_told() -> None:
    content = with_outputs("dataeval_cleaning", images=[{}] * 70_000, classes=["", ""])

    fields = {problem.field.rpartition(".")[0] for problem in refused(content).problems}

    assert fields == {"outputs", "outputs.images[0]"}


def test_a_large_document_that_is_right_is_stored() -> None:
    pixels = [[0.25] * 500] * 500
    run = accepted(with_outputs("xaitk_explainable", maps=[{"image_index": 0, "pixels": pixels}]))

    (row,) = run.payload
    assert row.model_dump(mode="python")["mean_saliency"] == 0.25


def test_a_text_that_is_no_text_is_refused() -> None:
    """Half of a surrogate pair can be written in JSON, but in no file."""
    content = text().replace(b'"cifar10"', b'"\\ud800"')

    assert only_problem(content).startswith("datasets[0].id: ")


NO_MOMENTS: tuple[object, ...] = (
    1_714_564_800,
    1_714_564_800.5,
    "1714564800",
    "1714564800.5",
    "-1",
    True,
    "2024-05-01",
)


@pytest.mark.parametrize("value", NO_MOMENTS)
def test_a_moment_is_a_text_of_day_time_and_zone(value: object) -> None:
    """Of a number, in quotes or not, nobody knows whether it counts seconds or milliseconds."""
    assert "created_at: write a moment as text" in only_problem(text(created_at=value))
    for name in ("submitted_at", "completed_at"):
        problem = only_problem(text(provenance={name: value}))
        assert problem.startswith(f"provenance.{name}: write a moment as text with its time zone")


def test_a_moment_without_zone_is_refused_in_provenance_too() -> None:
    assert "needs a time zone" in only_problem(text(provenance={"submitted_at": "2024-05-01T12:00:00"}))


@pytest.mark.parametrize("version", ["true", "1.0", '"1"', "1e0", "null", "[1]"])
def test_the_version_is_the_number_one_and_nothing_that_equals_it(version: str) -> None:
    content = text().replace(b'"schema_version": 1', f'"schema_version": {version}'.encode())

    assert only_problem(content).startswith("schema_version: Input should be 1")


def test_a_run_uid_holds_no_nul() -> None:
    """It ends a text in many programs: two runs would be one there."""
    assert only_problem(text(run_uid="a\0b")).startswith("run_uid: holds the character NUL")


def test_a_run_without_results_is_refused() -> None:
    """It would leave no trace in the store, and yet be put away as stored."""
    assert "no row to store" in only_problem(with_outputs("xaitk_explainable", maps=[]))


def test_rules_between_fields_are_told() -> None:
    assert "place 9 is beyond the 4 images" in only_problem(with_outputs("dataeval_bias", uncovered=[9]))


def test_reports_show_little_of_what_a_document_holds() -> None:
    secret = "x" * 10_000
    found = refused(text(owner=secret, datasets={"deep": secret}, capability_id=[secret], **{secret: secret}))

    assert len(found.problems) == 4
    assert all(len(str(problem)) < 250 for problem in found.problems)


def test_keys_that_are_no_names_stay_readable_in_paths() -> None:
    content = text("maite_evaluation", outputs={"metrics": {"top 1.a": {"overall": {"score": "high"}}}})

    (problem,) = refused(content).problems
    assert problem.field == 'outputs.metrics["top 1.a"].overall.score'


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_published_schema_is_current(capability: str) -> None:
    """Renew it by `python docs/run_document_schemas.py`, and read the difference: version 1 may grow, not change."""
    assert json.loads((SCHEMAS / f"{capability}.json").read_text()) == json_schema(capability)


def test_there_is_a_schema_of_each_capability_and_of_no_other() -> None:
    assert {path.stem for path in SCHEMAS.iterdir()} == set(CAPABILITIES)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_what_the_schema_takes_the_store_takes(capability: str) -> None:
    schema = jsonschema_rs.validator_for(dict(json_schema(capability)))

    assert schema.is_valid(document(capability))
    assert not schema.is_valid(document(capability, owner="ada"))
    assert not schema.is_valid(document(capability, schema_version=2))
    assert not schema.is_valid({**document(capability), "outputs": {}})


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_field_of_a_schema_is_described(capability: str) -> None:
    schema: Any = json_schema(capability)

    for part in (schema, *schema["$defs"].values()):
        assert part["description"]
        assert [name for name, field in part["properties"].items() if not field.get("description")] == []


def test_a_schema_counts_the_items_of_lists() -> None:
    """A length of text is no rule for a list: schemas would take groups of one duplicate."""
    schema = jsonschema_rs.validator_for(dict(json_schema("dataeval_cleaning")))
    alone = json.loads(with_outputs("dataeval_cleaning", exact_duplicates=[[0]]))

    assert not schema.is_valid(alone)


def test_the_example_of_the_page_is_a_good_document() -> None:
    blocks = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    run = accepted(blocks[0].encode())

    assert run.table == "maite_evaluation"
    values = [row.model_dump(mode="python")["output_value"] for row in run.payload]
    assert not any(value is not None and math.isnan(value) for value in values)


def test_schemas_are_where_the_page_says(tmp_path: Path) -> None:
    assert "schemas/" in PAGE.read_text()
