"""Metrics, logs and readiness as every process reports them."""
