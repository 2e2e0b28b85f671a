"""What runs: the consumer, the relay, the outbox, dead letters, ticks, failpoints, lifecycle."""
