"""The IO manager of the object store: rich results of assets into it, and the loaded objects to the assets below.

Belongs here: which object is whose, what the UI shows of it. Does not: what can be stored, or where (`objects`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from analytics_pipeline.display import displayed
from analytics_pipeline.errors import NotOfAnAsset, PartitionsNotReturned
from analytics_pipeline.io_managers.partition_keys import output_partitions

if TYPE_CHECKING:
    from analytics_pipeline.objects import Base

_LONGEST_KEY = 400
_LONG_KEY = "__"
"""What stands before the digest of a whole key; no part of a key begins so."""


class ObjectStoreIOManager(dg.ConfigurableIOManager):
    """Keeps what an asset returned, one object for each of its partitions, and hands it on as it was.

    An object has one URL for good, below `assets/{asset}`: a new materialization replaces it, whole. An asset of
    several partitions that are made at once returns a mapping of partition keys to objects, and one that needs several
    partitions gets such a mapping.

    Args:
        url: folder or URL to keep objects below; empty for the one in charge (`ANALYTICS_OBJECTS_URL`, or the home's).
        storage_options: of the object store. The UI shows them: give secrets as `dg.EnvVar`.
    """

    url: str = ""
    storage_options: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it

    def base(self) -> Base:
        """The base that objects are kept in."""
        from analytics_pipeline.objects import open_base  # noqa: PLC0415 - few commands touch objects

        return open_base(self.url or None, storage_options=self.storage_options)

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Store what the asset returned; all of it can be stored, or nothing is.

        Raises:
            NotOfAnAsset: an op returned it.
            PartitionsNotReturned: several partitions were made, and it is no mapping of their keys.
            ObjectUnsupported: names the path of what cannot be stored.
            ObjectUnwritable: what was there is unchanged.
        """
        from analytics_pipeline.objects.serialization import encode  # noqa: PLC0415

        if not context.has_asset_key:
            raise NotOfAnAsset(f"The output {context.name!r} of {context.step_key}")
        base, asset = self.base(), context.asset_key
        given = _by_partition(context, obj)
        encoded = {key: encode(value) for key, value in given.items()}
        for key, one in encoded.items():
            base.write(object_path(asset, key), one)
        paths = [object_path(asset, key) for key in given]

        def shown() -> dict[str, Any]:
            return {
                "url": dg.MetadataValue.text(", ".join(f"{base.url}{path}" for path in paths)),
                "size": sum(one.size for one in encoded.values()),
                "checksum": ", ".join(one.checksum for one in encoded.values()),
                "type": ", ".join(sorted({_type_name(value) for value in given.values()})),
            }

        context.add_output_metadata(displayed("metadata", shown, context.log))

    def load_input(self, context: dg.InputContext) -> Any:
        """The object of the asset above, or a mapping of partition keys to them where it has several.

        Raises:
            NotOfAnAsset: it is an input of an op.
            ObjectNotFound: it was never stored, or deleted.
            ObjectDamaged, ObjectRefused: it is not what was stored.
        """
        from analytics_pipeline.objects import DataStoreIO  # noqa: PLC0415

        if not context.has_asset_key:
            raise NotOfAnAsset(f"The input {context.name!r}")
        base = self.base()

        def load(key: str | None) -> Any:
            return DataStoreIO(f"{base.url}{object_path(context.asset_key, key)}", base).read_deserialize()

        if not context.has_asset_partitions:
            return load(None)
        keys = list(context.asset_partition_keys)
        return load(keys[0]) if len(keys) == 1 else {key: load(key) for key in keys}


def object_path(asset: dg.AssetKey, partition: str | None) -> str:
    """Where the object of an asset, or of one of its partitions, is; keys may be any text, paths may not."""
    from analytics_pipeline.objects.names import ASSETS, digest, plain_name  # noqa: PLC0415

    key = "/".join(plain_name(part) for part in asset.path)
    if len(key) > _LONGEST_KEY:
        key = f"{_LONG_KEY}{digest(key)}"
    return f"{ASSETS}/{key}/{digest('' if partition is None else f'partition:{partition}')}"


def _by_partition(context: dg.OutputContext, obj: object) -> dict[str | None, object]:
    if not context.has_asset_partitions:
        return {None: obj}
    keys = output_partitions(context)
    if len(keys) == 1:
        return {keys[0]: obj}
    if not isinstance(obj, dict) or set(obj) != set(keys):
        raise PartitionsNotReturned(context.asset_key.to_user_string(), keys)
    return dict(obj)


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
