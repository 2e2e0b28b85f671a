"""Plans: files, versions, what the linter is told, and edits that wait for a second person."""
