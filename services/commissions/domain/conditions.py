"""Conditions (`when`) that read the payee, or another component of the same plan.

Another component is read as it stands for the same payee up to and with the credit's place in
order, in that component's own measure period: `component.<id>.attainment`, `.credited` and
`.earned` (its lines before caps); a component id is written with `_` for each `-` and `.`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from services.commissions.domain.expressions import (
    Expression,
    Field,
    FieldUnknown,
    ValueKind,
    Values,
)
from shared.money import parse_decimal, to_text

FIGURES = ("attainment", "credited", "earned")
_COMPONENT, _PAYEE = "component.", "payee."


def reads_payee(when: Expression) -> bool:
    """Whether the condition depends on who is credited."""
    return any(name.startswith(_PAYEE) for name in when.names)


def reads_components(when: Expression) -> bool:
    """Whether the condition depends on another component."""
    return any(name.startswith(_COMPONENT) for name in when.names)


def as_name(component_id: str) -> str:
    """How formulas write a component's id."""
    return component_id.replace("-", "_").replace(".", "_")


def component_fields(component_ids: Mapping[str, bool]) -> dict[str, Field]:
    """The names of other components' figures. component_ids: id → whether it has a quota."""
    found = {}
    for component_id, has_quota in component_ids.items():
        for figure in FIGURES:
            if figure != "attainment" or has_quota:
                found[f"{as_name(component_id)}.{figure}"] = Field(ValueKind.NUMBER, waits=True)
    return found


def components_read(when: Expression, component_ids: Iterable[str]) -> set[str]:
    """The ids of the components that a condition reads."""
    wanted = {name.split(".")[1] for name in when.names if name.startswith(_COMPONENT)}
    return {component_id for component_id in component_ids if as_name(component_id) in wanted}


def inputs_of(when: Expression, values: Values) -> tuple[tuple[str, str, str], ...]:
    """(name, kind, value) of everything the condition reads besides components.

    What is unknown is left out; the condition then waits when it is asked.
    """
    found = []
    for name in when.names:
        root, _, field = name.partition(".")
        value = values.get(root, {}).get(field)
        if name.startswith(_COMPONENT) or value is None:
            continue
        if isinstance(value, bool):
            found.append((name, ValueKind.FLAG.value, "true" if value else "false"))
        elif isinstance(value, Decimal):
            found.append((name, ValueKind.NUMBER.value, to_text(value)))
        else:
            found.append((name, ValueKind.TEXT.value, str(value)))
    return tuple(found)


def holds(
    when: Expression, inputs: tuple[tuple[str, str, str], ...], figures: Mapping[str, Decimal]
) -> bool | None:
    """Whether a condition on other components holds; None while something is not known.

    figures: `<component name>.<figure>` → value.
    """
    values: dict[str, dict[str, object]] = {"component": dict(figures)}
    for name, kind, text in inputs:
        root, _, field = name.partition(".")
        values.setdefault(root, {})[field] = _typed(kind, text)
    try:
        return when.evaluate(values) is True
    except FieldUnknown:
        return None


def _typed(kind: str, text: str) -> object:
    if kind == ValueKind.FLAG:
        return text == "true"
    return parse_decimal(text) if kind == ValueKind.NUMBER else text
