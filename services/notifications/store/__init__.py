"""The SQL of notifications, by what it is about.

Locks in this order: reference version → alerts → delivery threads.
"""
