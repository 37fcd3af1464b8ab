"""Assets whose results are capability records.

Belongs here: them, and their job. Does not: computing anything (`sample`), or how they are stored (`io_managers`).
"""
