"""Shared-memory structures, each with one writer. Knows bytes and generations only."""
