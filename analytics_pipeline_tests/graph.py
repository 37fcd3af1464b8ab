"""The whole asset graph as plain data.

`python -m analytics_pipeline_tests.graph > analytics_pipeline_tests/asset_graph.json` renews the reviewed one.
"""

from __future__ import annotations

import json
import os
import sys

import dagster as dg

from analytics_pipeline.settings import SOURCE_URL_VARIABLES


def described_graph() -> dict[str, object]:
    """Keys, groups, kinds, owners, partitions, dependencies and policies of all assets; all jobs, checks and resources.

    As of a user who set no source: the sample stands in for all three.
    """
    for variable in SOURCE_URL_VARIABLES:
        os.environ.pop(variable, None)
    from analytics_pipeline.definitions import defs  # noqa: PLC0415 - reads the environment

    graph = defs.resolve_asset_graph()
    repository = defs.get_repository_def()
    return {
        "assets": {
            node.key.to_user_string(): {
                "group": node.group_name,
                "kinds": sorted(node.kinds),
                "owners": sorted(node.owners),
                "description": node.description,
                "depends_on": sorted(key.to_user_string() for key in node.parent_keys),
                "partitions": str(node.partitions_def) if node.partitions_def else None,
                "backfill": str(node.backfill_policy.policy_type.value) if node.backfill_policy else None,
                "metadata": sorted(set(node.metadata) - {"dagster/code_references"}),
            }
            for node in sorted(graph.asset_nodes, key=lambda node: node.key)
        },
        "jobs": {
            job.name: {"ops": sorted(node.name for node in job.graph.node_defs), "tags": dict(sorted(job.tags.items()))}
            for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
            if not job.name.startswith("__")
        },
        "checks": sorted(f"{key.asset_key.to_user_string()}: {key.name}" for key in graph.asset_check_keys),
        "schedules": sorted(schedule.name for schedule in repository.schedule_defs),
        "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
        "resources": sorted(defs.resources or {}),
        "executor": defs.executor.name if isinstance(defs.executor, dg.ExecutorDefinition) else None,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(described_graph(), indent=2) + "\n")
