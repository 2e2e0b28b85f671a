"""The organisation: dated people and teams, its fiscal calendar, and who may see whose numbers."""
