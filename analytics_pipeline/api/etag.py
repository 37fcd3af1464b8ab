"""ETags: an answer is the same while the store's version, the datasets and the request are.

Belongs here: the tag, and whether a request has the answer already. Does not: which routes have tags (`service`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
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


def is_known(tag: str, if_none_match: Sequence[str]) -> bool:
    """Whether a request says that it has an answer, which there is; by RFC 9110, weak tags count, and `*` means any.

    Args:
        tag: of the answer.
        if_none_match: the header's lines.
    """
    known = {candidate.strip().removeprefix("W/") for line in if_none_match for candidate in line.split(",")}
    return tag in known or "*" in known
