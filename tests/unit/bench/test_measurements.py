import argparse

import pytest

from tests.bench.__main__ import measurements
from tests.bench.peers import PEERS

QUICK = argparse.Namespace(seed=1, quick=True, deals=None)
ALWAYS = [
    "metrics",
    "commissions",
    "growth-metrics",
    "growth-commissions",
    "recompute",
    "flow",
    "webhooks",
    "batch",
    "freshness",
    "estimate",
    "simulation",
    "reads",
    "memory",
]


def test_the_peer_is_measured_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PEERS, raising=False)
    assert list(measurements(QUICK)) == ALWAYS

    monkeypatch.setenv(PEERS, "1")
    assert list(measurements(QUICK)) == [*ALWAYS, "peers"]
