"""The notifications service on real Kafka, PostgreSQL, SMTP and a Slack-like server."""
