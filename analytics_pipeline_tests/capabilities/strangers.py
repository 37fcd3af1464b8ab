"""Records of a class that knows nothing of the store: the protocol is all they have in common with its own."""

from __future__ import annotations


class Stranger:
    """A record of somebody's own class: a table's name and `model_dump`."""

    def __init__(self, table_name: str, **fields: object) -> None:
        self.table_name = table_name
        self._fields = fields

    def model_dump(self, *, mode: str) -> dict[str, object]:
        """The fields."""
        assert mode == "python"
        return self._fields
