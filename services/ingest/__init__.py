"""Ingest: verifies what CRMs and people send, translates it into facts, and keeps every delivery."""
