"""Slack: by a bot token (messages are updated in place) and by incoming webhooks (they are not).

The SDK's own retries are off: pauses are the delivery log's business, and survive a restart.
Its debug log, which prints webhook URLs, is kept silent. Redirects are refused, so that neither
a token nor a message follows one to another host.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace

import aiohttp
from slack_sdk.errors import SlackApiError, SlackObjectFormationError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient
from slack_sdk.webhook.webhook_response import WebhookResponse

from services.notifications.channels.slack_blocks import alert_blocks, fallback_text
from services.notifications.domain.attempts import Outcome, Verdict
from services.notifications.domain.deliveries import MessageRef
from services.notifications.domain.messages import Form, OutgoingMessage
from services.notifications.domain.routing import ChannelKind
from shared.errors import Misconfigured

SLACK_API_URL = "https://slack.com/api/"
TIMEOUT_S = 10.0
"""Slack answers within a second; ten leave room for a slow proxy."""

_WEBHOOK_URL = re.compile(r"https://hooks\.slack\.com/services/[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)+")
_ANY_HTTP_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9_./-]*)?")
_ERROR_CODE = re.compile(r"[a-z0-9_]{1,64}")

TOO_MANY_REQUESTS = 429
SERVER_ERRORS_FROM = 500
OK = 200

_SLACKS_TROUBLE = (
    "ratelimited",
    "rate_limited",
    "internal_error",
    "fatal_error",
    "service_unavailable",
    "request_timeout",
    "team_added_to_org",
    "message_limit_exceeded",
    "rollup_error",
)
_OURS_TO_REPAIR = (
    "invalid_auth",
    "not_authed",
    "token_expired",
    "token_revoked",
    "account_inactive",
    "missing_scope",
    "access_denied",
    "org_login_required",
    "not_in_channel",
    "no_service",
    "no_active_hooks",
)
RETRIED_ERRORS = frozenset((*_SLACKS_TROUBLE, *_OURS_TO_REPAIR))
"""Errors that may be gone at the next try, by themselves or once an operator has repaired a token,
a scope or an invitation. Any other one is about the message or the recipient, and is final."""

_FROZEN_MESSAGE = frozenset({"edit_window_closed", "cant_update_message"})

_sdk_logger = logging.getLogger("attain.notifications.slack_sdk")
_sdk_logger.setLevel(logging.WARNING)


class RedirectRefused(aiohttp.ClientError):
    """Slack's endpoints do not redirect; something else answered."""


def slack_session() -> aiohttp.ClientSession:
    """The HTTP session that Slack channels share. Its maker closes it; needs a running loop."""
    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(trace_configs=[tracing])


def checked_webhook_url(url: str, *, allow_insecure_slack_base_url: bool) -> str:
    """`url` if messages may be posted to it: https, exactly hooks.slack.com, a /services/ path.

    allow_insecure_slack_base_url: any http or https URL, for a local stand-in.
    Raises Misconfigured, without the URL, which is a secret.
    """
    if _WEBHOOK_URL.fullmatch(url):
        return url
    if allow_insecure_slack_base_url and _ANY_HTTP_URL.fullmatch(url):
        return url
    msg = (
        "a Slack webhook must be https://hooks.slack.com/services/…; for a local stand-in set "
        "allow_insecure_slack_base_url"
    )
    raise Misconfigured(msg)


def checked_api_url(url: str, *, allow_insecure_slack_base_url: bool) -> str:
    """`url` if a bot token may be sent to it: Slack's own, or any with the explicit setting."""
    if url == SLACK_API_URL:
        return url
    if allow_insecure_slack_base_url and _ANY_HTTP_URL.fullmatch(url):
        return url
    msg = (
        f"the Slack API is {SLACK_API_URL}; for a local stand-in set allow_insecure_slack_base_url"
    )
    raise Misconfigured(msg)


class SlackApiChannel:
    """Messages by a Slack app's bot: posted once, then updated in place."""

    kind = ChannelKind.SLACK

    def __init__(
        self,
        session: aiohttp.ClientSession,
        token: str,
        *,
        base_url: str = SLACK_API_URL,
        allow_insecure_slack_base_url: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._timeout_s = timeout_s
        self._client = AsyncWebClient(
            token=token,
            base_url=checked_api_url(
                base_url, allow_insecure_slack_base_url=allow_insecure_slack_base_url
            ),
            session=session,
            logger=_sdk_logger,
            retry_handlers=[],
        )
        if allow_insecure_slack_base_url:
            # The SDK takes the machine's web proxy and knows no exceptions to it.
            self._client.proxy = None

    async def send(self, message: OutgoingMessage) -> Outcome:
        """Post the message, or update the one it stands in place of."""
        outcome = await _tried(lambda: self._deliver(message), self._timeout_s)
        if message.form is Form.UPDATE and outcome.reason in _FROZEN_MESSAGE:
            return await _tried(lambda: self._answer(message), self._timeout_s)
        return outcome

    async def _deliver(self, message: OutgoingMessage) -> Outcome:
        if message.form is Form.UPDATE and message.ref is not None:
            answer = await self._client.chat_update(
                channel=message.ref.place,
                ts=message.ref.message,
                text=fallback_text(message.content),
                blocks=alert_blocks(message.content),
                parse="none",
                link_names=False,
            )
            return _posted(answer.get("channel"), answer.get("ts"))
        return await self._post(message, message.address, thread_ts=None)

    async def _answer(self, message: OutgoingMessage) -> Outcome:
        """Follow up in the message's thread: the workspace forbids to edit it."""
        if message.ref is None:
            return Outcome(Verdict.FAILED, "no message to answer")
        sent = await self._post(message, message.ref.place, thread_ts=message.ref.message)
        return Outcome(sent.verdict, sent.reason, message.ref, sent.retry_after_s)

    async def _post(self, message: OutgoingMessage, place: str, thread_ts: str | None) -> Outcome:
        answer = await self._client.chat_postMessage(
            channel=place,
            thread_ts=thread_ts,
            text=fallback_text(message.content),
            blocks=alert_blocks(message.content),
            mrkdwn=False,
            parse="none",
            link_names=False,
            unfurl_links=False,
            unfurl_media=False,
        )
        return _posted(answer.get("channel"), answer.get("ts"))


class SlackWebhookChannel:
    """Messages by incoming webhooks, each known by a configured name. Nothing can be updated."""

    kind = ChannelKind.SLACK_WEBHOOK

    def __init__(
        self,
        session: aiohttp.ClientSession,
        urls: Mapping[str, str],
        *,
        allow_insecure_slack_base_url: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._timeout_s = timeout_s
        self._clients = {}
        for name, url in urls.items():
            client = AsyncWebhookClient(
                checked_webhook_url(
                    url, allow_insecure_slack_base_url=allow_insecure_slack_base_url
                ),
                session=session,
                logger=_sdk_logger,
                retry_handlers=[],
            )
            if allow_insecure_slack_base_url:
                client.proxy = None
            self._clients[name] = client

    async def send(self, message: OutgoingMessage) -> Outcome:
        """Post the message; a follow-up is a message of its own."""
        client = self._clients.get(message.address)
        if client is None:
            return Outcome(Verdict.RETRY, "no webhook of this name is configured")
        return await _tried(lambda: _post_to_webhook(client, message), self._timeout_s)


async def _post_to_webhook(client: AsyncWebhookClient, message: OutgoingMessage) -> Outcome:
    response = await client.send_dict(
        {
            "text": fallback_text(message.content),
            "blocks": alert_blocks(message.content),
            "mrkdwn": False,
            "link_names": False,
            "unfurl_links": False,
            "unfurl_media": False,
        }
    )
    if response.status_code == OK:
        # A webhook tells no timestamp; the delivery's id only says that something arrived.
        return Outcome(Verdict.SENT, ref=MessageRef(message.address, message.delivery_id))
    return _webhook_refusal(response)


async def _tried(attempt: Callable[[], Awaitable[Outcome]], timeout_s: float) -> Outcome:
    """The outcome of one attempt. Reasons name the kind of error only: its text may hold a URL."""
    try:
        async with asyncio.timeout(timeout_s):
            return await attempt()
    except SlackApiError as error:
        return _api_refusal(error)
    except SlackObjectFormationError:
        return Outcome(Verdict.FAILED, "the message exceeds a limit of Slack's")
    except TimeoutError:
        return Outcome(
            Verdict.RETRY, f"no answer within {timeout_s:g} s; the message may have arrived"
        )
    except Exception as error:  # noqa: BLE001 - a channel answers with an outcome, whatever broke
        return Outcome(Verdict.RETRY, f"sending failed: {type(error).__name__}")


def _posted(place: object, timestamp: object) -> Outcome:
    if isinstance(place, str) and isinstance(timestamp, str):
        return Outcome(Verdict.SENT, ref=MessageRef(place, timestamp))
    return Outcome(Verdict.SENT, "Slack did not say where the message is; it cannot be updated")


def _api_refusal(error: SlackApiError) -> Outcome:
    # The SDK puts its own response here, or aiohttp's when the body was no JSON.
    response: object = error.response
    status = getattr(response, "status_code", getattr(response, "status", 0))
    body = getattr(response, "data", None)
    code = body.get("error") if isinstance(body, Mapping) else None
    return _refusal(
        status if isinstance(status, int) else 0, code, getattr(response, "headers", {})
    )


def _webhook_refusal(response: WebhookResponse) -> Outcome:
    return _refusal(response.status_code, response.body.strip(), response.headers)


def _refusal(status: int, code: object, headers: Mapping[str, object]) -> Outcome:
    known = isinstance(code, str) and _ERROR_CODE.fullmatch(code) is not None
    reason = str(code) if known else f"http {status}"
    passing = status == TOO_MANY_REQUESTS or status >= SERVER_ERRORS_FROM
    if passing or reason in RETRIED_ERRORS or not known:
        return Outcome(Verdict.RETRY, reason, retry_after_s=_retry_after_s(headers))
    return Outcome(Verdict.FAILED, reason)


def _retry_after_s(headers: Mapping[str, object]) -> float | None:
    """The pause in the Retry-After header, which Slack gives in whole seconds."""
    named = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    asked = named.get("retry-after", "")
    return float(asked) if asked.isascii() and asked.isdigit() else None


async def _refuse_redirect(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    params: aiohttp.TraceRequestRedirectParams,
) -> None:
    del session, context, params
    raise RedirectRefused
