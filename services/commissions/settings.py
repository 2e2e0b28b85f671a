"""Settings of the commissions service, prefix `ATTAIN_COMMISSIONS_`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class CommissionsSettings(ServiceSettings):
    """How patient a close is, how often the ledger is checked, and who may close."""

    model_config = SettingsConfigDict(
        env_prefix="ATTAIN_COMMISSIONS_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    close_wait_s: float = Field(
        default=20.0,
        ge=0.1,
        le=25,
        description="how long a close waits for facts on their way before it answers 503",
    )
    one_seat: bool = Field(
        default=False,
        description="exactly one person works here: they may close what they submitted, "
        "and statements say so",
    )
    dispute_sla_days: int = Field(
        default=5,
        ge=1,
        le=60,
        description="working days of the organisation within which a dispute is to be answered",
    )
    settle_interval_s: float = Field(
        default=0.1, ge=0.01, le=10, description="pause between two looks for marked roots"
    )
    sweep_interval_s: float = Field(
        default=0.5,
        ge=0.05,
        le=60,
        description="pause between two looks for what older reference data made",
    )
    hold_share: str = Field(
        default="0.02",
        pattern=r"^(off|0(\.[0-9]{1,6})?|1)$",
        description="changes of reference data and quotas, stated by people, that would move more "
        "than this share of a period's pay within an hour are held until a person releases them; "
        "off: nothing is held",
    )
    drift_interval_s: float = Field(
        default=5.0, ge=0.05, le=3_600, description="pause after each round of the ledger's check"
    )
