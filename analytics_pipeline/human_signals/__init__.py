"""Human signals: cases and the metric schema, derived from the joined rows of conversations and their feedback.

Belongs here: what rows mean (parsing, signals, schema, cases), and keeping the derived tables in step with a dataset.
Does not: where rows come from (`sync`), files (`store`), Dagster, HTTP.
"""
