"""Fetching misses from origins: what may be fetched, what is believed, what may be kept."""
