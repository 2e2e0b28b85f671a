"""What metrics knows without any I/O: contributions, KPI formulas and detectors."""
