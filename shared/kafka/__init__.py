"""Kafka: clients with every setting that matters stated, and the topics."""
