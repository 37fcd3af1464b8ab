"""The sample source `human_signals`: conversations, and what people and rubrics noted about them.

Belongs here: the tables `conversations` and `feedback`, how one conversation and its four metrics come about.
Does not: when conversations happen and how many (`data`).

Real feedback is untidy, and so is this: `signals` is text that holds JSON, a Python literal, or neither; some
conversations are NULL or empty; two keys (`tenant`, `channel`) stand in most metrics. A dataset reads them with

    SELECT conversation_id AS dataset_id, opened_at AS "Timestamp", source_name AS "Source Name", source_component,
           source_type, environment, conversation, conversation_stats, additional_input, additional_output,
           actual_reference, evaluation_metadata FROM conversations
    SELECT conversation_id AS dataset_id, noted_at AS "Timestamp", metric_name AS "Metric-Name", metric_category,
           metric_score, signals, explanation FROM feedback

by the column `Timestamp` of both; primary keys `dataset_id`, and `dataset_id, Metric-Name`.
"""

from __future__ import annotations

from analytics_pipeline.sample.data import Half, Source

CREATE = """
CREATE TABLE conversations (
    conversation_id text PRIMARY KEY,
    opened_at timestamptz NOT NULL,
    source_name text,
    source_component text,
    source_type text,
    environment text NOT NULL,
    conversation jsonb,
    conversation_stats jsonb,
    additional_input text,
    additional_output jsonb,
    actual_reference text,
    evaluation_metadata jsonb
);
CREATE INDEX ON conversations (opened_at);

CREATE TABLE feedback (
    conversation_id text NOT NULL REFERENCES conversations ON DELETE CASCADE,
    noted_at timestamptz NOT NULL,
    metric_name text NOT NULL,
    metric_category text,
    metric_score double precision,
    signals text,
    explanation text,
    PRIMARY KEY (conversation_id, metric_name)
);
CREATE INDEX ON feedback (noted_at);

CREATE FUNCTION sample.conversation_id(case_number bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'case-' || left(md5('conversation ' || case_number), 12);

-- One to four questions, each with its answer.
CREATE FUNCTION sample.turns(case_number bigint) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 1 + floor(sample.chance(case_number, 11) * 4)::int;

CREATE FUNCTION sample.opening(case_number bigint, topic text, business text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN sample.chance(case_number, 14) < 0.85
        THEN format(E'New %s case: %s\\nHello, we need help with %1$s.', topic, business)
    WHEN sample.chance(case_number, 14) < 0.95
        THEN format(E'\\n  \\n%s here, about %s: %s', business, topic, repeat('please ', 20))
    ELSE ''
END;

CREATE FUNCTION sample.messages(case_number bigint, topic text, business text) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT jsonb_agg(
        jsonb_build_object(
            'role', CASE WHEN place % 2 = 0 THEN 'user' ELSE 'assistant' END,
            'content', CASE
                WHEN place = 0 THEN sample.opening(case_number, topic, business)
                ELSE sample.pick(
                    CASE place % 2
                        WHEN 0 THEN ARRAY['And then?', 'Danke, das half: gelöst ✅', 'It still says "error 42".']
                        ELSE ARRAY['Could you tell me the order number?', 'I have refunded it.', '我们已经解决了。']
                    END,
                    sample.chance(case_number, 100 + place)
                )
            END
        ) ORDER BY place
    )
    FROM generate_series(0, 2 * sample.turns(case_number) - 1) AS place
$$;
"""
INSERT_CONVERSATIONS = """
INSERT INTO conversations
SELECT
    sample.conversation_id(case_number),
    happened_at,
    CASE WHEN sample.chance(case_number, 15) < 0.97 THEN
        sample.pick(ARRAY['helpdesk-bot', 'sales-bot', 'Büro-Assistent'], sample.chance(case_number, 16))
    END,
    sample.pick(ARRAY['triage', 'answering', NULL], sample.chance(case_number, 17)),
    sample.pick(ARRAY['slack', 'slack', 'web'], sample.chance(case_number, 18)),
    sample.pick(ARRAY['production', 'production', 'production', 'staging'], sample.chance(case_number, 19)),
    CASE
        WHEN drawn.shape < 0.96 THEN
            jsonb_build_object('messages', sample.messages(case_number, drawn.topic, drawn.business))
        WHEN drawn.shape < 0.98 THEN '{"messages": []}'
    END,
    CASE
        WHEN drawn.shape < 0.70 THEN jsonb_build_object('turn_count', 2 * sample.turns(case_number))
        WHEN drawn.shape < 0.96 THEN jsonb_build_object(
            'user_message_count', sample.turns(case_number), 'ai_message_count', sample.turns(case_number)
        )
    END,
    CASE
        WHEN drawn.shape < 0.60 THEN jsonb_build_object('message_url', drawn.url, 'sender', drawn.sender)::text
        WHEN drawn.shape < 0.80 THEN
            format('{''message_url'': ''%s'', ''sender'': ''%s'', ''urgent'': False}', drawn.url, drawn.sender)
        WHEN drawn.shape < 0.90 THEN '"forwarded by hand"'
    END,
    CASE
        WHEN drawn.shape < 0.5 THEN
            jsonb_build_object('ticket', case_number % 100000, 'labels', ARRAY[drawn.topic])
    END,
    CASE WHEN drawn.shape < 0.3 THEN 'The order was refunded in full.' END,
    CASE WHEN drawn.shape < 0.9 THEN jsonb_build_object('rubric', 'v3', 'annotators', 1 + case_number % 3) END
FROM new_cases
CROSS JOIN LATERAL (
    SELECT
        sample.chance(case_number, 12) AS shape,
        sample.pick(ARRAY['billing', 'delivery', 'account', 'technical'], sample.chance(case_number, 13)) AS topic,
        sample.pick(ARRAY['Acme Ltd', 'Müller & Söhne', 'Globex', 'O''Neill "Books"', '株式会社さくら'],
                    sample.chance(case_number, 20)) AS business,
        'https://chat.example.com/archives/' || left(md5('url ' || case_number), 10) AS url,
        sample.pick(ARRAY['Ann', 'Björn', 'Chidi', 'Dana'], sample.chance(case_number, 21)) AS sender
) AS drawn
ORDER BY happened_at, case_number
"""
INSERT_FEEDBACK = """
INSERT INTO feedback
SELECT
    sample.conversation_id(case_number),
    least(happened_at + interval '1 second' * (10 + 100 * sample.chance(case_number, metrics.salt)), now()),
    metrics.name,
    metrics.category,
    CASE WHEN metrics.name = 'tone' THEN drawn.stars / 5.0 WHEN metrics.name = 'resolved' THEN drawn.ok::int END,
    CASE
        WHEN drawn.untidy < 0.01 THEN 'not json'
        WHEN drawn.untidy < 0.015 THEN ''
        WHEN drawn.untidy < 0.02 THEN '[1, 2]'
        WHEN drawn.untidy < 0.03 THEN NULL
        WHEN metrics.name = 'tone' THEN jsonb_build_object(
            'value', drawn.stars,
            'label', CASE WHEN drawn.stars > 3 THEN 'friendly' WHEN drawn.stars > 1 THEN 'neutral' ELSE 'rude' END,
            'tenant', drawn.tenant,
            'channel', drawn.channel
        )::text
        WHEN metrics.name = 'resolved' THEN format(
            '{''ok'': %s, ''tenant'': ''%s'', ''channel'': ''%s'', ''tags'': [%s], ''minutes'': %s}',
            CASE WHEN drawn.ok THEN 'True' ELSE 'False' END,
            drawn.tenant,
            drawn.channel,
            CASE WHEN drawn.stars > 2 THEN '''refund'', ''follow-up''' ELSE '' END,
            CASE WHEN drawn.stars > 1 THEN round(drawn.chance::numeric * 90, 1)::text ELSE 'None' END
        )
        WHEN metrics.name = 'policy' THEN jsonb_build_object(
            'checks', jsonb_build_object(
                'opening', jsonb_build_array(
                    jsonb_build_object('name', 'greeted', 'value', drawn.stars > 1),
                    jsonb_build_object('name', 'identity_verified', 'value', drawn.ok)
                ),
                'closing', jsonb_build_array(
                    jsonb_build_object('name', 'summary_quality', 'score', round(drawn.chance::numeric, 2)),
                    jsonb_build_object('name', ' ', 'value', 1)
                )
            ),
            'tenant', drawn.tenant,
            'channel', drawn.channel
        )::text
        ELSE jsonb_build_object(
            'missed', CASE WHEN drawn.ok THEN '[]' ELSE '["asked for the order number twice"]' END::jsonb,
            'severity', CASE WHEN drawn.ok THEN to_jsonb(0) ELSE to_jsonb('high'::text) END,
            'reviewer', jsonb_build_object('team', 'quality', 'level', drawn.stars)
        )::text
    END,
    CASE
        WHEN metrics.name = 'policy' THEN CASE WHEN drawn.ok THEN 'compliant' ELSE 'identity not verified' END
        WHEN metrics.name = 'review' AND NOT drawn.ok THEN 'The customer had to repeat themselves, twice.'
    END
FROM new_cases
CROSS JOIN (
    VALUES
        ('tone', 'SCORE', 31),
        ('resolved', NULL, 32),
        ('policy', 'CLASSIFICATION', 33),
        ('review', 'ANALYSIS', 34)
) AS metrics (name, category, salt)
CROSS JOIN LATERAL (
    SELECT
        sample.chance(case_number, metrics.salt + 10) AS untidy,
        sample.chance(case_number, metrics.salt + 20) AS chance,
        1 + floor(sample.chance(case_number, 22) * 5)::int AS stars,
        sample.chance(case_number, 23) < 0.7 AS ok,
        sample.pick(ARRAY['acme', 'globex', 'sakura'], sample.chance(case_number, 24)) AS tenant,
        sample.pick(ARRAY['chat', 'phone'], sample.chance(case_number, 25)) AS channel
) AS drawn
ORDER BY happened_at, case_number, metrics.salt
"""
UPDATE_CONVERSATIONS = """
UPDATE conversations
SET actual_reference = coalesce(actual_reference, '') || ' Reviewed again.'
FROM chosen_cases
WHERE conversations.conversation_id = chosen_cases.id
"""
UPDATE_FEEDBACK = """
UPDATE feedback
SET explanation = coalesce(explanation, '') || ' (second opinion)',
    signals = CASE
        WHEN metric_name = 'tone' THEN '{"value": 5, "label": "friendly", "tenant": "acme", "channel": "chat"}'
        ELSE signals
    END
FROM chosen_cases
WHERE feedback.conversation_id = chosen_cases.id
"""
SOURCE = Source(
    name="human_signals",
    per_day=60,
    create=CREATE,
    dataset=Half("conversations", "conversation_id", INSERT_CONVERSATIONS, UPDATE_CONVERSATIONS),
    results=Half("feedback", "conversation_id", INSERT_FEEDBACK, UPDATE_FEEDBACK),
)
