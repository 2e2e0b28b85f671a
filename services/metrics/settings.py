"""Settings of the metrics service, prefix `ATTAIN_METRICS_`."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from services.metrics.domain.at_risk import RiskLimits
from services.metrics.domain.hygiene import REQUIRABLE, HygieneRules
from services.metrics.domain.stalled import Thresholds
from shared.settings import ServiceSettings


class MetricsSettings(ServiceSettings):
    """What is counted how, and when a deal or a quota asks for attention."""

    model_config = SettingsConfigDict(
        env_prefix="ATTAIN_METRICS_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    currency: str = Field(
        default="USD",
        pattern=r"^[A-Z]{3}$",
        description="currency of reports where the organisation's calendar names none",
    )
    rate_table: str = Field(
        default="org", min_length=1, max_length=100, description="exchange-rate table of reports"
    )
    no_decision_reasons: frozenset[str] = Field(
        default=frozenset({"no decision", "no_decision", "disqualified"}),
        description="JSON list of `lost_reason` texts, lower case, that are no competitive loss",
    )
    reopen_grace_hours: int = Field(
        default=24, ge=0, le=24 * 31, description="back in won within this is one stay"
    )
    tick_interval_s: float = Field(
        default=0.3, gt=0, le=60, description="pause between two looks at what is due"
    )
    import_quiet_s: float = Field(
        default=5.0,
        ge=0,
        le=3_600,
        description="an import is over, and announced once, when nothing came for this long",
    )
    stage_age_multiple: Decimal = Field(
        default=Decimal("1.5"), gt=0, le=100, description="of the usual stage age, then it stalls"
    )
    stage_age_multiple_by_segment: dict[str, Decimal] = Field(
        default={"enterprise": Decimal("2.0")},
        description="JSON object: account segment → multiple that overrides the general one",
    )
    stage_age_days: int = Field(
        default=30, ge=1, le=3_650, description="limit of a stage's age while none is learned"
    )
    unchanged_days: int = Field(
        default=30,
        ge=1,
        le=3_650,
        description="days without a change of stage, amount or close date, then a deal stalls",
    )
    activity_days: int = Field(
        default=14, ge=1, le=3_650, description="days without an activity, then a deal stalls"
    )
    next_step_days: int = Field(
        default=7, ge=1, le=3_650, description="days without a next step, then a deal stalls"
    )
    pushes: int = Field(default=2, ge=1, le=100, description="moves of the close date in one stage")
    risk_judged_from: Decimal = Field(
        default=Decimal("0.20"), ge=0, le=1, description="share of the working days, then judged"
    )
    risk_opens_below: Decimal = Field(
        default=Decimal("0.80"), gt=0, le=10, description="forecast ÷ quota below it is at risk"
    )
    risk_clears_at: Decimal = Field(
        default=Decimal("0.85"), gt=0, le=10, description="forecast ÷ quota that ends a risk"
    )

    hygiene_required: dict[str, list[str]] = Field(
        default={"*": ["close_date", "currency", "owner"]},
        description="JSON object: stage, or `*` for every one → fields that must be stated in it",
    )
    hygiene_fresh_days: int = Field(
        default=14, ge=1, le=3_650, description="days in which something must happen on a deal"
    )
    hygiene_weights: dict[str, Annotated[Decimal, Field(ge=0, le=1_000)]] = Field(
        default={}, description="JSON object: hygiene rule → weight; 1 where none is given"
    )
    touched_days: int = Field(
        default=14, ge=1, le=365, description="days in which an activity makes a deal touched"
    )

    @field_validator("hygiene_required")
    @classmethod
    def _requirable(cls, required: dict[str, list[str]]) -> dict[str, list[str]]:
        unknown = sorted({name for names in required.values() for name in names} - REQUIRABLE)
        if unknown:
            raise ValueError(
                f"no such field: {unknown[0]}; there are {', '.join(sorted(REQUIRABLE))}"
            )
        return required

    @property
    def hygiene(self) -> HygieneRules:
        """What is asked of an open deal."""
        required = {stage: frozenset(names) for stage, names in self.hygiene_required.items()}
        return HygieneRules(required, self.hygiene_fresh_days, dict(self.hygiene_weights))

    @property
    def reopen_grace(self) -> timedelta:
        """How long a deal may leave won and come back as one stay."""
        return timedelta(hours=self.reopen_grace_hours)

    @property
    def thresholds(self) -> Thresholds:
        """When a deal is stalled."""
        return Thresholds(
            stage_age_multiple=self.stage_age_multiple,
            by_segment=dict(self.stage_age_multiple_by_segment),
            stage_age_days=self.stage_age_days,
            unchanged_days=self.unchanged_days,
            activity_days=self.activity_days,
            next_step_days=self.next_step_days,
            pushes=self.pushes,
        )

    @property
    def risk_limits(self) -> RiskLimits:
        """When a quota is at risk."""
        return RiskLimits(self.risk_judged_from, self.risk_opens_below, self.risk_clears_at)
