"""`make demo`: a company's year, from CRM events over HTTP to KPIs, pay and alerts.

It starts a stack of its own in an empty folder, tells the services who the company is, sends them
a year of signed webhooks, and compares what comes out with an independent recomputation.
"""
