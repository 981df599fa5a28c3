"""Section 6 of the service contract as a table, to hold declarations and scrapes against."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONTRACT = _names("""
    http_requests_total{route,method,status} request_latency_seconds{route,method} fill_latency_seconds{host}
    inflight_requests{route} edge_inflight{endpoint} rejected_total{reason} busy_rejections_total{endpoint}
    edge_queue_depth{queue} edge_queue_dropped_total{queue} edge_cache_hits_total{kind,range}
    edge_cache_misses_total{cause} edge_range_requests_total{result} edge_live_fill_attempts_total{host}
    edge_live_fill_success_total{host} edge_fill_coalesced_total edge_parked{slot} edge_parks_total{result}
    backoff_retries_total{op} io_timeouts_total{op} edge_cas_writes_total{status} edge_cas_bytes{tier}
    edge_cas_evictions_total{tier} edge_bytes_out_total{route} edge_bytes_in_total{route}
    edge_connections{state} edge_slow_clients_total{kind} tls_handshake_failures_total
    audit_records_total{kind} service_restarts_total{component} edge_worker_up{slot}
    edge_worker_loop_lag_seconds{slot} edge_generation edge_ready
""")
# Of edge_build_info the contract leaves the labels open; the others are what operators expect besides.
BESIDES = _names("""
    edge_build_info{version,python,mode} edge_inflight_limit{endpoint} edge_readiness_gate{gate}
    edge_config_last_reload_successful edge_config_last_reload_success_timestamp_seconds
""")
# The values that the contract names.
VALUES = {
    "queue": {"accept", "fill"},
    "kind of hits": {"pack", "cas"},
    "cause": {"cold", "stale", "bypass"},
    "result of ranges": {"206", "416"},
    "op of timeouts": {"fill", "read", "write", "connect"},
    "status of writes": {"ok", "dedup", "error"},
}


def shown(name: str, labels: list[str]) -> str:
    """Return a metric as the table writes it."""
    return f"{name}{{{','.join(labels)}}}" if labels else name
