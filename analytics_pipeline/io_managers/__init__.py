"""IO managers: between what Dagster assets return and the stores of this project.

Belongs here: one module per store. Does not: what a record or an object is, or where it is kept (`capabilities`,
`objects`).
"""
