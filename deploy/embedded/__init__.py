"""The whole of Attain on one machine without containers: PostgreSQL, Kafka and the services.

`python -m deploy.embedded up | down | status | env` is the command line; `Stack` is the same for Python.
"""
