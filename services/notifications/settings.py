"""Settings of the notifications service, prefix `ATTAIN_NOTIFICATIONS_`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AnyHttpUrl, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from services.notifications.channels.mail import SmtpSecurity
from services.notifications.channels.slack import SLACK_API_URL
from services.notifications.domain.attempts import STANDARD_SCHEDULE, RetrySchedule
from services.notifications.domain.directory import Places
from services.notifications.domain.routing import ChannelKind
from shared.settings import ServiceSettings

RetryDelay = Annotated[int, Field(ge=0, le=86_400)]


class NotificationsSettings(ServiceSettings):
    """Ways out and how patiently they are used. Without any the service runs, and alerts wait.

    A Slack place is a conversation's id, which needs the bot's token, or a webhook's name.
    """

    model_config = SettingsConfigDict(
        env_prefix="ATTAIN_NOTIFICATIONS_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    slack_token: SecretStr | None = Field(default=None, description="bot token of the Slack app")
    slack_webhooks: dict[str, SecretStr] = Field(
        default_factory=dict, description="JSON object: name → incoming-webhook URL"
    )
    slack_base_url: str = Field(default=SLACK_API_URL, description="URL of Slack's API")
    allow_insecure_slack_base_url: bool = Field(
        default=False, description="let Slack's URLs name a local stand-in"
    )
    slack_default_channel: str | None = Field(
        default=None, description="Slack place for people without a subscription"
    )
    slack_channels: dict[str, str] = Field(
        default_factory=dict, description="JSON object: team id → Slack place for its alerts"
    )
    slack_interval_s: float = Field(
        default=1.0, ge=0, le=60, description="pause between two messages to one Slack place"
    )
    smtp_host: str | None = Field(default=None, description="mail server; none: no e-mail")
    smtp_port: int = Field(default=587, ge=1, le=65_535, description="port of the mail server")
    smtp_security: SmtpSecurity = Field(
        default=SmtpSecurity.STARTTLS, description="how the way to the mail server is protected"
    )
    smtp_username: str | None = Field(
        default=None, description="login at the mail server; none: no login"
    )
    smtp_password: SecretStr | None = Field(
        default=None, description="password of that login; set both or neither"
    )
    mail_sender: str | None = Field(default=None, description="From address of mails")
    web_url: AnyHttpUrl | None = Field(
        default=None, description="where people open Attain; links in messages lead there"
    )
    fallback_slack_channel: str | None = Field(
        default=None, description="Slack place that hears what no manager can be told"
    )
    fallback_email: str | None = Field(
        default=None, description="mailbox that hears what no manager can be told"
    )
    people_wait_s: float = Field(
        default=30.0,
        ge=0,
        le=86_400,
        description="how long an alert waits for its owner's manager to become known before "
        "somebody else is told",
    )
    lease_s: float = Field(
        default=90.0,
        ge=1,
        le=3_600,
        description="a try that was not recorded within this time is made again; longer than "
        "the channels' own limits (30 s)",
    )
    retry_delays_s: tuple[RetryDelay, ...] = Field(
        default=STANDARD_SCHEDULE.delays_s,
        min_length=1,
        description="pauses after the first, second, … failed try; the last one repeats",
    )
    retry_attempts: int = Field(
        default=STANDARD_SCHEDULE.max_attempts,
        ge=1,
        le=1_000,
        description="tries of one message in all; then it has failed",
    )

    @model_validator(mode="after")
    def _channels_are_complete(self) -> Self:
        prefix = "ATTAIN_NOTIFICATIONS_"
        if self.smtp_host is not None and self.mail_sender is None:
            msg = f"{prefix}MAIL_SENDER is not set: mails need a From address"
            raise ValueError(msg)
        if self.fallback_email is not None and self.smtp_host is None:
            msg = f"{prefix}FALLBACK_EMAIL needs {prefix}SMTP_HOST"
            raise ValueError(msg)
        if (self.smtp_username is None) != (self.smtp_password is None):
            msg = f"set both {prefix}SMTP_USERNAME and {prefix}SMTP_PASSWORD, or neither"
            raise ValueError(msg)
        named = [self.slack_default_channel, self.fallback_slack_channel]
        for place in [*named, *self.slack_channels.values()]:
            if place is not None and place not in self.slack_webhooks and self.slack_token is None:
                msg = (
                    f"a Slack place is neither a name in {prefix}SLACK_WEBHOOKS nor, without "
                    f"{prefix}SLACK_TOKEN, reachable by id"
                )
                raise ValueError(msg)
        return self

    @property
    def enabled(self) -> frozenset[ChannelKind]:
        """The channels that can be used."""
        kinds = set()
        if self.slack_token is not None:
            kinds.add(ChannelKind.SLACK)
        if self.slack_webhooks:
            kinds.add(ChannelKind.SLACK_WEBHOOK)
        if self.smtp_host is not None:
            kinds.add(ChannelKind.EMAIL)
        return frozenset(kinds)

    @property
    def places(self) -> Places:
        """Where messages go that no subscription directs."""
        fallback = dict(self._slack(self.fallback_slack_channel))
        if self.fallback_email is not None:
            fallback[ChannelKind.EMAIL] = self.fallback_email
        return Places(
            enabled=self.enabled,
            default=self._slack(self.slack_default_channel),
            by_team={team: self._slack(place) for team, place in self.slack_channels.items()},
            fallback=fallback,
        )

    @property
    def schedule(self) -> RetrySchedule:
        """When failed tries are made again."""
        return RetrySchedule(self.retry_delays_s, self.retry_attempts)

    @property
    def links_to(self) -> str | None:
        """Base of links in messages; None leaves them out."""
        return None if self.web_url is None else str(self.web_url).rstrip("/")

    def _slack(self, place: str | None) -> Mapping[ChannelKind, str]:
        if place is None:
            return {}
        by_name = place in self.slack_webhooks
        return {ChannelKind.SLACK_WEBHOOK if by_name else ChannelKind.SLACK: place}
