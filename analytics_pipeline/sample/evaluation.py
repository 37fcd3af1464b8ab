"""The sample source `eval`: nightly evaluations of three classifiers that were really trained, on handwritten digits.

Belongs here: the tables `evaluations` and `metrics`, how a shipped result becomes a row with a date.
Does not: training (`digits.train`), when evaluations happen and how many (`data`).

Each day evaluates the next thirty images of the test half with all three models, at weekends about half of that; after
thirty days it starts over. Only the dates are made up. A dataset reads them with

    SELECT eval_id, created_at AS timestamp, experiment, model AS model_name, environment, image, prompt, response,
           expected, attributes FROM evaluations
    SELECT eval_id, metric_id, created_at AS timestamp, metric, category AS metric_category, value, passed, explanation
    FROM metrics

by the column `timestamp` of both; primary keys `eval_id`, and `metric_id`.
"""

from __future__ import annotations

import psycopg

from analytics_pipeline.sample import digits
from analytics_pipeline.sample.data import Half, Source

CREATE = """
CREATE TABLE evaluations (
    eval_id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    experiment text NOT NULL,
    model text NOT NULL,
    environment text NOT NULL,
    image smallint NOT NULL,
    prompt text NOT NULL,
    response text NOT NULL,
    expected text NOT NULL,
    attributes jsonb NOT NULL
);
CREATE INDEX ON evaluations (created_at);

CREATE TABLE metrics (
    metric_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    eval_id uuid NOT NULL REFERENCES evaluations ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    metric text NOT NULL,
    category text NOT NULL,
    value double precision,
    passed boolean,
    explanation text
);
CREATE INDEX ON metrics (created_at);
CREATE INDEX ON metrics (eval_id);

CREATE TABLE sample.digits (
    image smallint NOT NULL,
    model text NOT NULL,
    label smallint NOT NULL,
    predicted smallint NOT NULL,
    confidence float8 NOT NULL,
    probability float8 NOT NULL,
    margin float8 NOT NULL,
    place int,
    PRIMARY KEY (image, model)
);

-- A case's number ends in its place in the day; three cases in a row are one image, seen by each model.
CREATE FUNCTION sample.result_place(case_number bigint) RETURNS int
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ((case_number / 1000000 * 90 + case_number % 1000000) % (SELECT count(*) FROM sample.digits))::int
$$;
"""
COPY_RESULTS = """
COPY sample.digits (image, model, label, predicted, confidence, probability, margin)
FROM STDIN (FORMAT csv, HEADER match)
"""
NUMBER_RESULTS = """
UPDATE sample.digits
SET place = numbered.place
FROM (SELECT image, model, row_number() OVER (ORDER BY image, model) - 1 AS place FROM sample.digits) AS numbered
WHERE digits.image = numbered.image AND digits.model = numbered.model
"""
INSERT_EVALUATIONS = """
INSERT INTO evaluations
SELECT
    md5('evaluation ' || case_number)::uuid,
    happened_at,
    'digits-nightly',
    model,
    CASE model WHEN 'naive-bayes' THEN 'staging' ELSE 'production' END,
    image,
    format('Which digit is on image %s?', image),
    predicted::text,
    label::text,
    jsonb_build_object('split', 'test', 'confidence', confidence, 'classes', 10)
FROM (SELECT *, sample.result_place(case_number) AS place FROM new_cases) AS placed
JOIN sample.digits USING (place)
ORDER BY happened_at, case_number
"""
INSERT_METRICS = """
INSERT INTO metrics (eval_id, created_at, metric, category, value, passed, explanation)
SELECT
    md5('evaluation ' || case_number)::uuid,
    least(happened_at + interval '1 second' * (1 + 20 * sample.chance(case_number, 31)), now()),
    computed.metric,
    computed.category,
    computed.value,
    computed.passed,
    computed.explanation
FROM (SELECT *, sample.result_place(case_number) AS place FROM new_cases) AS placed
JOIN sample.digits USING (place)
CROSS JOIN LATERAL (
    VALUES
        (1, 'correct', 'SCORE', (predicted = label)::int, predicted = label,
            CASE WHEN predicted <> label THEN format('Took a %s for a %s.', label, predicted) END),
        (2, 'probability_of_truth', 'SCORE', probability, probability >= 0.5, NULL),
        (3, 'log_loss', 'SCORE', -ln(greatest(probability, 0.000001)), NULL, NULL),
        (4, 'margin', 'SCORE', margin, margin > 0, NULL),
        (5, 'predicted_class', 'CLASSIFICATION', NULL, NULL, predicted::text)
) AS computed (place, metric, category, value, passed, explanation)
ORDER BY happened_at, case_number, computed.place
"""
UPDATE_EVALUATIONS = """
UPDATE evaluations
SET attributes = attributes
    || jsonb_build_object('checked', coalesce((attributes ->> 'checked')::int, 0) + 1)
FROM chosen_cases
WHERE evaluations.eval_id = chosen_cases.id
"""
UPDATE_METRICS = """
UPDATE metrics
SET explanation = coalesce(explanation, '') || ' Checked by hand.', passed = NOT passed
FROM chosen_cases
WHERE metrics.eval_id = chosen_cases.id AND metrics.category <> 'CLASSIFICATION'
"""


def load_results(connection: psycopg.Connection) -> None:
    """Copy the shipped results into the database."""
    with connection.cursor() as cursor:
        with cursor.copy(COPY_RESULTS) as copy:
            copy.write(digits.RESULTS.read_bytes())
        cursor.execute(NUMBER_RESULTS)


SOURCE = Source(
    name="eval",
    per_day=90,
    create=CREATE,
    dataset=Half("evaluations", "eval_id", INSERT_EVALUATIONS, UPDATE_EVALUATIONS),
    results=Half("metrics", "eval_id", INSERT_METRICS, UPDATE_METRICS),
    load=load_results,
)
