"""ETags: an answer is the same while the store's version, the datasets and the request are.

Belongs here: the tag, and whether a request has the answer already. Does not: which routes have tags (`service`).
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version

from analytics_pipeline.store import Manifest

_PACKAGE = version("analytics_pipeline")


def etag(manifest: Manifest, rules: str, path: str, parameters: str) -> str:
    """The tag of an answer.

    Args:
        manifest: the version that it was read from.
        rules: identity of the datasets' specs.
        path: of the request.
        parameters: in their normal form.
    """
    parts = [_PACKAGE, manifest.version, str(manifest.committed_at), rules, path, parameters]
    return f'"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"'


def is_known(tag: str, if_none_match: str | None) -> bool:
    """Whether the tag is among those that a request says it has; by RFC 9110, weak ones count as well."""
    known = (if_none_match or "").split(",")
    return tag in {candidate.strip().removeprefix("W/") for candidate in known}
