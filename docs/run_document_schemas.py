"""The JSON Schemas of run documents in docs/schemas: `python docs/run_document_schemas.py`."""

from __future__ import annotations

import json
from pathlib import Path

from analytics_pipeline.capabilities.documents.document import DOCUMENTS
from analytics_pipeline.capabilities.documents.schemas import json_schema

FOLDER = Path(__file__).parent / "schemas"


def main() -> None:
    """Write them."""
    FOLDER.mkdir(exist_ok=True)
    for capability in DOCUMENTS:
        (FOLDER / f"{capability}.json").write_text(json.dumps(json_schema(capability), indent=2) + "\n")


if __name__ == "__main__":
    main()
