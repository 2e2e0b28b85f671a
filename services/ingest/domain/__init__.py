"""The pure part of ingest: reading events, checking facts, and what an adapter gives and gets."""
