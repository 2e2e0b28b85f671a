"""Ingest: verifies what CRMs and people send, makes facts of it, keeps every delivery."""
