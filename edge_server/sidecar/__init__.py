"""The sidecar: the admin plane and the aggregation of metrics."""
