"""Rules, dashboard and runbooks fit the catalogue of metrics, and one another.

That the rules fire when they should is shown by `make check-rules`, with Prometheus' own tool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from deploy.embedded.postgres import ADMIN
from deploy.embedded.services import ROOT, inlets, readers
from deploy.generated import FILES, outdated
from shared.telemetry.catalogue import CATALOGUE, DELIVERIES, Kind, Metric

PROMETHEUS = ROOT / "deploy" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "attain.json").read_text())
NAMES = [process.name for process in (*readers(), *inlets())]

FROM_SCRAPER = {"job", "instance"}
OF_PROMETHEUS = Metric("up", Kind.GAUGE, "Whether the last scrape worked.")
KNOWN = {metric.name: metric for metric in (*CATALOGUE, OF_PROMETHEUS)}
PARTS = ("_bucket", "_sum", "_count")

SECTIONS = ["What it means", "How to look", "What to do", "What not to do"]


@dataclass(frozen=True, slots=True)
class Rule:
    """An alert of the rule files, and the file."""

    file: str
    content: dict[str, Any]

    @property
    def alert(self) -> str:
        return str(self.content["alert"])


def rules() -> list[Rule]:
    return [
        Rule(path.stem, rule)
        for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


RULES = rules()
ALERTS = [rule.alert for rule in RULES]


def expressions() -> Iterator[tuple[str, str]]:
    """Every query that stands anywhere, with where it stands."""
    for rule in RULES:
        yield rule.alert, rule.content["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


QUERIES = list(expressions())


def metric_of(name: str) -> Metric:
    """The metric that a series of this name belongs to; fails for one that nobody measures."""
    if name in KNOWN:
        assert KNOWN[name].kind is not Kind.HISTOGRAM, f"{name} is queried as a plain number"
        return KNOWN[name]
    for part in PARTS:
        metric = KNOWN.get(name.removesuffix(part))
        if name.endswith(part) and metric is not None and metric.kind is Kind.HISTOGRAM:
            return metric
    pytest.fail(f"no metric of the catalogue is called {name}")


def labels_of(metric: Metric) -> set[str]:
    bucket = {"le"} if metric.kind is Kind.HISTOGRAM else set()
    return {*metric.labels, *FROM_SCRAPER, *bucket}


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(attain_\w+|up)\b", re.sub(r'"[^"]*"', '""', expression)))


@pytest.mark.parametrize(("place", "expression"), QUERIES, ids=[place for place, _ in QUERIES])
def test_queries_name_metrics_and_labels_that_exist(place: str, expression: str) -> None:
    assert names_in(expression), place
    everywhere = set.union(*(labels_of(metric_of(name)) for name in names_in(expression)))
    for labels in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression):
        assert {label.strip() for label in labels.split(",")} <= everywhere, place
    for name, selector in re.findall(r"\b(attain_\w+|up)\{([^}]*)\}", expression):
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", selector))
        assert used <= labels_of(metric_of(name)), place


@pytest.mark.parametrize(("place", "expression"), QUERIES, ids=[place for place, _ in QUERIES])
def test_counters_are_not_read_as_levels(place: str, expression: str) -> None:
    for name in names_in(expression):
        if metric_of(name).kind is Kind.COUNTER and "unless" not in expression:
            pattern = rf"(?:rate|increase)\(\s*{name}(?:\{{[^}}]*\}})?\["
            found = len(re.findall(pattern, expression))
            assert found == len(re.findall(rf"\b{name}\b", expression)), place


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {
        metric_of(name).name
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", [])
        for name in names_in(target["expr"])
    }
    assert shown == set(KNOWN)


def test_legends_name_labels_of_their_query() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            kept = {
                label.strip()
                for labels in re.findall(r"\bby\s*\(([^)]*)\)", target["expr"])
                for label in labels.split(",")
            }
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept


def test_alerts_are_named_once_and_say_how_bad() -> None:
    assert len(set(ALERTS)) == len(ALERTS)
    for rule in RULES:
        assert rule.alert.startswith("Attain")
        assert rule.content["labels"]["severity"] in {"page", "ticket"}
        annotations = rule.content["annotations"]
        assert annotations["summary"]
        assert annotations["runbook"] == f"docs/runbooks/{rule.alert}.md"


def test_money_that_disagrees_pages_at_once() -> None:
    drift = next(rule.content for rule in RULES if rule.alert == "AttainLedgerDrift")
    assert drift["labels"]["severity"] == "page"
    assert "for" not in drift
    assert drift["expr"].strip().endswith("> 0")


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_whole_runbook(alert: str) -> None:
    page = (RUNBOOKS / f"{alert}.md").read_text()
    assert page.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == SECTIONS
    for part in re.split(r"^## .+$", page, flags=re.MULTILINE)[1:]:
        assert part.strip()
    assert f"({alert}.md)" in (RUNBOOKS / "README.md").read_text()


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {*ALERTS, "README"}


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_runbooks_lead_somewhere(page: Any) -> None:  # noqa: ANN401 - pytest's parameter
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert (page.parent / link).exists(), link
    for name in set(re.findall(r"\battain_\w+", text)) - {ADMIN}:
        assert name in KNOWN or metric_of(name) in CATALOGUE


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tested_both_ways(alert: str) -> None:
    cases = [
        case
        for path in (PROMETHEUS / "tests").glob("*_test.yml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == alert
    ]
    assert any(case["exp_alerts"] for case in cases), "nothing shows that it fires"
    assert any(not case["exp_alerts"] for case in cases), "nothing shows that it stays quiet"


def test_every_process_is_scraped_under_its_name() -> None:
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    assert set(jobs) == set(NAMES)
    for name, job in jobs.items():
        (found,) = job["dns_sd_configs"]
        assert found["names"] == [name]
        assert found["port"] == 8080


def test_rules_know_the_processes() -> None:
    (pattern,) = {
        found
        for rule in RULES
        for found in re.findall(r'\bup\{job=~"([^"]+)"', rule.content["expr"])
    }
    assert [name for name in NAMES if not re.fullmatch(pattern, name)] == []
    for rule in RULES:
        for name in re.findall(r'job="([^"]+)"', rule.content["expr"]):
            assert name in NAMES


def test_a_delivery_that_proves_no_origin_counts_as_such() -> None:
    """Every code by which an adapter refuses an origin is one that the rule looks for."""
    source = "".join(
        path.read_text() for path in (ROOT / "services" / "ingest" / "adapters").glob("*.py")
    )
    codes = set(re.findall(r'NotAuthentic\(\s*"([\w-]+)"', source))
    assert "signature-invalid" in codes
    rule = next(rule.content for rule in RULES if rule.alert == "AttainSignatureFailures")
    (pattern,) = re.findall(r'cause=~"([^"]+)"', rule["expr"])
    assert [code for code in codes if not re.fullmatch(pattern, code)] == []
    rising = next(rule.content for rule in RULES if rule.alert == "AttainRejectsRising")
    assert set(re.findall(r'cause!~"([^"]+)"', rising["expr"])) == {pattern}


def test_outcomes_of_deliveries_are_the_catalogue_s() -> None:
    for place, expression in QUERIES:
        for outcome in re.findall(r'outcome!?="([^"]+)"', expression):
            assert outcome in DELIVERIES.meaning, place


def test_generated_files_are_up_to_date() -> None:
    assert outdated() == [], "run `make generated`"


def test_operations_name_every_published_port_and_secret() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    compose = (ROOT / "docker-compose.yml").read_text()
    for name in set(re.findall(r"\$\{(\w+):-", compose)):
        assert f"`{name}`" in page, f"docs/operations.md does not say what {name} is"
    for name in yaml.safe_load(compose)["secrets"]:
        assert f"`{name}`" in page, f"docs/operations.md does not say what {name} is"
    assert "docs/settings.md" in FILES
    assert "(settings.md)" in page
