"""The next batch is polled and read while the one before it is in its transaction.

What is polled ahead is used only if every partition of it stands exactly where that transaction was
to leave it, under the same claim. Anything else (fenced, outcome unknown, stalled) drops it, and
positions are sought anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from shared.runtime.messages import Readout, add_readout

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.structs import ConsumerRecord

    from shared.runtime.positions import Claim

    Polled: TypeAlias = dict[TopicPartition, list[ConsumerRecord]]

POLL_TIMEOUT_MS = 100

RECORDS_A_BREATH = 100
"""Read between two looks at whatever else this process does."""


class NotFollowingError(Exception):
    """What was polled ahead does not follow on what was committed since: seek again."""


@dataclass(slots=True)
class _Under:
    """Under way. follows: the claims it was polled under, and where they are to stand by then."""

    polling: asyncio.Task[tuple[Polled, Readout | None]]
    follows: Mapping[TopicPartition, tuple[Claim, int]]


@dataclass(slots=True)
class Ahead:
    """Polls one consumer's batches, one of them ahead. read: as the consumer reads a batch."""

    batch_records: int
    read: Callable[[Polled], Readout]
    _under: _Under | None = None
    _readout: tuple[Polled, Readout] | None = None

    def begin(
        self, consumer: AIOKafkaConsumer, claims: Mapping[TopicPartition, Claim], batch: Polled
    ) -> None:
        """Begin to poll what follows `batch`, unless that has begun already."""
        if self._under is not None:
            return
        follows = {
            tp: (claim, batch[tp][-1].offset + 1 if tp in batch else claim.next_offset)
            for tp, claim in claims.items()
        }

        async def poll() -> tuple[Polled, Readout | None]:
            polled = await self._getmany(consumer, list(follows))
            return polled, await self._read_by_parts(polled)

        self._under = _Under(asyncio.create_task(poll()), follows)

    async def poll(
        self,
        consumer: AIOKafkaConsumer,
        claims: Mapping[TopicPartition, Claim],
        ready: Sequence[TopicPartition],
    ) -> Polled:
        """The next records. Raises NotFollowingError, and what aiokafka raises."""
        self._readout = None
        under, self._under = self._under, None
        if under is None:
            return await self._getmany(consumer, ready)
        polled, readout = await under.polling
        for tp, (claim, position) in under.follows.items():
            if tp in polled and (claims.get(tp) is not claim or claim.next_offset != position):
                raise NotFollowingError
        room = self.batch_records - sum(map(len, polled.values()))
        if room > 0:
            # It was polled early: what came since goes with it.
            more = await self._getmany(consumer, ready, timeout_ms=0, max_records=room)
            polled = {
                tp: [*polled.get(tp, ()), *more.get(tp, ())]
                for tp in dict.fromkeys((*polled, *more))
            }
            late = await self._read_by_parts(more)
            if readout is None or late is None:
                return polled
            add_readout(readout, late)
        if readout is not None:
            self._readout = (polled, readout)
        return polled

    def readout_of(self, batch: Mapping[TopicPartition, list[ConsumerRecord]]) -> Readout | None:
        """What `batch` says, if it is all that was polled ahead and has been read."""
        return self._readout[1] if self._readout is not None and self._readout[0] == batch else None

    async def drop(self) -> None:
        """Give up what is under way."""
        under, self._under = self._under, None
        if under is not None:
            under.polling.cancel()
            await asyncio.wait({under.polling})
            if not under.polling.cancelled():
                under.polling.exception()

    async def _getmany(
        self,
        consumer: AIOKafkaConsumer,
        ready: Sequence[TopicPartition],
        *,
        timeout_ms: int = POLL_TIMEOUT_MS,
        max_records: int | None = None,
    ) -> Polled:
        polled: Polled = await consumer.getmany(
            *ready, timeout_ms=timeout_ms, max_records=max_records or self.batch_records
        )
        return polled

    async def _read_by_parts(self, batch: Polled) -> Readout | None:
        """Read, letting others go on in between; None where a reader fails."""
        readout: Readout = ([], [])
        try:
            for tp, records in batch.items():
                for first in range(0, len(records), RECORDS_A_BREATH):
                    part = records[first : first + RECORDS_A_BREATH]
                    add_readout(readout, self.read({tp: part}))
                    await asyncio.sleep(0)
        except Exception:  # noqa: BLE001 - it fails again where its record is isolated
            return None
        return readout
