"""svc-edge: an edge asset server on one pinned worker per core."""

__version__ = "0.1.0"
