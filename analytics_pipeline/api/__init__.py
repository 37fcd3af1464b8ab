"""The read API: every analytics question over HTTP, answered from the published store.

Belongs here: FastAPI, its routes and shapes, the SQL of each question, starting a sync through Dagster's GraphQL.
Does not: Dagster's Python side (components, resources, definitions), or files of the store.
"""
