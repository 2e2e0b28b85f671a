"""HTTP: problems, tokens, paging, idempotency, the server."""
