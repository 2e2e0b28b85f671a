"""Which property of a CRM fills which field: an adapter's defaults under a connection's mapping."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from services.ingest.domain.translation import Connection
from shared.errors import InvalidValue

CUSTOM = "custom."
"""Prefix of a mapping's target that keeps a deal's property as a custom value, as text."""


def effective_mapping(
    defaults: Mapping[str, str], overrides: Mapping[str, str]
) -> Mapping[str, str]:
    """Property → field. A field that the connection maps anew is filled by that property alone."""
    if not overrides:
        return defaults
    taken = set(overrides.values())
    kept = {name: target for name, target in defaults.items() if target not in taken}
    return {**kept, **overrides}


def check_mapping(
    connection: Connection, mappable: Mapping[str, AbstractSet[str]], *, source: str
) -> None:
    """Raise InvalidValue, with a pointer, for a mapping onto what does not exist.

    mappable: record kind → fields that a property can fill. source: the CRM's name, for people.
    """
    for kind, mapping in connection.mapping.items():
        if kind not in mappable:
            msg = f"{source} connections map {', '.join(mappable)}; not {kind[:40]!r}"
            raise InvalidValue(msg, pointer=f"/mapping/{kind}")
        for name, target in mapping.items():
            custom = kind == "deal" and target.startswith(CUSTOM) and len(target) > len(CUSTOM)
            if target and not custom and target not in mappable[kind]:
                known = ", ".join(sorted(mappable[kind]))
                msg = f"{target[:40]!r} is no field to map to; use {known}"
                msg += ", custom.<key>" if kind == "deal" else ""
                raise InvalidValue(msg, pointer=f"/mapping/{kind}/{name}")
