"""The worked examples of tests/golden/kpis, each through its formula."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
import yaml

from services.metrics.domain import flow, hygiene, kpis, pipeline, trend
from services.metrics.domain.catalogue import KPIS
from shared.money import to_text

GOLDEN = Path(__file__).parents[2] / "golden" / "kpis"
MONEY = {"booked", "quota", "closed", "weighted", "pipeline", "value_win_rate", "amount"}
MONEY |= {"probability"}


def _cases() -> Iterator[Any]:
    for path in sorted(GOLDEN.glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for case in document["cases"]:
            yield pytest.param(document["formula"], case, id=f"{document['kpi']}: {case['name']}")


def _argument(formula: str, name: str, value: Any) -> Any:  # noqa: ANN401 - an example's own
    if name == "deals" and formula in {"pipeline_value", "weighted_pipeline"}:
        return [
            kpis.OpenDeal(**{k: _argument("", k, v) for k, v in deal.items()}) for deal in value
        ]
    if name == "deals":
        unstated = {"deal_type": None, "created_ms": None, "credit_ms": 0}
        return [
            kpis.WonDeal(**{**unstated, **{k: _argument("", k, v) for k, v in deal.items()}})
            for deal in value
        ]
    if value is not None and (name in MONEY or formula == "win_rate_value"):
        return Decimal(value)
    return value


def _called(formula: str, given: dict[str, Any]) -> kpis.KpiValue:
    """The formula of that name; the newer ones say by their types what an example's values are."""
    result: kpis.KpiValue
    for module in (pipeline, flow, hygiene, trend):
        function = getattr(module, formula, None)
        if function is not None:
            types = get_type_hints(function)
            result = function(**{n: msgspec.convert(v, types[n]) for n, v in given.items()})
            return result
    result = getattr(kpis, formula)(**{n: _argument(formula, n, v) for n, v in given.items()})
    return result


@pytest.mark.parametrize(("formula", "case"), list(_cases()))
def test_golden(formula: str, case: dict[str, Any]) -> None:
    result = _called(formula, case["given"])
    assert (None if result.value is None else to_text(result.value)) == case["value"]
    assert result.reason == case.get("reason")
    for name, text in case.get("parts", {}).items():
        assert result.parts[name] == text, name


def test_every_kpi_has_examples() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(KPIS)
