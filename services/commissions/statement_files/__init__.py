"""Statements as files for people: CSV, XLSX and PDF, all of one sheet, with the JSON's numbers.

The same statement gives the same bytes each time: no clock and no machine has a part in it.
"""
