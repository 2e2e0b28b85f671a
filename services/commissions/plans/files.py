"""Plan documents from YAML or JSON files: read strictly, each value with its place in the file.

YAML is read by its 1.2 rules, and no number becomes a double: besides whole numbers every scalar
stays the text it is, so that `12.10` means 12.10. A key that stands twice, an alias that would grow
without bounds, a tag and whatever is too large or too deep are refused with file, line and column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from shared.errors import AttainError

MAX_BYTES = 256 * 1024
MAX_DOCUMENTS = 200
MAX_DEPTH = 32
MAX_NODES = 20_000
"""Values in one file, each as often as an alias repeats it."""

_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_CONSTANTS: Mapping[str, object] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_MERGE = "<<"
_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge", "value")
)
"""What plain YAML resolves to by itself; a tag of another name could make objects."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Unreadable(AttainError):
    """A file is no plan document: says where and what to do."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.place = place
        self.message = message


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """One document of a file. places: JSON pointer → where it stands."""

    document: Mapping[str, Any]
    start: Place
    places: Mapping[str, Place] = field(repr=False)

    def place_of(self, pointer: str) -> Place:
        """Where a pointer stands, or the nearest that holds it."""
        while pointer and pointer not in self.places:
            pointer = pointer.rpartition("/")[0]
        return self.places.get(pointer, self.start)


def read_files(paths: Iterable[Path]) -> list[PlanDocument]:
    """All documents of these files; a folder stands for the `.yaml`, `.yml` and `.json` in it.

    Raises Unreadable at the first file that is none.
    """
    found: list[PlanDocument] = []
    for path in paths:
        files = sorted(_in_folder(path)) if path.is_dir() else [path]
        for file in files:
            try:
                with file.open("rb") as opened:
                    content = opened.read(MAX_BYTES + 1)
            except OSError as error:
                msg = f"cannot be read: {error.strerror or error}"
                raise Unreadable(Place(str(file), 1, 1), msg) from None
            found.extend(read_documents(str(file), content))
    return found


def _in_folder(folder: Path) -> Iterator[Path]:
    return (file for file in folder.iterdir() if file.suffix in {".yaml", ".yml", ".json"})


def read_documents(file: str, content: bytes) -> list[PlanDocument]:
    """The documents of one file, which `---` parts. Raises Unreadable."""
    if len(content) > MAX_BYTES:
        msg = f"more than {MAX_BYTES // 1024} KiB; one file holds the versions of few plans"
        raise Unreadable(Place(file, 1, 1), msg)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = _at(file, content[: error.start].decode("utf-8", "replace"))
        raise Unreadable(where, "this is not UTF-8") from None
    try:
        _bound(file, text)
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.reader.ReaderError as error:
        where = _at(file, text[: error.position])
        raise Unreadable(where, "a control character cannot stand in a plan") from None
    except yaml.MarkedYAMLError as error:
        raise Unreadable(_mark(file, error.problem_mark), _syntax(error)) from None
    reader = _Reader(file)
    found = [reader.document(node) for node in nodes if not _is_empty(node)]
    if not found:
        raise Unreadable(Place(file, 1, 1), "the file holds no plan")
    return found


def _at(file: str, before: str) -> Place:
    line = before.count("\n")
    return Place(file, line + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == ""


def _mark(file: str, mark: object) -> Place:
    if not isinstance(mark, yaml.Mark):
        return Place(file, 1, 1)
    return Place(file, mark.line + 1, mark.column + 1)


def _syntax(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem or error.context or "this is not YAML")
    if "\\t" in problem:
        return "a tab cannot indent YAML; use spaces"
    if "mapping values are not allowed" in problem:
        return f"{problem}; put quotes around a text that holds a colon"
    if "undefined alias" in problem:
        return f"{problem}; an anchor (&name) stands before its aliases (*name)"
    return problem


def _bound(file: str, text: str) -> None:
    """Refuse what is too deep or too much before anything is built of it. Raises Unreadable."""
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        nodes += isinstance(event, yaml.NodeEvent)
        for many, most, what in (
            (depth, MAX_DEPTH, "levels deep"),
            (nodes, MAX_NODES, "values"),
            (documents, MAX_DOCUMENTS, "plan versions"),
        ):
            if many > most:
                msg = f"more than {most} {what}; a plan is smaller"
                raise Unreadable(_mark(file, event.start_mark), msg)


class _Reader:
    """Values of nodes, with their places; aliases are counted as often as they stand."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._places: dict[str, Place] = {}
        self._read = 0

    def document(self, node: yaml.Node) -> PlanDocument:
        start = _mark(self._file, node.start_mark)
        if not isinstance(node, yaml.MappingNode):
            msg = "a plan is a mapping that begins with a key such as `id: ae-2026`"
            raise Unreadable(start, msg)
        self._places = {}
        return PlanDocument(self._mapping(node, "", ()), start, self._places)

    def _refuse(self, node: yaml.Node, message: str) -> Unreadable:
        return Unreadable(_mark(self._file, node.start_mark), message)

    def _value(self, node: yaml.Node, pointer: str, above: tuple[int, ...]) -> object:
        self._read += 1
        if self._read > MAX_NODES or len(above) > MAX_DEPTH:
            msg = f"aliases repeat more than {MAX_NODES} values or {MAX_DEPTH} levels; write them"
            raise self._refuse(node, msg)
        if id(node) in above:
            raise self._refuse(node, "this anchor holds an alias of itself")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, pointer, above)
        self._check_tag(node)
        if isinstance(node, yaml.SequenceNode):
            inside = (*above, id(node))
            entries = []
            for place, entry in enumerate(node.value):
                self._places[f"{pointer}/{place}"] = _mark(self._file, entry.start_mark)
                entries.append(self._value(entry, f"{pointer}/{place}", inside))
            return entries
        return self._scalar(node) if isinstance(node, yaml.ScalarNode) else None

    def _check_tag(self, node: yaml.Node) -> None:
        if node.tag not in _TAGS:
            raise self._refuse(node, f"the tag {node.tag} means nothing in a plan; leave it out")

    def _scalar(self, node: yaml.ScalarNode) -> object:
        text = str(node.value)
        if node.style is not None:
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        return int(text) if _INT.fullmatch(text) else text

    def _mapping(
        self, node: yaml.MappingNode, pointer: str, above: tuple[int, ...]
    ) -> dict[str, Any]:
        self._check_tag(node)
        inside = (*above, id(node))
        found: dict[str, Any] = {}
        seen: dict[str, Place] = {}
        for key_node, value_node in sorted(node.value, key=_merges_first):
            key = self._key(key_node)
            place = _mark(self._file, key_node.start_mark)
            if key in seen:
                msg = f"the key {key} stands here twice, first in line {seen[key].line}; keep one"
                raise Unreadable(max(place, seen[key], key=_line), msg)
            seen[key] = place
            if key == _MERGE and key_node.style is None:
                found |= self._merged(value_node, pointer, inside)
                continue
            plain = isinstance(value_node, yaml.ScalarNode)
            at = f"{pointer}/{key}"
            self._places[at] = _mark(self._file, value_node.start_mark) if plain else place
            found[key] = self._value(value_node, at, inside)
        return found

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._refuse(node, "a key is a word")
        self._check_tag(node)
        return str(node.value)

    def _merged(self, node: yaml.Node, pointer: str, above: tuple[int, ...]) -> dict[str, Any]:
        """`<<: *base`: keys of another mapping, which those that stand here replace."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Any] = {}
        for entry in reversed(nodes):
            value = self._value(entry, pointer, above)
            if not isinstance(value, dict):
                raise self._refuse(entry, "<<: merges a mapping, as in `<<: *base`")
            found |= value
        return found


def _merges_first(pair: tuple[yaml.Node, yaml.Node]) -> bool:
    return bool(pair[0].value != _MERGE)


def _line(place: Place) -> tuple[int, int]:
    return place.line, place.column
