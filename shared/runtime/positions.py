"""SQL of `consumer_offset`: who may go on from where in which partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool


@dataclass(slots=True)
class Claim:
    """A worker's right to one partition. next_offset: -1 where the group never was."""

    epoch: int
    next_offset: int


class Move(NamedTuple):
    """A partition's position, moved on from `start` to `end` under a claim. topic: no prefix."""

    topic: str
    partition: int
    epoch: int
    start: int
    end: int


async def claim_partitions(
    pool: Pool, group: str, places: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], Claim]:
    """Claim (topic, partition) for this worker: whoever had it before can move nothing more."""
    rows = await pool.fetch(
        """
        INSERT INTO consumer_offset (consumer_group, topic, partition, epoch, next_offset)
        SELECT $1, topic, partition, 1, -1
        FROM unnest($2::text[], $3::int[]) AS claimed(topic, partition)
        ORDER BY topic, partition
        ON CONFLICT (consumer_group, topic, partition)
        DO UPDATE SET epoch = consumer_offset.epoch + 1
        RETURNING topic, partition, epoch, next_offset
        """,
        group,
        [topic for topic, _ in places],
        [partition for _, partition in places],
    )
    return {
        (row["topic"], row["partition"]): Claim(row["epoch"], row["next_offset"]) for row in rows
    }


async def begin_partition(pool: Pool, group: str, topic: str, partition: int, claim: Claim) -> None:
    """Write a group's first position in a partition, the claim's, unless another has by now."""
    await pool.execute(
        "UPDATE consumer_offset SET next_offset = $5 WHERE consumer_group = $1 "
        "AND topic = $2 AND partition = $3 AND epoch = $4 AND next_offset = -1",
        group,
        topic,
        partition,
        claim.epoch,
        claim.next_offset,
    )


async def move_positions(tx: Connection, group: str, moves: Sequence[Move]) -> int:
    """Move every position that is where its claim left it; how many were."""
    moved = await tx.fetch(
        """
        WITH mine AS (
            SELECT o.ctid, m.ends FROM consumer_offset o
            JOIN unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[])
                 AS m(topic, partition, epoch, starts, ends)
              ON o.consumer_group = $1 AND o.topic = m.topic AND o.partition = m.partition
             AND o.epoch = m.epoch AND o.next_offset = m.starts
            ORDER BY o.topic, o.partition
            FOR UPDATE OF o
        )
        UPDATE consumer_offset o SET next_offset = mine.ends
        FROM mine WHERE o.ctid = mine.ctid
        RETURNING o.topic
        """,
        group,
        *map(list, zip(*moves, strict=True)),
    )
    return len(moved)
