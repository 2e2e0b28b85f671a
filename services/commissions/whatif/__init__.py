"""What would be: other plans or reference data over past periods, and deals that do not exist."""
