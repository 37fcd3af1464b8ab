"""Questions: the SQL of each answer, and the answer from its rows.

Belongs here: pure functions over a `Rows` value and a way to ask it. Does not: HTTP, versions, limits.
"""
