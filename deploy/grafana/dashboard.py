"""What the dashboard shows: every metric of the catalogue, from money down to HTTP."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

COLUMNS = 24  # of Grafana's grid
WIDTH = 8
HEIGHT = 7
SOURCE = {"type": "prometheus", "uid": "attain"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph. queries: (PromQL, legend); unit: as Grafana calls it; red: from which value on."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    red: float | None = None


def _p99(metric: str, by: str) -> str:
    return f"histogram_quantile(0.99, sum by ({by}, le) (rate({metric}_bucket[5m])))"


def _mean(metric: str, by: str) -> str:
    return " / ".join(f"sum by ({by}) (rate({metric}_{part}[5m]))" for part in ("sum", "count"))


ROWS: dict[str, Sequence[Panel]] = {
    "Is anything wrong": (
        Panel("Processes that answer", [("sum by (job) (up)", "{{job}}")]),
        Panel(
            "Ledger: accounts that differ",
            [("max by (job) (attain_ledger_drift_accounts)", "{{job}}")],
            red=1,
        ),
        Panel(
            "Ledger: accounts compared",
            [("sum by (job) (rate(attain_ledger_accounts_checked_total[5m]))", "{{job}}")],
            "ops",
        ),
        Panel(
            "Ledger: present round of comparing",
            [("max by (job) (attain_ledger_round_ratio)", "{{job}}")],
            "percentunit",
        ),
        Panel(
            "Pay held: changes to decide about",
            [("max by (job) (attain_commissions_held_changes)", "{{job}}")],
            red=1,
        ),
        Panel(
            "Pay held: share of a period behind deletions",
            [("max by (job) (attain_commissions_held_deletions_share)", "{{job}}")],
            red=0.02,
        ),
        Panel(
            "Dead letters waiting",
            [("max by (job) (attain_dead_letters_waiting)", "{{job}}")],
            red=1,
        ),
        Panel(
            "Dead letters an hour",
            [
                (
                    "sum by (job, topic, cause) (increase(attain_dead_letters_total[1h]))",
                    "{{job}} {{topic}} {{cause}}",
                )
            ],
            red=1,
        ),
        Panel(
            "Partitions stalled",
            [("sum by (job, topic) (attain_partitions_stalled)", "{{job}} {{topic}}")],
            red=1,
        ),
    ),
    "In": (
        Panel(
            "Facts a second",
            [
                (
                    "sum by (job, topic) (rate(attain_facts_accepted_total[5m]))",
                    "{{job}} {{topic}}",
                )
            ],
            "ops",
        ),
        Panel(
            "Rejected an hour, by cause",
            [("sum by (cause) (increase(attain_facts_rejected_total[1h]))", "{{cause}}")],
        ),
        Panel(
            "From source to reader, p99",
            [(_p99("attain_freshness_seconds", "job, topic"), "{{job}} {{topic}}")],
            "s",
        ),
    ),
    "Through": (
        Panel(
            "Lag: age of what is applied",
            [("max by (job, topic) (attain_consumer_lag_seconds)", "{{job}} {{topic}}")],
            "s",
        ),
        Panel(
            "Lag: records waiting",
            [("max by (job, topic) (attain_consumer_lag_records)", "{{job}} {{topic}}")],
        ),
        Panel(
            "Batches: time, p99",
            [(_p99("attain_batch_seconds", "job, outcome"), "{{job}} {{outcome}}")],
            "s",
        ),
        Panel(
            "Batches: records, mean",
            [
                (
                    _mean("attain_batch_records", "job"),
                    "{{job}}",
                )
            ],
        ),
        Panel(
            "Fences in 10 minutes",
            [("sum by (job, topic) (increase(attain_fences_total[10m]))", "{{job}} {{topic}}")],
            red=20,
        ),
        Panel(
            "Waiting to be settled",
            [
                ("max by (job, root) (attain_marks_waiting)", "{{job}} {{root}} marked"),
                ("max by (job) (attain_sweep_roots_waiting)", "{{job}} to recalculate"),
            ],
        ),
    ),
    "Out": (
        Panel(
            "Events waiting for Kafka",
            [("max by (job) (attain_outbox_waiting)", "{{job}}")],
        ),
        Panel(
            "Events published a second",
            [
                (
                    "sum by (job, topic) (rate(attain_outbox_published_total[5m]))",
                    "{{job}} {{topic}}",
                )
            ],
            "ops",
        ),
        Panel(
            "Signals an hour",
            [
                (
                    "sum by (detector, change) (increase(attain_signals_total[1h]))",
                    "{{detector}} {{change}}",
                )
            ],
        ),
        Panel(
            "Messages an hour",
            [
                (
                    "sum by (channel, outcome) (increase(attain_deliveries_total[1h]))",
                    "{{channel}} {{outcome}}",
                )
            ],
        ),
    ),
    "HTTP": (
        Panel(
            "Requests a second",
            [("sum by (job, status) (rate(attain_http_requests_total[5m]))", "{{job}} {{status}}")],
            "reqps",
        ),
        Panel(
            "Time of an answer, p99",
            [(_p99("attain_http_request_seconds", "job, method, route"), "{{method}} {{route}}")],
            "s",
        ),
        Panel(
            "Requests at hand",
            [("sum by (job) (attain_http_requests_in_flight)", "{{job}}")],
        ),
    ),
}


def dashboard() -> str:
    """The dashboard as the JSON that Grafana reads."""
    panels: list[dict[str, object]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }
        )
        y += 1
        for number, panel in enumerate(row):
            line, column = divmod(number, COLUMNS // WIDTH)
            panels.append(_panel(panel, len(panels) + 1, column * WIDTH, y + line * HEIGHT))
        y += HEIGHT * -(-len(row) // (COLUMNS // WIDTH))
    content = {
        "uid": "attain",
        "title": "Attain",
        "tags": ["attain"],
        "timezone": "browser",
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": []},
        "annotations": {"list": []},
        "panels": panels,
    }
    return json.dumps(content, indent=1) + "\n"


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, object]:
    steps: list[dict[str, object]] = [{"color": "green", "value": None}]
    if panel.red is not None:
        steps.append({"color": "red", "value": panel.red})
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {
                    "fillOpacity": 10,
                    "thresholdsStyle": {"mode": "off" if panel.red is None else "line"},
                },
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.queries)
        ],
    }
