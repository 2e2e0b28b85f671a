"""HTTP as every service speaks it: problems, paging, idempotency, tokens, limits, the server."""
