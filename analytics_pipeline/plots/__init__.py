"""Pictures of published data, small enough to stand in the metadata of a run.

Belongs here: what is drawn, from which question to the store. Does not: where a picture is shown (`components`), or the
charts of the dashboard, which a browser draws (`api`).
"""
