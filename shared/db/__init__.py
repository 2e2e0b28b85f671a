"""PostgreSQL: pools with guards, roles and schemas, migrations, and the tables every service has."""
