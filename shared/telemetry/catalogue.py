"""Every metric of every service: name, type, meaning, labels. Nothing is measured elsewhere.

Labels are closed or small sets (a topic, a route, a cause). An id, a name or an amount is never
a label: it would leak, and each value would cost a time series for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from shared.telemetry.traces import NO_TRACES, Traces


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of the catalogue. `buckets` are upper bounds in the metric's unit."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


QUICK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Buckets for work that should take milliseconds, in seconds."""

FRESH_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86_400.0)
"""Buckets for the age of what a reader sees, in seconds."""

BATCH = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
"""Buckets for records in one batch."""

FACTS_ACCEPTED = Metric(
    "attain_facts_accepted_total",
    Kind.COUNTER,
    "Facts taken in and durable: acknowledged by Kafka or in the outbox (ingest), or folded "
    "and committed (consumers).",
    ("topic",),
)
FACTS_REJECTED = Metric(
    "attain_facts_rejected_total",
    Kind.COUNTER,
    "Facts or deliveries refused, by cause: a problem code, never free text.",
    ("cause",),
)
LAG = Metric(
    "attain_consumer_lag_seconds",
    Kind.GAUGE,
    "Age of the oldest record that is not yet committed; the worst partition of the topic.",
    ("topic",),
)
LAG_RECORDS = Metric(
    "attain_consumer_lag_records",
    Kind.GAUGE,
    "Records between the committed position and the end of the log, over all partitions.",
    ("topic",),
)
BATCH_RECORDS = Metric(
    "attain_batch_records",
    Kind.HISTOGRAM,
    "Records in one consumer transaction.",
    (),
    BATCH,
)
BATCH_TIME = Metric(
    "attain_batch_seconds",
    Kind.HISTOGRAM,
    "From the first statement of a consumer transaction to its commit.",
    ("outcome",),
    QUICK_S,
)
FENCES = Metric(
    "attain_fences_total",
    Kind.COUNTER,
    "Batches rolled back because another worker had claimed the partition.",
    ("topic",),
)
PARTITIONS_STALLED = Metric(
    "attain_partitions_stalled",
    Kind.GAUGE,
    "Partitions that stopped and wait for a person: many failures in a row, or a position "
    "outside the log.",
    ("topic",),
)
MARKS_WAITING = Metric(
    "attain_marks_waiting",
    Kind.GAUGE,
    "Marks on roots that wait to be settled, by the kind of root.",
    ("root",),
)
SWEEP_WAITING = Metric(
    "attain_sweep_roots_waiting",
    Kind.GAUGE,
    "Roots a change of reference data has not reached yet: shown to readers as recalculating.",
    (),
)
FRESHNESS = Metric(
    "attain_freshness_seconds",
    Kind.HISTOGRAM,
    "From the source's time of a fact to its effect being visible to readers.",
    ("topic",),
    FRESH_S,
)
LEDGER_DRIFT = Metric(
    "attain_ledger_drift_accounts",
    Kind.GAUGE,
    "Payee accounts whose ledger differs from a recomputation. Anything but 0 pages.",
    (),
)
LEDGER_CHECKED = Metric(
    "attain_ledger_accounts_checked_total",
    Kind.COUNTER,
    "Payee accounts compared with a recomputation.",
    (),
)
LEDGER_ROUND = Metric(
    "attain_ledger_round_ratio",
    Kind.GAUGE,
    "How much of the present round of that comparison is done: 1 when it has been all accounts.",
    (),
)
HELD_CHANGES = Metric(
    "attain_commissions_held_changes",
    Kind.GAUGE,
    "Changes of reference data and quotas that would move too much pay, held until a person "
    "releases or discards them. Anything but 0 pages.",
    (),
)
HELD_DELETIONS_SHARE = Metric(
    "attain_commissions_held_deletions_share",
    Kind.GAUGE,
    "Greatest share of a plan's pay in a closed period that deals deleted or merged since would "
    "take back, and nobody has decided about.",
    (),
)
DEAD_LETTERS = Metric(
    "attain_dead_letters_total",
    Kind.COUNTER,
    "Records put aside because they could not be read or handled, by cause.",
    ("topic", "cause"),
)
DEAD_LETTERS_WAITING = Metric(
    "attain_dead_letters_waiting",
    Kind.GAUGE,
    "Records put aside and neither redriven nor discarded.",
    (),
)
OUTBOX_WAITING = Metric(
    "attain_outbox_waiting",
    Kind.GAUGE,
    "Events committed and not yet published.",
    (),
)
OUTBOX_PUBLISHED = Metric(
    "attain_outbox_published_total",
    Kind.COUNTER,
    "Events the relay published.",
    ("topic",),
)
SIGNALS = Metric(
    "attain_signals_total",
    Kind.COUNTER,
    "Signals written by detectors: opened, changed, closed.",
    ("detector", "change"),
)
DELIVERIES = Metric(
    "attain_deliveries_total",
    Kind.COUNTER,
    "Messages to people or systems, by channel and outcome (sent, retried, gave_up).",
    ("channel", "outcome"),
)
HTTP_REQUESTS = Metric(
    "attain_http_requests_total",
    Kind.COUNTER,
    "HTTP requests answered, by route template.",
    ("method", "route", "status"),
)
HTTP_TIME = Metric(
    "attain_http_request_seconds",
    Kind.HISTOGRAM,
    "From the request's headers to the end of the response.",
    ("method", "route"),
    QUICK_S,
)
HTTP_IN_FLIGHT = Metric(
    "attain_http_requests_in_flight",
    Kind.GAUGE,
    "HTTP requests being answered now.",
    (),
)

CATALOGUE: tuple[Metric, ...] = (
    FACTS_ACCEPTED,
    FACTS_REJECTED,
    LAG,
    LAG_RECORDS,
    BATCH_RECORDS,
    BATCH_TIME,
    FENCES,
    PARTITIONS_STALLED,
    MARKS_WAITING,
    SWEEP_WAITING,
    FRESHNESS,
    LEDGER_DRIFT,
    LEDGER_CHECKED,
    LEDGER_ROUND,
    HELD_CHANGES,
    HELD_DELETIONS_SHARE,
    DEAD_LETTERS,
    DEAD_LETTERS_WAITING,
    OUTBOX_WAITING,
    OUTBOX_PUBLISHED,
    SIGNALS,
    DELIVERIES,
    HTTP_REQUESTS,
    HTTP_TIME,
    HTTP_IN_FLIGHT,
)


class Telemetry:
    """The metrics of one process, in a registry of its own, and its traces.

    Built in wiring and passed down; there is no global registry, so two services in one test
    process do not mix.
    """

    def __init__(self, service: str, traces: Traces = NO_TRACES) -> None:
        self.service = service
        self.traces = traces
        self.registry = CollectorRegistry(auto_describe=True)
        # `service` is a constant label of the whole process: added by the scraper's `job`.
        self.facts_accepted = self._counter(FACTS_ACCEPTED)
        self.facts_rejected = self._counter(FACTS_REJECTED)
        self.lag_s = self._gauge(LAG)
        self.lag_records = self._gauge(LAG_RECORDS)
        self.batch_records = self._histogram(BATCH_RECORDS)
        self.batch_s = self._histogram(BATCH_TIME)
        self.fences = self._counter(FENCES)
        self.partitions_stalled = self._gauge(PARTITIONS_STALLED)
        self.marks_waiting = self._gauge(MARKS_WAITING)
        self.sweep_waiting = self._gauge(SWEEP_WAITING)
        self.freshness_s = self._histogram(FRESHNESS)
        self.ledger_drift = self._gauge(LEDGER_DRIFT)
        self.ledger_checked = self._counter(LEDGER_CHECKED)
        self.ledger_round = self._gauge(LEDGER_ROUND)
        self.held_changes = self._gauge(HELD_CHANGES)
        self.held_deletions_share = self._gauge(HELD_DELETIONS_SHARE)
        self.dead_letters = self._counter(DEAD_LETTERS)
        self.dead_letters_waiting = self._gauge(DEAD_LETTERS_WAITING)
        self.outbox_waiting = self._gauge(OUTBOX_WAITING)
        self.outbox_published = self._counter(OUTBOX_PUBLISHED)
        self.signals = self._counter(SIGNALS)
        self.deliveries = self._counter(DELIVERIES)
        self.http_requests = self._counter(HTTP_REQUESTS)
        self.http_s = self._histogram(HTTP_TIME)
        self.http_in_flight = self._gauge(HTTP_IN_FLIGHT)

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)

    def _counter(self, metric: Metric) -> Counter:
        _expect(metric, Kind.COUNTER)
        return Counter(metric.name, metric.meaning, metric.labels, registry=self.registry)

    def _gauge(self, metric: Metric) -> Gauge:
        _expect(metric, Kind.GAUGE)
        return Gauge(metric.name, metric.meaning, metric.labels, registry=self.registry)

    def _histogram(self, metric: Metric) -> Histogram:
        _expect(metric, Kind.HISTOGRAM)
        return Histogram(
            metric.name,
            metric.meaning,
            metric.labels,
            buckets=metric.buckets,
            registry=self.registry,
        )


def as_markdown(metrics: Iterable[Metric] = CATALOGUE) -> str:
    """The catalogue as a table, for the documentation."""
    lines = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    lines.extend(
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.meaning} |"
        for metric in metrics
    )
    return "\n".join(lines) + "\n"


def _expect(metric: Metric, kind: Kind) -> None:
    if metric.kind is not kind:
        msg = f"{metric.name} is a {metric.kind}, not a {kind}"
        raise ValueError(msg)
