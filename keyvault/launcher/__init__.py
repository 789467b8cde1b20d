"""`./kv up`: embedded PostgreSQL and Valkey, and the supervisor over every process."""
