"""The committed JSON Schemas are the models, and both judge the committed examples alike."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from shared.errors import InvalidValue
from shared.events import envelope as wire
from shared.events.catalogue import RECORD_KIND_BY_TYPE
from shared.events.schemas import EVENT_TYPES, EXAMPLE_DIRECTORY, committed_files, event_schemas
from shared.facts.fact import read_fact

SCHEMAS = event_schemas()
EXAMPLES = sorted(EXAMPLE_DIRECTORY.glob("*/*.json"))


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path_and_text", list(committed_files()), ids=lambda pair: pair[0].name)
def test_committed_schema_is_what_the_model_says(path_and_text: tuple[Path, str]) -> None:
    path, text = path_and_text
    assert path.read_text(encoding="utf-8") == text
    jsonschema.Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize("event_type", sorted(SCHEMAS))
def test_every_type_has_a_valid_and_an_invalid_example(event_type: str) -> None:
    names = [path.name for path in EXAMPLES if path.parent.name == event_type]
    assert any(name.startswith("valid-") for name in names)
    assert any(name.startswith("invalid-") for name in names)


def test_no_example_is_of_an_unknown_type() -> None:
    assert {path.parent.name for path in EXAMPLES} == set(SCHEMAS)


@pytest.mark.parametrize("path", EXAMPLES, ids=_name)
def test_schema_and_decoder_agree(path: Path) -> None:
    document = path.read_bytes()
    expected = path.name.startswith("valid-")
    event_type = path.parent.name
    validator = jsonschema.Draft202012Validator(SCHEMAS[event_type])
    errors = [error.message for error in validator.iter_errors(json.loads(document))]
    assert (not errors) is expected, errors
    assert _decodes(event_type, document) is expected


def _decodes(event_type: str, document: bytes) -> bool:
    try:
        event = wire.decode(document)
        if event_type in RECORD_KIND_BY_TYPE:
            read_fact(event)
        else:
            msgspec.json.decode(event.data, type=EVENT_TYPES[event_type].model)
    except (InvalidValue, msgspec.DecodeError):
        return False
    return True
