"""The incremental core: fold facts into records, mark the roots they touch, settle the difference.

`fact`, `record` and `deal` are pure. `store`, `marks` and `settle` are its shell on PostgreSQL, one
implementation for every service that projects. docs/architecture.md tells the whole idea.
"""
