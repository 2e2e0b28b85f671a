"""How far a consumer has come: lag, batches, and whether it is catching up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.structs import ConsumerRecord

    from shared.runtime.messages import Readout
    from shared.telemetry.catalogue import Telemetry

LAG_INTERVAL_S = 5.0

CATCHING_UP_RECORDS = 2_500
"""A batch of so many was waiting: at 200 events/s a batch holds some tens."""

CATCHING_UP_S = 2.0


@dataclass(slots=True)
class Progress:
    """Tells telemetry what one consumer does. plain: a topic without the deployment's prefix."""

    telemetry: Telemetry
    topics: Sequence[str]
    plain: Callable[[str], str]
    _lag_seen_s: float = 0.0
    _great_batch_s: float = float("-inf")

    def catching_up(self) -> bool:
        """Whether great batches come one after another, so that what can wait had better wait."""
        return time.monotonic() - self._great_batch_s < CATCHING_UP_S

    async def watch_lag(
        self, consumer: AIOKafkaConsumer, positions: Mapping[TopicPartition, int]
    ) -> None:
        """How far these partitions are behind their logs, now and then."""
        if time.monotonic() - self._lag_seen_s < LAG_INTERVAL_S:
            return
        self._lag_seen_s = time.monotonic()
        behind = dict.fromkeys(self.topics, 0)
        ends = await consumer.end_offsets(list(positions))
        for tp, position in positions.items():
            behind[self.plain(tp.topic)] += max(0, ends[tp] - position)
        for topic, records in behind.items():
            self.telemetry.lag_records.labels(topic=topic).set(records)
            if not records:
                self.telemetry.lag_s.labels(topic=topic).set(0)

    def committed(
        self,
        batch: Mapping[TopicPartition, list[ConsumerRecord]],
        readout: Readout,
        elapsed_s: float,
    ) -> None:
        """A batch is committed, `elapsed_s` after it was begun."""
        messages, letters = readout
        size = sum(map(len, batch.values()))
        if size >= CATCHING_UP_RECORDS:
            self._great_batch_s = time.monotonic()
        self.telemetry.batch_records.observe(size)
        self.telemetry.batch_s.labels(outcome="committed").observe(elapsed_s)
        for topic, count in Counter(message.topic for message in messages).items():
            self.telemetry.facts_accepted.labels(topic=topic).inc(count)
        for letter in letters:
            self.telemetry.dead_letters.labels(topic=letter.topic, cause=letter.cause).inc()
        now_ms = time.time() * 1000
        for tp, records in batch.items():
            lag_s = max(0.0, (now_ms - records[-1].timestamp) / 1000)
            self.telemetry.lag_s.labels(topic=self.plain(tp.topic)).set(lag_s)
