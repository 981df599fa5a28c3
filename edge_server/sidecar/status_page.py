"""The status page: what a person sees at ``/`` of the admin plane.

One self-contained document; its script asks for it again every two seconds and shows the
difference. Every value is escaped. The Content-Security-Policy names the script and the
style by hash and allows nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape

from edge_server.config.units import spoken_duration, spoken_size
from edge_server.sidecar.status import Status

MEDIA_TYPE = "text/html; charset=utf-8"

_STYLE = """
:root{color-scheme:light dark;--ok:#1a7f37;--bad:#cf222e;--line:#8884;--dim:#888}
@media(prefers-color-scheme:dark){:root{--ok:#3fb950;--bad:#f85149}}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}
h1{font-size:1.4rem;display:flex;gap:.8rem;align-items:center;flex-wrap:wrap}
h2{font-size:1.05rem;margin:1.8rem 0 .4rem}
b.ok,b.bad{color:#fff;background:var(--ok);border-radius:1rem;padding:.05rem .8rem;font-size:.95rem}
b.bad{background:var(--bad)}
p{margin:.3rem 0}
small,th{color:var(--dim);font-weight:normal}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{border-bottom:1px solid var(--line);padding:.25rem .6rem .25rem 0;text-align:right}
td:first-child,th:first-child,td.t,th.t{text-align:left}
div.wide{overflow-x:auto}
main.lost{opacity:.4}
"""

# Rates are differences between two documents; totals are in data-n.
_SCRIPT = """
let before=0,then=0;
const total=m=>+m.querySelector('[data-n]').dataset.n;
setInterval(async()=>{
  const main=document.querySelector('main');
  try{
    const text=await(await fetch('/',{cache:'no-store'})).text();
    const next=new DOMParser().parseFromString(text,'text/html').querySelector('main');
    const now=performance.now(),n=total(next);
    if(then&&n>=before)next.querySelector('[data-n]').textContent=
      Math.round((n-before)*1000/(now-then)).toLocaleString()+' requests/s';
    before=n;then=now;
    main.replaceWith(next);
  }catch(e){main.className='lost'}
},2000);
"""

_WORKER_HEADS = "slot,state,pid,CPU,requests,in flight,sent,loop lag,beat,memory (PSS)"
_PACK_HEADS = "name,kind,entries,tiles,zooms,size"


def _source_hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; script-src 'sha256-{_source_hash(_SCRIPT)}'; "
    f"style-src 'sha256-{_source_hash(_STYLE)}'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def render(status: Status) -> bytes:
    """Return the page for what `StatusReader.read` returned."""
    document = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>svc-edge</title><style>{_STYLE}</style></head>"
        f"<body>{_main(status)}<script>{_SCRIPT}</script></body></html>\n"
    )
    return document.encode()


def _main(status: Status) -> str:
    missing = [name for name, holds in status["gates"].items() if not holds]
    badge = '<b class="bad">not ready</b>' if missing else '<b class="ok">ready</b>'
    requests = sum(worker["requests"] for worker in status["workers"])
    addresses = status["addresses"]
    return (
        f"<main><h1>svc-edge {badge} <small>{escape(status['version'])}, {escape(status['mode'])}, "
        f"generation {status['generation']}, up {spoken_duration(status['uptime_s'])}</small></h1>"
        f"{_line('Missing', ', '.join(missing))}{_line('State', _state(status))}"
        f"{_line('Last reload', _last_reload(status['last_reload']))}"
        f"<p>Assets on {escape(addresses['assets'])}, admin on {escape(addresses['admin'])}. "
        f'<span data-n="{requests}">{requests:,} requests</span>. '
        '<a href="/metrics">metrics</a> · <a href="/api/status">status as JSON</a> · '
        '<a href="/readyz">readyz</a></p>'
        f"<h2>Workers</h2>{_table(_WORKER_HEADS, map(_process, status['workers']))}"
        f"<h2>Sidecar</h2>{_table(_WORKER_HEADS, map(_process, status['sidecars']))}"
        f"<h2>Packs</h2>{_table(_PACK_HEADS, map(_pack, status['packs']))}"
        f"{_line('Digests still to compute', str(status['digests_pending'] or ''))}</main>"
    )


def _state(status: Status) -> str:
    words = [word for word in ("draining", "stopping", "degraded") if status[word]]
    return ", ".join(words)


def _last_reload(told: Status) -> str:
    if told["running"]:
        return "running"
    if told["at"] is None:
        return ""
    return " ".join(filter(None, (told["result"], told["at"], told["reason"])))


def _line(name: str, text: str) -> str:
    return f"<p>{name}: <strong>{escape(text)}</strong></p>" if text else ""


def _process(process: Status) -> list[str]:
    cpu, slot = process["cpu"], process["slot"]
    return [
        process["identity"] if slot >= 0 else process["identity"].removeprefix("sidecar-"),
        process["state"],
        str(process["pid"]),
        "any" if cpu is None else str(cpu),
        f"{process['requests']:,}",
        str(process["inflight"]),
        spoken_size(process["bytes_out"]),
        f"{process['loop_lag_ms']:.1f} ms",
        f"{process['beat_age_ms']} ms ago",
        "" if process["pss_bytes"] is None else spoken_size(process["pss_bytes"]),
    ]


def _pack(pack: Status) -> list[str]:
    zooms = "" if pack["min_zoom"] is None else f"{pack['min_zoom']} to {pack['max_zoom']}"
    return [
        pack["name"] or "/",
        pack["kind"],
        f"{pack['entries']:,}",
        f"{pack['tiles']:,}",
        zooms,
        spoken_size(pack["bytes"]),
    ]


def _table(heads: str, rows: Iterable[list[str]]) -> str:
    head = _row("th", heads.split(","))
    body = "".join(_row("td", row) for row in rows)
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _row(tag: str, cells: list[str]) -> str:
    first, second, *others = (escape(cell) for cell in cells)
    told = "".join(f"<{tag}>{cell}</{tag}>" for cell in others)
    return f'<tr><{tag}>{first}</{tag}><{tag} class="t">{second}</{tag}>{told}</tr>'
