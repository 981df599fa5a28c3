"""The report of a drill: a folder with what people read, what programs read, and the evidence.

    report.md    verdict, checks, figures of each phase, what was lost or wrong
    report.json  the same, and the latencies over time
    latency.svg  p50, p95 and p99 over time with the faults marked
    before.prom, after.prom   what the instance told Prometheus at both ends

Files are written whole or not at all. Nothing is judged here.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from edge_server import __version__
from edge_server.drill.chart import Series, Span, draw
from edge_server.drill.judge import Window
from edge_server.drill.percentiles import Bucket, timeline
from edge_server.drill.result import Done, Result

FILES = ("report.md", "report.json", "latency.svg", "before.prom", "after.prom")

_PARTICULARS = 20
_NOISY_S = 0.1  # a loop that is called so late did not get the processor
_BUCKETS = 240  # at most, so that a chart of an hour stays readable


def write(result: Result, folder: str) -> None:
    """Write all of `FILES` into `folder`, which is made.

    Raises:
        OSError: it cannot be written.
    """
    os.makedirs(folder, exist_ok=True)
    width_s = max(1.0, round(result.length_s / _BUCKETS))
    buckets = timeline(_samples(result), result.length_s, width_s)
    contents = {
        "report.md": markdown(result).encode(),
        "report.json": (json.dumps(document(result, buckets), indent=2) + "\n").encode(),
        "latency.svg": chart(result, buckets, width_s).encode(),
        "before.prom": result.before,
        "after.prom": result.after,
    }
    for name, data in contents.items():
        path = os.path.join(folder, name)
        with open(f"{path}.tmp", "wb") as file:
            file.write(data)
        os.replace(f"{path}.tmp", path)


def chart(result: Result, buckets: Sequence[Bucket], width_s: float) -> str:
    """Return the latencies over time as SVG."""
    names = ("p50", "p95", "p99")
    series = [Series(name, [_ms(getattr(bucket, f"{name}_s")) for bucket in buckets]) for name in names]
    spans = [
        Span(done.observed.name, done.began_s, done.cleared_s)
        for done in result.faults
        if not done.observed.skipped
    ]
    title = f"Latency during the drill, {width_s:g} s a point"
    return draw(title, series, spans, width_s, [bucket.lost for bucket in buckets])


def document(result: Result, buckets: Sequence[Bucket]) -> dict[str, Any]:
    """Return what ``report.json`` holds: seconds, bytes and shares as in the names."""
    settings, journal, origin_s = result.settings, result.journal, result.origin_s
    return {
        "passed": result.passed,
        "started": _when(result),
        "length_s": round(result.length_s, 3),
        "drill_version": __version__,
        "instance": {key: result.status.get(key) for key in ("version", "mode", "generation", "slots")},
        "machine": machine(),
        "client_late_s": round(result.late_s, 6),
        "load": {
            "connections": settings.connections,
            "rate": settings.rate,
            "objects": len(result.objects),
            "requests": len(journal),
            "bytes_in": journal.bytes_in,
        },
        "limits": asdict(settings.limits),
        "baseline": result.baseline._asdict(),
        "faults": [_fault(done) for done in result.faults],
        "checks": [check._asdict() for check in result.checks],
        "lost": journal.lost_count,
        "wrong": journal.wrong_count,
        "losses": [
            {
                **loss._asdict(),
                "began_s": loss.began_s - result.origin_s,
                "ended_s": loss.ended_s - result.origin_s,
            }
            for loss in journal.losses[:_PARTICULARS]
        ],
        "wrong_answers": [
            wrong._replace(at_s=wrong.at_s - origin_s)._asdict() for wrong in journal.wrong[:_PARTICULARS]
        ],
        "timeline": [bucket._asdict() for bucket in buckets],
    }


def markdown(result: Result) -> str:
    """Return what ``report.md`` holds."""
    return "\n".join(
        [*_head(result), *_checks(result), *_figures(result), *_particulars(result), *_conditions(result)]
    )


def machine() -> str:
    """Return one line on what the figures belong to."""
    cpus = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f"{cpus} CPUs, {platform.system()} {platform.release()} {platform.machine()}, "
        f"{platform.python_implementation()} {platform.python_version()}, load {load:.2f}"
    )


def _head(result: Result) -> Iterator[str]:
    journal = result.journal
    yield f"# Chaos drill: {'passed' if result.passed else 'FAILED'}"
    yield ""
    failed = [check for check in result.checks if not check.passed]
    for check in failed:
        yield f"- **{check.phase or 'whole run'}: {check.what}**: {check.seen}, allowed: {check.allowed}"
    if failed:
        yield ""
    yield (
        f"{_when(result)}, {result.length_s:.0f} s, {len(journal):,} requests, "
        f"{journal.bytes_in >> 20:,} MiB; {journal.wrong_count} wrong, {journal.lost_count} lost."
    )
    yield ""
    yield "![latency over time](latency.svg)"


def _checks(result: Result) -> Iterator[str]:
    yield "\n## Checks\n"
    yield "| phase | check | seen | allowed | |"
    yield "| --- | --- | --- | --- | --- |"
    for check in result.checks:
        mark = "ok" if check.passed else "**FAILED**"
        phase = check.phase or "whole run"
        yield f"| {phase} | {check.what} | {_cell(check.seen)} | {check.allowed} | {mark} |"
    for done in result.faults:
        if done.observed.skipped:
            yield f"| {done.observed.name} | skipped | {_cell(done.observed.skipped)} | | |"


def _figures(result: Result) -> Iterator[str]:
    yield "\n## Figures\n"
    yield "Latencies are counted from when a request was due, so waiting for a stalled process is in them.\n"
    heads = "at s | requests | p50 ms | p95 ms | p99 ms | most ms | lost | rejected | 5xx | back ms"
    yield f"| span | {heads} |"
    yield "| --- " + "| ---: " * (1 + heads.count("|")) + "|"
    yield _row("baseline", 0.0, result.baseline, result.baseline.lost)
    for done in result.faults:
        name, lost = done.observed.name, done.observed.explained + done.observed.unexplained
        if done.during.requests:
            yield _row(f"{name}, while it lasted", done.began_s, done.during, lost)
        if not done.observed.skipped:
            later = 0 if done.during.requests else lost
            yield _row(f"{name}, recovery", done.cleared_s, done.after, later, done.observed.replaced_s)


def _row(name: str, at_s: float, window: Window, lost: int, replaced_s: float | None = None) -> str:
    latencies = " | ".join(map(_figure, (window.p50_s, window.p95_s, window.p99_s, window.max_s)))
    return (
        f"| {name} | {at_s:.1f} | {window.requests:,} | {latencies} | {lost} | {window.rejected} "
        f"| {window.server_errors} | {_figure(replaced_s)} |"
    )


def _particulars(result: Result) -> Iterator[str]:
    journal = result.journal
    if journal.wrong:
        yield f"\n## Wrong answers (the first {_PARTICULARS} of {journal.wrong_count})\n"
        for wrong in journal.wrong[:_PARTICULARS]:
            yield f"- {wrong.at_s - result.origin_s:.3f} s, `{wrong.path}`: {_cell(wrong.what)}"
    if journal.losses:
        yield f"\n## Lost requests (the first {_PARTICULARS} of {journal.lost_count})\n"
        for loss in journal.losses[:_PARTICULARS]:
            way = ", through the proxy" if loss.is_proxied else ""
            began_s, took_ms = loss.began_s - result.origin_s, (loss.ended_s - loss.began_s) * 1000
            yield f"- {began_s:.3f} s, after {took_ms:.1f} ms{way}: {_cell(loss.error)}"


def _conditions(result: Result) -> Iterator[str]:
    settings = result.settings
    yield "\n## Conditions\n"
    status = result.status
    yield f"- instance: svc-edge {status.get('version')}, {status.get('slots')} workers"
    objects = len(result.objects)
    yield f"- load: {settings.connections} connections, {settings.rate:g} requests/s over {objects} objects"
    yield f"- machine: {machine()}; the drill itself was late by {result.late_s * 1000:.1f} ms at most"
    limits = settings.limits
    yield (
        f"- p95 may be {limits.p95_margin:.0%} above the baseline, or {limits.p95_floor_s * 1000:g} ms, "
        "whichever is more: on a machine whose"
    )
    yield "  load generator shares its cores with the server, less than that is the scheduler's noise"
    if result.late_s > _NOISY_S:
        yield "- **the machine was busy with something else: latencies of this run say little**"
    yield ""


def _fault(done: Done) -> dict[str, Any]:
    told = asdict(done.observed)
    told["after"] = done.observed.after._asdict()
    told["bystanders"] = done.observed.bystanders._asdict() if done.observed.bystanders else None
    spans = {"during": done.during._asdict(), "recovery": done.after._asdict()}
    return {**told, "began_s": done.began_s, "cleared_s": done.cleared_s, "stop_s": done.stop_s, **spans}


def _samples(result: Result) -> Iterator[tuple[float, float | None]]:
    for row in result.journal.rows():
        yield row.due_s - result.origin_s, row.latency_s if row.status else None


def _when(result: Result) -> str:
    return datetime.fromtimestamp(result.started_s, timezone.utc).isoformat(timespec="seconds")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _figure(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:,.1f}"


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
