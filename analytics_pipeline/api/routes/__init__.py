"""Routes: what is asked under which path, and which question answers it.

Belongs here: paths, parameters, codes. Does not: SQL (`questions`).
"""
