"""PostgreSQL: guarded pools, roles and schemas, migrations, and tables that every service has."""
