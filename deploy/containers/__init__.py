"""What only the container deployment needs: secret files, database roles, a health probe."""
