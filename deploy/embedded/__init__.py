"""The whole of Attain on one machine without containers: PostgreSQL, Kafka and the services.

`python -m deploy.embedded up | down | status | env` is the command line;
`deploy.embedded.stack.running_stack` is the same for Python.
"""
