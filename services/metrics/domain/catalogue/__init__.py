"""The KPI catalogue: what is served, by which formula, and when there is no value."""

from __future__ import annotations

from collections.abc import Mapping

from services.metrics.domain.catalogue import effort, pipeline, results
from services.metrics.domain.catalogue.definition import FIRST_DAY, Kind, Kpi, Registry, Unit

__all__ = ["BUILT_IN", "FIRST_DAY", "KPIS", "Kind", "Kpi", "Registry", "Unit"]

BUILT_IN = Registry((*results.KPIS, *pipeline.KPIS, *effort.KPIS))
"""Every definition that comes with the product."""

KPIS: Mapping[str, Kpi] = {kpi_id: BUILT_IN.versions(kpi_id)[-1] for kpi_id in BUILT_IN.ids}
"""The newest definition of every KPI, by id."""
