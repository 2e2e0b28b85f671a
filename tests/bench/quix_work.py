"""The same work, done with Quix Streams: exactly-once, its state in RocksDB with changelog topics.

Runs in an environment of its own, with nothing of Attain's but `same_work`:
`python -m tests.bench.quix_work <bootstrap> <topic> <work folder> <file> <whole|folds>` reads the
topic until nothing comes any more and writes what it came to as JSON. `folds` stops at the
differences and adds no cells.

State belongs to a message's key, so a deal's differences travel on by owner, one message an owner,
and each cell is a value in the state of its owner.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quixstreams import Application, State  # type: ignore[import-not-found] # not installed here

from tests.bench.same_work import FIELDS, Addends, addends, difference

COMMIT_EVERY = 5_000
"""Events in a transaction, as many as Attain's consumer takes."""

COMMIT_INTERVAL_S = 0.5
"""What is left at the end waits so long at most."""

IDLE_S = 6.0
JsonObject = dict[str, Any]


@dataclass(slots=True)
class Run:
    """What has been done so far. totals: each cell as its state holds it."""

    events: int = 0
    began: float = 0.0
    ended: float = 0.0
    totals: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)

    def differences(self, event: JsonObject, state: State) -> list[JsonObject]:
        """Fold an event into its deal; by how much the cells of each owner move."""
        now = time.monotonic()
        self.began, self.ended = self.began or now, now
        self.events += 1
        known = state.get("deal") or {"said": {}, "made": []}
        said: JsonObject = known["said"]
        if not _fold(said, event["sequence"], event["data"]):
            return []
        before: Addends = {(o, m, d): (cents, number) for o, m, d, cents, number in known["made"]}
        after = addends(said)
        moved = difference(before, after)
        known["made"] = [[*name, *value] for name, value in after.items()]
        state.set("deal", known)
        by_owner: dict[str, list[list[Any]]] = {}
        for (owner, measure, day), (cents, number) in moved.items():
            by_owner.setdefault(owner, []).append([measure, day, cents, number])
        return [{"owner": owner, "moved": cells} for owner, cells in by_owner.items()]

    def add(self, event: JsonObject, state: State) -> None:
        """Add the differences to the owner's cells."""
        for measure, day, cents, number in event["moved"]:
            name = f"{measure}/{day}"
            old = state.get(name) or [0, 0]
            new = [old[0] + cents, old[1] + number]
            state.set(name, new)
            self.totals[event["owner"], measure, day] = (new[0], new[1])
        self.ended = time.monotonic()


def _fold(said: JsonObject, sequence: str, stated: JsonObject) -> bool:
    """Keep the latest statement of each field; whether any is news."""
    news = False
    for name in FIELDS:
        if name in stated:
            known, value = said.get(name), stated[name]
            if known is None or _rank(sequence, value) > _rank(known[0], known[1]):
                said[name] = [sequence, value]
                news = True
    return news


def _rank(sequence: str, value: object) -> tuple[str, str]:
    return sequence, "" if value is None else json.dumps(value)


def main(bootstrap: str, topic: str, folder: str, path: Path, extent: str) -> None:
    """Do the work once."""
    run = Run()
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"{topic}-{extent}",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=COMMIT_EVERY,
        commit_interval=COMMIT_INTERVAL_S,
        state_dir=folder,
        loglevel="WARNING",
    )
    frame = app.dataframe(app.topic(topic, key_deserializer="str"))
    frame = frame.apply(run.differences, stateful=True, expand=True)
    if extent == "whole":
        frame = frame.group_by("owner").apply(run.add, stateful=True)
    app.run(timeout=IDLE_S)
    totals = [[*name, *value] for name, value in run.totals.items() if value != (0, 0)]
    answer = {"events": run.events, "elapsed_s": run.ended - run.began, "totals": totals}
    path.write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.argv[5])
