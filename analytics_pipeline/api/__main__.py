"""`python -m analytics_pipeline.api`: serve the API over this home's store.

Belongs here: settings, logging, the server. Does not: any answer.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import uvicorn

import analytics_pipeline
from analytics_pipeline.api.app import create_app
from analytics_pipeline.boundary import command
from analytics_pipeline.settings import api_settings, find_home
from analytics_pipeline.sync.spec_files import read_spec_files

DEFINITIONS = Path(analytics_pipeline.__file__).parent / "defs"

_LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})


@command
def main() -> int:
    """Serve until told to stop; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings, home = api_settings(), find_home()
    specs = read_spec_files(DEFINITIONS)
    logger = logging.getLogger(__name__)
    logger.info("Home: %s", home)
    if settings.token is None and settings.host not in _LOCAL:
        logger.warning("Anybody who can reach %s can read everything: set ANALYTICS_API_TOKEN.", settings.host)
    app = create_app(settings, home.store, specs)
    # Its own access log would show parameters.
    uvicorn.run(app, host=settings.host, port=settings.port, access_log=False, log_config=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
