"""The committed JSON Schemas of every event type, made from the models.

    python -m shared.events.schemas           writes shared/events/schemas/<type>.json
    python -m shared.events.schemas --check   exits 1 where a committed file differs

A schema describes the whole event: the envelope, its subject's form, and the data of its type.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shared.events.catalogue import RECORD_KINDS, EventType
from shared.events.deliveries import DELIVERY
from shared.events.envelope import Envelope
from shared.events.journals import JOURNALS
from shared.events.planned import TARGET_JOURNALS
from shared.events.signals import SIGNAL
from shared.events.targets import KPI, OBJECTIVE_SCORE, QUOTA

SCHEMA_DIRECTORY = Path(__file__).parent / "schemas"
EXAMPLE_DIRECTORY = SCHEMA_DIRECTORY / "examples"

EVENT_TYPES: Mapping[str, EventType] = {
    event.type: event
    for event in (DELIVERY, SIGNAL, QUOTA, KPI, OBJECTIVE_SCORE, *JOURNALS, *TARGET_JOURNALS)
}
"""Every type that is no record kind."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/{name}"


def event_schemas() -> Mapping[str, dict[str, Any]]:
    """The schema of every type, by type."""
    schemas = {}
    for kind in RECORD_KINDS.values():
        schemas[kind.type] = _event_schema(kind.type, kind.model, rf"^{kind.name}/.+$")
    for event in EVENT_TYPES.values():
        schemas[event.type] = _event_schema(event.type, event.model, None)
    return schemas


def _event_schema(
    event_type: str, model: type[msgspec.Struct], subject_pattern: str | None
) -> dict[str, Any]:
    (envelope, data), definitions = msgspec.json.schema_components(
        [_ATTRIBUTES, model], ref_template=_REF
    )
    names = {"envelope": envelope["$ref"], "data": data["$ref"]}
    top = definitions.pop(names["envelope"].rpartition("/")[2])
    properties = dict(top["properties"])
    properties["specversion"] = {"const": "1.0"}
    properties["type"] = {"const": event_type}
    properties["data"] = {"$ref": names["data"]}
    if subject_pattern is not None:
        properties["subject"] = {"type": "string", "pattern": subject_pattern}
    schema = {
        "$schema": _DIALECT,
        "title": event_type,
        "description": definitions[names["data"].rpartition("/")[2]].get("description", ""),
        "type": "object",
        "properties": properties,
        "required": [*top["required"], *(["data"] if _needs_data(model) else [])],
        "$defs": definitions,
    }
    return dict(_portable(schema))


def _attributes() -> type[msgspec.Struct]:
    """The envelope without its data, of which every type has its own model."""
    fields = [
        (f.encode_name, f.type) if f.required else (f.encode_name, f.type, f.default)
        for f in msgspec.structs.fields(Envelope)
        if f.name != "data"
    ]
    return msgspec.defstruct("Attributes", fields, kw_only=True)


_ATTRIBUTES = _attributes()


def _needs_data(model: type[msgspec.Struct]) -> bool:
    """Absent data is `{}`, which a model with required members refuses."""
    return any(field.required for field in msgspec.structs.fields(model))


def _portable(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    r"""Without what is Python's own: `\Z` ends a text as `$`, docstrings lose their margin."""
    if isinstance(value, list):
        return [_portable(item) for item in value]
    if not isinstance(value, dict):
        return value
    portable = {key: _portable(said) for key, said in value.items()}
    if isinstance(pattern := portable.get("pattern"), str):
        portable["pattern"] = pattern.replace(r"\Z", "$")
    if isinstance(description := portable.get("description"), str):
        portable["description"] = inspect.cleandoc(description)
    return portable


def committed_files() -> Iterator[tuple[Path, str]]:
    """Every schema file and what must stand in it."""
    for event_type, schema in event_schemas().items():
        text = json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False)
        yield SCHEMA_DIRECTORY / f"{event_type}.json", text + "\n"


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` compare them. Returns the exit status."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)  # noqa: T201 - a command's own answer
        return 2
    wanted = dict(committed_files())
    stale = [p for p in sorted(SCHEMA_DIRECTORY.glob("*.json")) if p not in wanted]
    if arguments:
        differing = [
            path
            for path, text in wanted.items()
            if not path.exists() or path.read_text(encoding="utf-8") != text
        ]
        for path in [*differing, *stale]:
            print(f"{path}: not as the models say; run `make schemas`")  # noqa: T201
        return 1 if differing or stale else 0
    SCHEMA_DIRECTORY.mkdir(exist_ok=True)
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    for path in stale:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
