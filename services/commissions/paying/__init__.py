"""Pay runs, and what finance books."""
