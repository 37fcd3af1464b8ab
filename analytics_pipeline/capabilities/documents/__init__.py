"""Run documents: finished runs as JSON, dropped in a folder by whoever ran them.

Belongs here: what a document holds, its schema, taking documents up into the store. Does not: when that happens
(`components.run_documents`), or what a run's rows are (`extraction`).
"""
