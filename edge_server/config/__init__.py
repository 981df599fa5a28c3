"""Configuration: schema, loading, units. Knows no process."""
