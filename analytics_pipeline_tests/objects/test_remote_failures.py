"""Object stores that fail in the middle, do not answer or let nobody in: told by name, and nothing former is lost."""

from __future__ import annotations

import gc
import itertools
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import fsspec
import numpy as np
import pytest
from s3fs.core import S3File  # type: ignore[import-untyped] # it has none

from analytics_pipeline.errors import ObjectsBaseRefused, ObjectsUnreachable, ObjectUnwritable
from analytics_pipeline.objects import Base, DataStoreIO, create_experiment, load_experiment, open_base, sweep
from analytics_pipeline.objects.container import Encoded, Segment
from analytics_pipeline.objects.remote_failures import Failures
from analytics_pipeline.objects.serialization import encode
from analytics_pipeline_tests.capabilities.test_object_store_s3 import config, endpoint

__all__ = ["config", "endpoint"]

MB = 2**20
PLACE = f"mine/{'0' * 32}"


def breaking_off(after: int) -> Callable[[S3File, bytes], int]:
    """Writes of a file, until the network is gone."""
    whole, count = S3File.write, itertools.count()

    def write(self: S3File, data: bytes) -> int:
        if next(count) >= after:
            raise OSError("the network is gone")
        written: int = whole(self, data)
        return written

    return write


@pytest.mark.parametrize("block", [5 * MB, 50 * MB], ids=["in parts", "in one"])
def test_an_upload_that_breaks_off_leaves_the_former_version(
    block: int, config: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = open_base(config["uri"], storage_options={**config["storage_options"], "default_block_size": block})
    experiment = create_experiment(base=base)
    with experiment.run() as run:
        run.fields.weights = np.zeros(2 * MB)
    experiment.persist()
    experiment.runs.first().fields.weights = np.ones(2 * MB)
    with monkeypatch.context() as patch:
        patch.setattr(S3File, "write", breaking_off(12))
        with pytest.raises(ObjectUnwritable, match=r"the network is gone\. What was there is unchanged"):
            experiment.persist(if_exists="replace")
    gc.collect()
    assert not load_experiment(experiment.id_experiment, base=base).runs.first().fields.weights.any()
    files = fsspec.filesystem("s3", **config["storage_options"])
    assert not files.call_s3("list_multipart_uploads", Bucket=config["uri"].split("/")[2]).get("Uploads")
    experiment.persist(if_exists="replace")
    assert load_experiment(experiment.id_experiment, base=base).runs.first().fields.weights.all()


def half(size: int) -> Encoded:
    """An object whose memory cannot be read to its end, as of a file that was mapped and is gone."""

    def pieces() -> Iterator[bytes]:
        yield b"x" * (size // 2)
        raise OSError("the mapped file is gone")

    return Encoded({"$": "bytes", "s": 0}, [Segment(size, pieces)])


@pytest.mark.parametrize("size", [MB, 8 * MB])
def test_a_write_that_breaks_off_in_memory_leaves_the_former_object(size: int) -> None:
    base = open_base("memory://tests-of-failures")
    base.write(PLACE, encode(np.zeros(MB)))
    with pytest.raises(ObjectUnwritable, match="mapped file"):
        base.write(PLACE, half(size))
    assert not DataStoreIO(f"{base.url}{PLACE}", base).read_deserialize(np.ndarray).any()
    assert DataStoreIO.delete("mine", base) == 1


def of_nobody(**options: Any) -> Base:
    """A base at a port on which nobody listens."""
    once = {"config_kwargs": {"retries": {"max_attempts": 0}}}
    return open_base("s3://bucket/p", storage_options={"endpoint_url": "http://127.0.0.1:9", **once, **options})


@pytest.fixture
def nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials are found anywhere."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"key": "someone", "secret": "open-sesame"}, "Could not connect"), ({}, "Unable to locate credentials")],
)
def test_an_object_store_that_is_not_reached_is_told(
    options: Mapping[str, Any], reason: str, nobody_knows: None
) -> None:
    base = of_nobody(**options)
    stored = DataStoreIO(f"{base.url}{PLACE}", base)
    experiment = create_experiment(base=base)
    for act in (
        stored.read,
        stored.facts,
        lambda: DataStoreIO.delete("mine", base),
        lambda: base.entries(""),
        experiment.persist,
        experiment.reload,
        experiment.delete,
    ):
        with pytest.raises(ObjectsUnreachable, match=rf"s3://bucket/p/ cannot be reached: {reason}.*do the same again"):
            act()
    for size in (1, 5 * MB):
        with pytest.raises(ObjectUnwritable, match=reason):
            DataStoreIO.write(b"x" * size, "mine", base)
    swept = sweep(base)
    assert list(swept.left) == [base.url]
    assert reason in swept.left[base.url]


def test_what_lets_somebody_in_is_not_told() -> None:
    options = {"key": "someone", "client_kwargs": {"aws_session_token": "open-sesame\n"}, "profile": "mine"}
    error = ValueError("bad header b'open-sesame\\n' of someone, mine, at http://me:pass@host/bucket.")
    shown = Failures("s3://bucket/", options).shown(error)
    assert shown == "bad header b'…\\n' of …, mine, at http://…@host/bucket"
    assert Failures("s3://bucket/", options).shown(KeyError()) == "KeyError"


@pytest.mark.parametrize(
    "url", ["s3://[x", "s3://key:open-sesame@[x", "s3://key:open-sesame@bucket", "s3://", "no://x"]
)
def test_what_is_no_url_of_a_base_is_refused(url: str) -> None:
    with pytest.raises(ObjectsBaseRefused, match="Set ANALYTICS_OBJECTS_URL") as told:
        open_base(url)
    assert "sesame" not in str(told.value)


def test_nor_is_it_in_the_traceback() -> None:
    """A client that repeats its token in an error is not told along as the cause."""
    base = of_nobody(key="someone", secret="open-sesame", client_kwargs={"aws_session_token": "open-sesame\n"})
    for act in (lambda: DataStoreIO.write(b"x", "mine", base), lambda: base.entries("")):
        with pytest.raises((ObjectUnwritable, ObjectsUnreachable)) as raised:
            act()
        assert "open-sesame" not in "".join(traceback.format_exception(raised.value))
        assert raised.value.__suppress_context__
