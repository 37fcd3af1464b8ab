"""Dataset files: every `defs.yaml` of a code location, looked at before Dagster loads it.

Belongs here: what Dagster would report without file and line, or while quoting lines that may hold a secret: YAML
syntax, misspelt types and top-level keys, two datasets of one name.
Does not: the fields of a dataset (`split_sync`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import dagster as dg
import yaml

from analytics_pipeline.errors import DatasetFileInvalid
from analytics_pipeline.sync.spec import unknown_key_message
from analytics_pipeline.sync.spec_files import TYPES

TYPE = TYPES[0]

_TOP_LEVEL_KEYS = dict.fromkeys(["type", "attributes", "template_vars_module", "requirements", "post_processing"])

Problem = tuple[int | None, str, str]

# Dagster 1.13 warns of a beta parameter that it fills in itself, for every asset check that came from a YAML file.
warnings.filterwarnings("ignore", "Parameter `execution_type` of function `AssetsDefinition.__init__`")


def load_datasets(module: ModuleType) -> dg.Definitions:
    """Everything that Dagster finds below a package of definitions, its `defs.yaml` files checked first.

    Args:
        module: the package, such as `analytics_pipeline.defs`.

    Raises:
        DatasetFileInvalid: a file is not YAML, or no dataset; names file, line and fix, and quotes no value.
    """
    folder = Path(module.__path__[0])
    check_dataset_files(sorted(folder.rglob("defs.yaml")))
    # Not `load_from_defs_folder`, which looks for a pyproject.toml: an installed wheel has none. Not `ComponentTree` by
    # hand either, which prints a page of Dagster's warnings about its own insides.
    return dg.load_defs(module, project_root=folder.parents[module.__name__.count(".")])


def check_dataset_files(files: Iterable[Path]) -> None:
    """Refuse files that Dagster could not load, or that describe one dataset twice.

    Raises:
        DatasetFileInvalid: see `load_datasets`.
    """
    seen: dict[str, Path] = {}
    for file in files:
        problems: list[Problem] = []
        for document in _documents(file):
            problems += [*_top_level_problems(document), *_odd_keys(document)]
            name = _dataset_name(file, document)
            if name in seen:
                problems.append((_line(document), "", f"{name} is already the dataset of {seen[name]}; {_RENAME}"))
            elif name is not None:
                seen[name] = file
        if problems:
            raise DatasetFileInvalid(str(file), problems)


_BEGIN = f"a dataset begins with `type: {TYPE}`"
_RENAME = "rename the folder, or give another `name` under attributes"


def _documents(file: Path) -> list[yaml.Node]:
    try:
        with file.open(encoding="utf-8") as stream:  # from a stream, PyYAML's errors quote no line of it
            found = [document for document in yaml.compose_all(stream) if document is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        opened = f" {error.context} that begins in line {error.context_mark.line + 1}:" if error.context_mark else ""
        text = f"not valid YAML:{opened} {error.problem}; look at quotes, colons and indentation there"
        raise DatasetFileInvalid(str(file), [(mark.line + 1 if mark else None, "", text)]) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        text = "not a text file in UTF-8 without control characters; save it as such"
        raise DatasetFileInvalid(str(file), [(None, "", text)]) from None
    if not found:
        raise DatasetFileInvalid(str(file), [(None, "", f"is empty; {_BEGIN}")])
    return found


def _top_level_problems(document: yaml.Node) -> Iterable[Problem]:
    entries = _entries(document)
    for key in entries:
        if key.value not in _TOP_LEVEL_KEYS:
            yield _line(key), "", unknown_key_message(str(key.value), _TOP_LEVEL_KEYS)
    type_, attributes = _entry(document, "type"), _entry(document, "attributes")
    if type_ is None:
        yield _line(document), "type", f"is missing; {_BEGIN}"
    elif str(type_.value).startswith("analytics_pipeline.") and type_.value not in TYPES:
        yield _line(type_), "type", f"there is no `{type_.value}`; did you mean `{TYPE}`?"
    if attributes is not None and not isinstance(attributes, yaml.MappingNode):
        yield _line(attributes), "attributes", "is no mapping; indent the keys of the dataset below it"


def _odd_keys(node: yaml.Node) -> Iterable[Problem]:
    """Keys that Dagster would stumble over, or take the last of without a word; tags of which it knows nothing.

    To YAML, `{{ x }}` without quotes is a mapping whose key is a mapping.
    """
    if not node.tag.startswith("tag:yaml.org,2002:"):
        yield _line(node), "", "a tag (a word after !) means nothing here; write the value itself"
    seen: set[str] = set()
    for key, value in _entries(node).items():
        if not isinstance(key, yaml.ScalarNode):
            yield _line(key), "", 'a template stands in quotes: write "{{ env.NAME }}"'
        elif key.value in seen:
            yield _line(key), "", "this key stands twice; remove one"
        else:
            seen.add(key.value)
        yield from _odd_keys(value)


def _dataset_name(file: Path, document: yaml.Node) -> str | None:
    type_, attributes = _entry(document, "type"), _entry(document, "attributes")
    if type_ is None or str(type_.value) not in TYPES:
        return None
    given = _entry(attributes, "name") if attributes is not None else None
    return str(given.value) if isinstance(given, yaml.ScalarNode) else file.parent.name


def _entries(node: yaml.Node) -> dict[yaml.Node, yaml.Node]:
    return dict(node.value) if isinstance(node, yaml.MappingNode) else {}


def _entry(node: yaml.Node, name: str) -> yaml.Node | None:
    return next((value for key, value in _entries(node).items() if key.value == name), None)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
