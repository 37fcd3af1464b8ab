"""What somebody with bad intent would try: each is refused by name, nothing outside is touched, no code runs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from analytics_pipeline.errors import ObjectDamaged, ObjectForeign, ObjectRefused, ObjectUrlRefused, PrefixRefused
from analytics_pipeline.objects import (
    DataStore,
    DataStoreIO,
    create_experiment,
    deserialize,
    load_experiment,
    serialize,
)
from analytics_pipeline.objects.container import MAGIC, VERSION
from analytics_pipeline_tests.objects.memory import peak_of

ID = "d65df69e-1175-44a5-be2f-2232765703b8"
PREFIXES = {
    "": "is empty",
    "..": "leads upwards",
    "../outside": "leads upwards",
    "a/../../outside": "leads upwards",
    "/etc": "is absolute",
    "//a": "is absolute",
    "%2e%2e/outside": "is percent-encoded",
    "a%2Fb": "is percent-encoded",
    ".": "no name",
    "a/./b": "no name",
    "a//b": "no name",
    "a/": "no name",
    ".staging": "no name",
    "a\\b": "no name",
    "a\0b": "no name",
    "a b": "no name",
    "~": "no name",
    "ä": "no name",
    "x" * 201: "no name",
    "/".join(["x" * 100] * 9): "longer than",
    ID: "that of an experiment",
    ID.upper(): "that of an experiment",
    f"{ID}/below": "that of an experiment",
    "runs": "the store looks after; begin with a name of your own, as in my/runs",
    "Runs/below": "the store looks after",
    "assets": "the store looks after",
    "assets/above": "the store looks after",
}


class Harm:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm-was-done",)


def container_of(tree: object, *segments: bytes, lengths: list[Any] | None = None) -> bytes:
    """A whole container with valid checksums, as somebody would make it who knows the format."""
    shown = [len(segment) for segment in segments] if lengths is None else lengths
    header = json.dumps({"segments": shown, "tree": tree}).encode()
    head = struct.pack("<8sHHI", MAGIC, VERSION, 0, len(header)) + header
    whole = head + hashlib.sha256(head).digest() + b"".join(segments)
    return whole + hashlib.sha256(whole).digest()


def npy(descr: object, shape: object) -> bytes:
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    return struct.pack("<8sI", b"\x93NUMPY\x03\x00", len(header)) + header


def stream_of(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_that_leads_elsewhere_is_refused(prefix: str, root: Path, base: None) -> None:
    root.mkdir(parents=True)
    bystander = root.parent / "outside"
    bystander.mkdir()
    (bystander / "kept").touch()
    for act in (
        lambda: DataStoreIO.write(b"x", prefix),
        lambda: DataStoreIO.serialize_write([1], prefix),
        lambda: DataStore(a=1).to_url(prefix),
        lambda: DataStoreIO.delete(prefix),
    ):
        with pytest.raises(PrefixRefused, match=PREFIXES[prefix]):
            act()
    assert sorted(path.name for path in root.parent.rglob("*")) == ["kept", "objects", "outside"]


@pytest.mark.parametrize("given", [None, b"a", Path("a"), 5, ["a"]])
def test_a_prefix_a_url_and_an_id_are_text(given: Any, root: Path, base: None) -> None:
    for act in (
        lambda: DataStoreIO.write(b"x", given),
        lambda: DataStoreIO.serialize_write([1], given),
        lambda: DataStore(a=1).to_url(given),
        lambda: DataStoreIO.delete(given),
        lambda: DataStoreIO(given),
        lambda: load_experiment(given),
    ):
        with pytest.raises(TypeError, match=f"holds a {type(given).__name__}, not text"):
            act()
    assert not root.exists()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:///",
        f"file:///{'0' * 32}",
        f"file:///../{'0' * 32}",
        f"file:///a/../../b/{'0' * 32}",
        f"file:////etc/{'0' * 32}",
        f"file:///%2e%2e/{'0' * 32}",
        f"file://host/a/{'0' * 32}",
        f"file:///a/{'0' * 32}?x=1",
        f"file:///a/{'0' * 32}/",
        f"file:///a/{'0' * 31}",
        f"file:///a/{'A' * 32}",
        f"file:///{ID}/index",
        f"s3://bucket/a/{'0' * 32}",
        f"memory://a/{'0' * 32}",
        "/etc/passwd",
        "file:///etc/passwd",
    ],
)
def test_a_url_that_is_no_object_of_this_base_is_refused(url: str, base: None) -> None:
    with pytest.raises(ObjectUrlRefused, match="Nothing was touched"):
        DataStoreIO(url).read()


def test_a_link_out_of_the_base_is_not_followed(root: Path, base: None, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    kept = outside / ("0" * 32)
    outside.mkdir()
    kept.write_bytes(serialize("secret"))
    url = DataStoreIO.write(b"mine", "plain/below").url
    (root / "link").symlink_to(outside)
    (root / "plain" / "link").symlink_to(outside)
    (root / "plain" / ("0" * 32)).symlink_to(kept)
    for prefix in ("link", "plain/link"):
        with pytest.raises(PrefixRefused, match="link"):
            DataStoreIO.write(b"x", prefix)
        with pytest.raises(PrefixRefused, match="link"):
            DataStoreIO(f"file:///{prefix}/{'0' * 32}").read()
        with pytest.raises(PrefixRefused, match="link"):
            DataStoreIO.delete(prefix)
        with pytest.raises(PrefixRefused, match="link"):
            DataStoreIO.delete(f"{prefix}/{'0' * 32}")
    with pytest.raises(PrefixRefused, match="link"):
        DataStoreIO(f"file:///plain/{'0' * 32}").read()
    assert DataStoreIO.delete("plain") == 2
    assert [path.name for path in outside.iterdir()] == ["0" * 32]
    assert deserialize(kept.read_bytes()) == "secret"
    assert not (root / "plain").exists()
    assert url


def test_staging_that_is_a_link_takes_no_object_out(root: Path, base: None, tmp_path: Path) -> None:
    root.mkdir(parents=True)
    (root / ".staging").symlink_to(tmp_path)
    with pytest.raises(PrefixRefused, match="link"):
        DataStoreIO.write(b"x", "a")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_never_loaded(
    protocol: int, root: Path, base: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(Harm(), protocol)
    url = DataStoreIO.write(b"x", "a").url
    (root / url.removeprefix("file:///")).write_bytes(data.ljust(200))
    with pytest.raises(ObjectForeign):
        DataStoreIO(url).read_deserialize()
    with pytest.raises(ObjectForeign):
        deserialize(data)
    assert not Path("harm-was-done").exists()


def test_an_array_of_pickled_objects_is_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Harm()]), version=(3, 0), allow_pickle=True)
    for segment in (buffer.getvalue(), npy("|O", (1,)) + b"\0" * 8, npy([("a", "|O")], (1,)) + b"\0" * 8):
        with pytest.raises(ObjectRefused):
            deserialize(container_of({"$": "array", "s": 0}, segment))
    assert not Path("harm-was-done").exists()


class Spy(pa.ExtensionType):
    """An extension type of this process, which notes that its code ran."""

    ran = False

    def __init__(self) -> None:
        super().__init__(pa.int64(), "tests.spy")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> Spy:
        cls.ran = True
        return cls()


def test_extension_types_of_arrow_run_no_code() -> None:
    pa.register_extension_type(Spy())  # type: ignore[arg-type]
    try:
        table = pa.table({"x": pa.ExtensionArray.from_storage(Spy(), pa.array([1]))})
        stream = stream_of(table)
        Spy.ran = False
        with pytest.raises(ObjectRefused, match="extension types"):
            deserialize(container_of({"$": "arrow.Table", "s": 0}, stream))
        assert not Spy.ran
        with pytest.raises(TypeError, match=r"^\$ has Arrow extension types, in x"):
            serialize(table)
    finally:
        pa.unregister_extension_type("tests.spy")


def nulls_claimed(rows: int) -> bytes:
    """A stream of one column without data, whose length was raised in place."""
    honest = 987_654
    stream = stream_of(pa.table({"x": pa.nulls(honest)}))
    return stream.replace(struct.pack("<q", honest), struct.pack("<q", rows))


BOMBS: dict[str, bytes] = {
    "shape": container_of({"$": "array", "s": 0}, npy("<f8", (10**18,)) + b"\0" * 8),
    "shape that overflows": container_of({"$": "array", "s": 0}, npy("<f8", (2**32, 2**32, 2**32)) + b"\0" * 8),
    "negative shape": container_of({"$": "array", "s": 0}, npy("<f8", (-1, -1)) + b"\0" * 8),
    "shape of others": container_of({"$": "array", "s": 0}, npy("<f8", (True,)) + b"\0" * 8),
    "width": container_of({"$": "array", "s": 0}, npy("|V2147483647", (1,)) + b"\0" * 8),
    "scalar": container_of({"$": "numpy", "v": ["|V2147483647", "AAAA"]}),
    "code in a header": container_of({"$": "array", "s": 0}, npy("<f8", (1,)).replace(b"(1,)", b"f()+")),
    "deep header": container_of({"$": "array", "s": 0}, struct.pack("<8sI", b"\x93NUMPY\x03\x00", 9000) + b"(" * 9000),
    "rows of nothing": container_of({"$": "arrow.Table", "s": 0}, nulls_claimed(10**15)),
    "negative rows": container_of({"$": "arrow.Table", "s": 0}, nulls_claimed(-5)),
    "compressed": container_of(
        {"$": "arrow.Table", "s": 0}, stream_of(pa.table({"x": np.zeros(10**6)}), compression="zstd")
    ),
    "compressed frame": container_of(
        {"$": "polars.DataFrame", "s": 0}, stream_of(pa.table({"x": np.zeros(10**6)}), compression="lz4")
    ),
    "no stream": container_of({"$": "arrow.Table", "s": 0}, b"\xff" * 100),
    "decimal": container_of({"$": "decimal", "v": ["x"]}),
    "digits": container_of({"$": "int", "v": "zz"}),
    "zone": container_of({"$": "datetime", "v": ["2020-01-01", 0, "../../etc/passwd"]}),
    "unknown tag": container_of({"$": "os.system", "v": "true"}),
    "no tag": container_of({"$": ["list"], "v": []}),
    "one segment many times": container_of([{"$": "bytes", "s": 0}] * 100_000, b"x" * 20_000),
    "no segment": container_of({"$": "array", "s": 3}),
    "segment from behind": container_of({"$": "array", "s": -1}, b"x"),
    "list as key": container_of({"$": "dict", "v": [[[], 1]]}),
    "not a number": container_of(float("nan")),
    "lengths as text": container_of(None, b"x", lengths=["1"]),
    "negative lengths": container_of(None, b"x", lengths=[3, -2]),
}
DAMAGE: dict[str, bytes] = {
    "length": container_of(None, b"x", lengths=[10**18]),
    "sum of lengths": container_of(None, b"x", lengths=[10**17] * 10),
    "length of header": struct.pack("<8sHHI", MAGIC, VERSION, 0, 2**32 - 1) + b"\0" * 1000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_whole_container_that_asks_for_harm_is_refused(bomb: str) -> None:
    with pytest.raises(ObjectRefused, match="Nothing of it was loaded"):
        deserialize(BOMBS[bomb])


@pytest.mark.parametrize("bomb", DAMAGE)
def test_lengths_that_are_not_there_are_damage(bomb: str) -> None:
    with pytest.raises(ObjectDamaged):
        deserialize(DAMAGE[bomb])


def test_a_deep_tree_is_refused() -> None:
    header = b'{"segments":[],"tree":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    head = struct.pack("<8sHHI", MAGIC, VERSION, 0, len(header)) + header
    whole = head + hashlib.sha256(head).digest()
    with pytest.raises(ObjectRefused):
        deserialize(whole + hashlib.sha256(whole).digest())


def test_bombs_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    for name, data in {**BOMBS, **DAMAGE}.items():
        (tmp_path / name.replace(" ", "-")).write_bytes(data)
    code = f"""
        import pathlib
        from analytics_pipeline.errors import ObjectsError
        from analytics_pipeline.objects import deserialize, serialize
        import polars, pyarrow, numpy
        deserialize(serialize([numpy.zeros(1), polars.DataFrame({{"x": [1]}}), pyarrow.table({{"x": [1]}})]))
        baseline()
        for path in pathlib.Path({str(tmp_path)!r}).iterdir():
            try:
                deserialize(path.read_bytes())
            except ObjectsError:
                continue
            raise SystemExit(path.name)
    """
    assert peak_of(code) < 64 * 2**20


def test_offsets_that_lead_out_of_their_buffer_are_refused() -> None:
    """Arrow itself would read memory of the process."""
    stream = stream_of(pa.table({"x": ["abc", "defg"]}))
    offsets = struct.pack("<iii", 0, 3, 7)
    assert offsets in stream
    altered = stream.replace(offsets, struct.pack("<iii", 0, 3, 2**30))
    with pytest.raises(ObjectRefused):
        deserialize(container_of({"$": "arrow.Table", "s": 0}, altered))


def test_an_experiment_is_not_reached_by_a_prefix_of_another(base: None) -> None:
    experiment = create_experiment()
    with experiment.run() as run:
        run.fields.ds = DataStore(a=1)
    experiment.persist()
    for act in (DataStoreIO.delete, lambda prefix: DataStoreIO.write(b"x", prefix)):
        with pytest.raises(PrefixRefused, match="that of an experiment"):
            act(experiment.id_experiment)
    experiment.reload()
    assert experiment.runs.first().fields.ds.a == 1
