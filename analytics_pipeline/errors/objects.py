"""Errors of the object store.

Belongs here: what `analytics_pipeline.objects` refuses, and damage that it finds. Does not: the append-only tables.
"""

from __future__ import annotations

from collections.abc import Iterable

from analytics_pipeline.errors.base import AnalyticsError


class ObjectsError(AnalyticsError):
    """The object store refused something, or found something damaged."""


class ObjectUnsupported(ObjectsError, TypeError):
    """An object holds something that cannot be stored and come back exactly as it was."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} {reason}. Nothing was written.")
        self.path = path
        self.reason = reason

    def within(self, parent: str) -> ObjectUnsupported:
        """The same of an object that is itself a part of another one."""
        return ObjectUnsupported(f"{parent}{self.path.removeprefix('$')}", self.reason)


class ObjectTooLarge(ObjectsError, ValueError):
    """The part of an object that is not arrays or frames is larger than a header may be."""

    def __init__(self, size: int, largest: int) -> None:
        super().__init__(
            f"What is not arrays, frames or bytes takes {size:,} bytes, at most {largest:,} are possible. Nothing was "
            f"written. Give long lists of numbers as arrays, and long lists of rows as a frame."
        )


class ObjectDamaged(ObjectsError):
    """A stored object is not what was written: torn, altered, or never of this store."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(
            f"{where} is damaged: {reason}. Nothing of it was loaded. Restore it from a copy, or store it again."
        )


class ObjectForeign(ObjectDamaged):
    """Something lies where an object should be that this store did not write."""


class ObjectRefused(ObjectsError, ValueError):
    """A stored object is whole, and asks for something that loading does not do."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(
            f"{where} {reason}. Nothing of it was loaded: this release writes no such object. Whoever made it, made it "
            f"to harm, or with a newer release."
        )


class ObjectTooDeep(ObjectRefused):
    """A stored object is nested deeper than the interpreter can follow from where it is loaded."""

    def __init__(self, where: str, limit: int) -> None:
        ObjectsError.__init__(
            self,
            f"{where} is nested deeper than Python's recursion limit ({limit:,}) allows at this call. Nothing of it "
            f"was loaded. Load it from a function that is called less deep, or raise sys.setrecursionlimit.",
        )


class ObjectNotFound(ObjectsError, FileNotFoundError):
    """There is no such object."""

    def __init__(self, url: str, base: str) -> None:
        super().__init__(f"There is no object {url} in {base}. It was deleted, or it is in another base.")


class ObjectUnwritable(ObjectsError, OSError):
    """An object could not be written."""

    def __init__(self, base: str, detail: str) -> None:
        super().__init__(f"{base} took no object: {detail}. What was there is unchanged.")


class ObjectsUnreachable(ObjectsError, OSError):
    """An object store does not answer, or lets nobody in."""

    def __init__(self, base: str, detail: str) -> None:
        super().__init__(
            f"{base} cannot be reached: {detail}. Set the endpoint, and the credentials in storage_options or the "
            f"environment; then do the same again: what was under way is whole, or as it was."
        )


class ObjectTypeUnexpected(ObjectsError, TypeError):
    """An object is of another type than the caller expects."""

    def __init__(self, url: str, found: str, expected: str) -> None:
        super().__init__(f"{url} holds {found}, not {expected}.")


class PrefixRefused(ObjectsError, ValueError):
    """A prefix that cannot be, or that belongs to somebody else."""

    def __init__(self, prefix: str, reason: str) -> None:
        super().__init__(
            f"The prefix {prefix!r} {reason}. Nothing was touched. A prefix is names of letters, digits and _ . - = +, "
            f"parted by /, as in self_managed/2026."
        )


class ObjectUrlRefused(ObjectsError, ValueError):
    """A URL that is not of an object in this base."""

    def __init__(self, url: str, reason: str, form: str) -> None:
        super().__init__(f"The URL {url!r} {reason}. Nothing was touched. Objects of this base are at {form}.")


class ObjectsBaseRefused(ObjectsError, ValueError):
    """The place that was configured for objects cannot be used."""

    def __init__(self, base: str, reason: str) -> None:
        super().__init__(f"Objects cannot be kept in {base!r}: {reason}. Set ANALYTICS_OBJECTS_URL to a folder or URL.")


class ExperimentExists(ObjectsError, ValueError):
    """An experiment is stored already."""

    def __init__(self, experiment: str) -> None:
        super().__init__(
            f"Experiment {experiment} is stored already, and unchanged. "
            'Call persist(if_exists="replace") to replace it.'
        )


class ExperimentNotFound(ObjectsError, LookupError):
    """No such experiment is stored."""

    def __init__(self, experiment: str, base: str) -> None:
        super().__init__(f"Experiment {experiment} is not stored in {base}. Call persist() first, or look elsewhere.")


class ExperimentCopied(ObjectsError, ValueError):
    """The index of an experiment names an object that is not the experiment's own."""

    def __init__(self, experiment: str, url: str) -> None:
        super().__init__(
            f"The index of experiment {experiment} names {url!r}, which is not below {experiment}: its folder is a "
            f"copy of another experiment's. Nothing was loaded or removed. Load the original, and persist its runs in "
            f"a new experiment; delete() removes the copy alone."
        )


class RunNotInExperiment(ObjectsError, LookupError):
    """An experiment has no run, or no such run."""

    def __init__(self, experiment: str, run: str) -> None:
        super().__init__(f"Experiment {experiment} has no {run}. Make one: with experiment.run() as run: …")


class PartitionsNotReturned(ObjectsError, TypeError):
    """An asset made several partitions at once, and returned no object for each of them."""

    def __init__(self, asset: str, keys: Iterable[str]) -> None:
        super().__init__(
            f"Asset {asset} made the partitions {', '.join(keys)} at once. Nothing was stored: return a mapping of "
            f"these keys to objects."
        )


class NotOfAnAsset(ObjectsError, TypeError):
    """The IO manager of objects was given an input or output of an op."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} belongs to no asset, and objects are kept by their asset's key. Nothing was stored or loaded: "
            f"return it from an asset, or store it with DataStoreIO."
        )
