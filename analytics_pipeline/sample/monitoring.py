"""The sample source `monitoring`: traces of language-model calls, and the metrics computed on them.

Belongs here: the tables `traces` and `metric_results`, how one trace and its five or so results come about.
Does not: when traces happen and how many (`data`).

Raw names are those of an application, so that a mirror has something to normalise: `id, created_at, model, latency_ms,
error, env, input, output` in `traces`. A dataset reads them with

    SELECT id, created_at, trace_id, model, env, source_name, source_component, source_type, input, output,
           latency_ms, error, prompt_tokens, completion_tokens, cost_usd, attributes FROM traces
    SELECT trace AS dataset_id, id AS result_id, created_at, metric_name, metric_category, metric_score, threshold,
           signals, explanation, eval_name FROM metric_results

by the column `created_at` of both; primary keys `id` and `result_id`.
"""

from __future__ import annotations

from analytics_pipeline.sample.data import Half, Source

CREATE = """
CREATE TABLE traces (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    trace_id text NOT NULL,
    model text,
    env text NOT NULL,
    source_name text NOT NULL,
    source_component text,
    source_type text NOT NULL,
    input text NOT NULL,
    output text,
    latency_ms integer,
    error boolean NOT NULL,
    prompt_tokens integer NOT NULL,
    completion_tokens integer,
    cost_usd numeric(10, 6),
    attributes jsonb
);
CREATE INDEX ON traces (created_at);

CREATE TABLE metric_results (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    trace uuid NOT NULL REFERENCES traces ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    metric_name text NOT NULL,
    metric_category text,
    metric_score numeric(6, 4),
    threshold numeric(3, 2),
    signals jsonb,
    explanation text,
    eval_name text NOT NULL
);
CREATE INDEX ON metric_results (created_at);
CREATE INDEX ON metric_results (trace);

CREATE TABLE sample.intents (place int PRIMARY KEY, intent text, question text, answer text);
INSERT INTO sample.intents VALUES
    (0, 'billing', 'Why was I charged twice for order %s?', 'The second one is a reservation; it expires in 3 days.'),
    (1, 'delivery', 'Wo bleibt mein Paket %s? Es sollte schon in Köln sein 📦', 'Es wird morgen zugestellt.'),
    (2, 'account', 'How do I change the e-mail address of account %s?', 'Under Settings, Account, E-mail.'),
    (3, 'technical', '应用程序在订单 %s 页面崩溃', '请更新到最新版本。'),
    (4, 'returns', 'J''aimerais retourner l''article n° %s. Possible ?', 'Oui, sous 30 jours, étiquette incluse.'),
    (5, 'other', E'Two questions about %s:\\n1. "What is it?"\\n2. What''s the price?', E'1. A lamp.\\n2. 49,90 €');

CREATE FUNCTION sample.model(case_number bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sample.pick(
    ARRAY['aurora-mini', 'aurora-mini', 'aurora-mini', 'aurora-large', 'borealis-2', 'borealis-2', 'café-7b'],
    sample.chance(case_number, 10)
);

CREATE FUNCTION sample.failed(case_number bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sample.chance(case_number, 11) < CASE WHEN sample.model(case_number) = 'café-7b' THEN 0.06 ELSE 0.015 END;

-- What all scores of one trace have in common, so that metrics correlate and models differ.
CREATE FUNCTION sample.quality(case_number bigint) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN sample.failed(case_number) THEN 0.1 ELSE 0.9 END
    * greatest(sample.chance(case_number, 12), sample.chance(case_number, 13))
    + CASE sample.model(case_number) WHEN 'aurora-large' THEN 0.1 WHEN 'café-7b' THEN -0.15 ELSE 0 END;
"""
INSERT_TRACES = """
INSERT INTO traces
SELECT
    md5('trace ' || case_number)::uuid,
    happened_at,
    md5('otel ' || case_number),
    CASE WHEN sample.chance(case_number, 14) < 0.995 THEN drawn.model END,
    sample.pick(ARRAY['production', 'production', 'production', 'production', 'staging', 'development'],
                sample.chance(case_number, 15)),
    sample.pick(ARRAY['support-bot', 'support-bot', 'shop-assistant', 'Bürgerportal'], sample.chance(case_number, 16)),
    sample.pick(ARRAY['planner', 'retriever', 'writer', NULL], sample.chance(case_number, 17)),
    sample.pick(ARRAY['chat', 'chat', 'email', 'api'], sample.chance(case_number, 18)),
    format(intents.question, case_number % 100000),
    CASE WHEN NOT drawn.failed THEN intents.answer END,
    CASE WHEN sample.chance(case_number, 19) < 0.99 THEN
        (150 + CASE drawn.model WHEN 'aurora-mini' THEN 300 WHEN 'aurora-large' THEN 1400 ELSE 700 END
            * -ln(1 - sample.chance(case_number, 20)))::int
    END,
    drawn.failed,
    drawn.prompt_tokens,
    drawn.completion_tokens,
    (drawn.prompt_tokens * 0.0000004 + drawn.completion_tokens * 0.0000016)::numeric(10, 6),
    CASE WHEN sample.chance(case_number, 21) < 0.9 THEN jsonb_build_object(
        'session', md5('session ' || case_number / 3)::text,
        'temperature', round(sample.chance(case_number, 22)::numeric, 1),
        'tools', to_jsonb(array_remove(ARRAY[sample.pick(ARRAY['search', 'order-lookup', NULL],
                                                         sample.chance(case_number, 23))], NULL))
    ) END
FROM new_cases
CROSS JOIN LATERAL (
    SELECT
        sample.model(case_number) AS model,
        sample.failed(case_number) AS failed,
        floor(sample.chance(case_number, 24) * 6)::int AS intent,
        200 + floor(sample.chance(case_number, 25) * 1800)::int AS prompt_tokens,
        CASE WHEN NOT sample.failed(case_number) THEN 20 + floor(sample.chance(case_number, 26) * 400)::int END
            AS completion_tokens
) AS drawn
JOIN sample.intents ON intents.place = drawn.intent
ORDER BY happened_at, case_number
"""
INSERT_RESULTS = """
INSERT INTO metric_results
    (trace, created_at, metric_name, metric_category, metric_score, threshold, signals, explanation, eval_name)
SELECT
    md5('trace ' || case_number)::uuid,
    least(happened_at + interval '1 second' * (5 + 80 * sample.chance(case_number, metrics.salt)), now()),
    metrics.name,
    metrics.category,
    drawn.score,
    CASE WHEN metrics.kind = 'SCORE' THEN 0.5 END,
    CASE metrics.kind
        WHEN 'SCORE' THEN jsonb_build_object('judge', 'rubric-3', 'votes', jsonb_build_array(drawn.score, 1))
        WHEN 'CLASSIFICATION' THEN jsonb_build_object('category', intents.intent, 'confidence', drawn.confidence)
        ELSE jsonb_build_object(
            'root_cause', drawn.root_cause,
            'severity', CASE WHEN drawn.failed THEN 'high' ELSE 'low' END,
            'steps', jsonb_build_array('read the trace', 'compared with the sources'),
            'actionable', drawn.confidence > 0.5
        )
    END,
    CASE metrics.kind
        WHEN 'SCORE' THEN CASE WHEN drawn.score < 0.3 THEN 'Claims that the sources do not hold.' END
        WHEN 'CLASSIFICATION' THEN intents.intent
        ELSE 'Probably ' || drawn.root_cause || CASE WHEN drawn.failed THEN '; there was no answer.' ELSE '.' END
    END,
    CASE WHEN metrics.kind = 'ANALYSIS' THEN 'triage' ELSE 'online-quality' END
FROM new_cases
CROSS JOIN (
    VALUES
        ('faithfulness', 'SCORE', 'SCORE', 31, 0.8),
        ('answer_relevancy', 'SCORE', 'SCORE', 32, 0.7),
        ('conciseness', NULL, 'SCORE', 33, 0.4),
        ('safety', 'SCORE', 'SCORE', 34, 0.2),
        ('intent', 'CLASSIFICATION', 'CLASSIFICATION', 35, NULL),
        ('failure_analysis', 'ANALYSIS', 'ANALYSIS', 36, NULL)
) AS metrics (name, category, kind, salt, weight)
CROSS JOIN LATERAL (
    SELECT
        sample.failed(case_number) AS failed,
        floor(sample.chance(case_number, 24) * 6)::int AS intent,
        round(sample.chance(case_number, metrics.salt + 10)::numeric, 3) AS confidence,
        sample.pick(ARRAY['an outdated source', 'a missing tool', 'an ambiguous question', 'a timeout'],
                    sample.chance(case_number, 27)) AS root_cause,
        CASE WHEN metrics.kind = 'SCORE' AND sample.chance(case_number, metrics.salt + 20) < 0.99 THEN
            least(1, greatest(0, metrics.weight * sample.quality(case_number)
                + (1 - metrics.weight) * sample.chance(case_number, metrics.salt + 10)))::numeric(6, 4)
        END AS score
) AS drawn
JOIN sample.intents ON intents.place = drawn.intent
WHERE metrics.kind <> 'ANALYSIS' OR drawn.failed OR sample.quality(case_number) < 0.4
ORDER BY happened_at, case_number, metrics.salt
"""
UPDATE_TRACES = """
UPDATE traces
SET output = coalesce(output, '') || ' (corrected)', latency_ms = coalesce(latency_ms, 0) + 1
FROM chosen_cases
WHERE traces.id = chosen_cases.id
"""
UPDATE_RESULTS = """
UPDATE metric_results
SET metric_score = 1 - metric_score,
    signals = coalesce(signals, '{}') || jsonb_build_object('revision', coalesce((signals ->> 'revision')::int, 0) + 1)
FROM chosen_cases
WHERE metric_results.trace = chosen_cases.id
"""
SOURCE = Source(
    name="monitoring",
    per_day=770,
    create=CREATE,
    dataset=Half("traces", "id", INSERT_TRACES, UPDATE_TRACES),
    results=Half("metric_results", "trace", INSERT_RESULTS, UPDATE_RESULTS),
)
