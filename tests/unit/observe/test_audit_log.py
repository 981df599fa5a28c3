"""The writer of the chain: restarts, power cuts, rotation, a full queue, a reader that stopped."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_server.observe import audit_log, log_file, logs
from edge_server.observe.audit import read
from edge_server.observe.audit_file import Output, Tail
from edge_server.observe.audit_log import AuditLog
from edge_server.observe.audit_verify import Finding, Line, Verifier
from edge_server.shm.reports import Reports


@pytest.fixture
def reports() -> Iterator[Reports]:
    made = Reports()
    yield made
    made.leave(is_worker=False, is_sidecar=False)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(
        audit_log, "log", lambda event, level="info", **fields: told.append({"level": level, **fields})
    )
    monkeypatch.setattr(audit_log, "_RETRY_S", 0.0)
    return told


class Chain:
    """A file, and who writes to it."""

    def __init__(self, path: Path, reports: Reports) -> None:
        self.path = path
        self.reports = reports
        self.counted: Counter[str] = Counter()

    def writer(self) -> AuditLog:
        return AuditLog(str(self.path), self.reports, "live", lambda kind: self.counted.update([kind]))

    def records(self, *before: Path) -> list[dict[str, Any]]:
        text = b"".join(path.read_bytes() for path in (*before, self.path) if path.exists())
        return [json.loads(line) for line in text.splitlines() if read(line) is not None]

    def findings(self, *before: Path) -> list[Finding]:
        return list(Verifier().findings(self._lines((*before, self.path))))

    def _lines(self, paths: tuple[Path, ...]) -> Iterator[Line]:
        for path in paths:
            for number, data in enumerate(path.read_bytes().splitlines(keepends=True), 1):
                yield Line(str(path), number, data.removesuffix(b"\n"), data.endswith(b"\n"))


@pytest.fixture
def chain(tmp_path: Path, reports: Reports) -> Chain:
    return Chain(tmp_path / "audit.log", reports)


def kinds(records: list[dict[str, Any]]) -> list[str]:
    return [record["kind"] for record in records]


def test_records_are_chained_counted_and_told_apart(chain: Chain) -> None:
    writer = chain.writer()
    writer.add("fill", origin_host="a.example", hash="0" * 64, size=3, corr_id="c-1")
    writer.add("reject", reason="busy", status=429, count=20)
    writer.close()
    records = chain.records()
    assert kinds(records) == ["begin", "fill", "reject"]
    assert (records[1]["origin_host"], records[1]["size"], records[1]["mode"]) == ("a.example", 3, "live")
    assert (records[2]["reason"], records[2]["count"]) == ("busy", 20)
    assert chain.findings() == []
    assert chain.counted == {"begin": 1, "fill": 1, "reject": 1}
    assert os.stat(chain.path).st_mode & 0o137 == 0


def test_a_chain_goes_on_over_restarts(chain: Chain) -> None:
    for number in range(3):
        chain.reports = Reports()
        writer = chain.writer()
        writer.add("fill", corr_id=f"c-{number}")
        writer.close()
    assert kinds(chain.records()) == ["begin", "fill", "resume", "fill", "resume", "fill"]
    assert chain.findings() == []


def test_every_place_where_a_power_cut_can_cut_is_healed_and_told(chain: Chain, quiet: list[Any]) -> None:
    writer = chain.writer()
    for number in range(2):
        writer.add("fill", corr_id=f"c-{number}")
    writer.close()
    whole = chain.path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in (*range(last, len(whole), 7), len(whole) - 2, len(whole) - 1):
        chain.path.write_bytes(whole[:cut])
        quiet.clear()
        writer = chain.writer()
        writer.add("fill", corr_id="after")
        writer.close()
        findings = chain.findings()
        is_torn = last < cut < len(whole) - 1
        assert not [finding for finding in findings if finding.is_error], cut
        assert len(findings) == is_torn == len(quiet)
        assert kinds(chain.records())[-2:] == ["resume", "fill"]
        assert chain.records()[-1]["corr_id"] == "after"


@pytest.mark.parametrize("left", [b'{"ts":', b"\x00" * 4096, b"garbage\nof blocks\n"], ids=range(3))
def test_what_is_no_record_at_the_end_is_left_and_told_of(chain: Chain, left: bytes) -> None:
    writer = chain.writer()
    writer.add("fill")
    writer.close()
    with chain.path.open("ab") as file:
        file.write(left)
    chain.writer().close()
    assert left in chain.path.read_bytes()
    (note,) = chain.findings()
    assert not note.is_error
    assert "torn" in note.text


def test_after_a_rotation_the_chain_goes_on_in_the_new_file(chain: Chain, tmp_path: Path) -> None:
    writer = chain.writer()
    writer.add("fill", corr_id="old")
    writer.advance()
    moved = tmp_path / "audit.log.1"
    chain.path.rename(moved)
    writer.add("fill", corr_id="between")
    writer.advance()
    assert not chain.path.exists()
    log_file.turn()
    writer.add("fill", corr_id="new")
    writer.advance()
    log_file.turn()  # nothing was moved
    writer.advance()
    writer.close()
    assert [record["corr_id"] for record in chain.records()] == ["", "new"]
    assert chain.records()[0]["reason"] == "rotated"
    assert chain.findings(moved) == []
    assert not [finding for finding in chain.findings() if finding.is_error]


def test_a_rotation_while_no_sidecar_is_there_loses_no_link(chain: Chain, tmp_path: Path) -> None:
    writer = chain.writer()
    writer.add("fill")
    writer.close()
    moved = tmp_path / "audit.log.1"
    chain.path.rename(moved)
    writer = chain.writer()
    writer.add("fill")
    writer.close()
    assert kinds(chain.records()) == ["resume", "fill"]
    assert chain.findings(moved) == []


def test_what_finds_no_room_is_counted_in_the_chain(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "QUEUE_MAX", 10)
    writer = chain.writer()
    for _ in range(15):
        writer.add("reject")
    writer.drop(4)
    writer.advance()
    writer.add("reject")
    writer.close()
    records = chain.records()
    assert kinds(records) == ["begin", *["reject"] * 10, "dropped", "reject"]
    assert records[11]["count"] == 9
    assert [finding.is_error for finding in chain.findings()] == [False]


def test_a_full_disk_loses_no_record_and_mixes_none(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    room = 0
    write = os.write

    def put(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(28, "No space left on device")
        part = write(descriptor, data[:room])
        room -= part
        return part

    monkeypatch.setattr("edge_server.observe.log_sink.os.write", put)
    writer = chain.writer()
    for number in range(30):
        writer.add("reject", corr_id=f"c-{number}")
    while len(chain.records()) < 31:
        room = 333
        writer.advance()
    monkeypatch.undo()
    writer.close()
    assert [record["corr_id"] for record in chain.records()] == ["", *(f"c-{number}" for number in range(30))]
    assert chain.findings() == []


def test_two_instances_never_write_to_one_file(chain: Chain, quiet: list[Any]) -> None:
    first, second = chain.writer(), chain.writer()
    first.advance()
    second.add("fill")
    second.advance()
    second.advance()
    assert [told["level"] for told in quiet] == ["error"]
    assert "another process" in quiet[0]["reason"]
    first.close()
    second.advance()
    second.close()
    assert kinds(chain.records()) == ["begin", "resume", "fill"]
    assert chain.findings() == []


def test_a_file_that_is_something_else_is_left_alone(chain: Chain, quiet: list[Any]) -> None:
    chain.path.write_text("a log\nof something else\n")
    writer = chain.writer()
    writer.add("fill")
    writer.close()
    assert chain.path.read_text() == "a log\nof something else\n"
    assert "no audit record" in quiet[0]["reason"]


def test_on_a_pipe_the_chain_goes_on_after_the_process_that_wrote_it(reports: Reports) -> None:
    reader, pipe = os.pipe()

    def writer() -> AuditLog:
        def standard() -> Output:
            return Output(pipe, Tail(None, b""), is_file=False)

        return AuditLog("stdout", reports, "live", lambda kind: None, standard)

    first = writer()
    for number in range(40):
        first.add("reject", corr_id=f"c-{number}")
    first.close()
    second = writer()
    second.add("fill")
    second.close()
    lines = os.read(reader, 1 << 16).splitlines()
    assert len(lines) == 1 + 40 + 2
    assert list(Verifier().findings(Line("pipe", number, line) for number, line in enumerate(lines, 1))) == []
    assert json.loads(lines[41])["kind"] == "resume"
    os.close(reader)
    os.close(pipe)


def test_a_reader_that_stopped_loses_no_link(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "QUEUE_MAX", 50)
    reader, pipe = os.pipe()
    writer = AuditLog(
        "stdout", reports, "live", lambda kind: None, lambda: Output(pipe, Tail(None, b""), is_file=False)
    )
    for number in range(1000):
        writer.add("reject", corr_id=f"c-{number}")
        writer.advance()
    received = b""
    os.set_blocking(reader, False)
    while True:
        try:
            received += os.read(reader, 1 << 16)
        except BlockingIOError:
            if writer._output is not None and writer._output.is_settled and not writer._queue:
                break
        writer.advance()
    writer.close()
    records = [json.loads(line) for line in received.splitlines()]
    told = sum(record["count"] for record in records if record["kind"] in ("reject", "dropped"))
    assert told == 1000
    lines = (Line("pipe", number, line) for number, line in enumerate(received.splitlines(), 1))
    assert not [finding for finding in Verifier().findings(lines) if finding.is_error]
    os.close(reader)
    os.close(pipe)


def test_the_time_of_a_record_is_that_of_what_it_tells_of(chain: Chain) -> None:
    writer = chain.writer()
    writer.add("reject", ts="2026-01-01T00:00:00.000Z")
    writer.close()
    assert chain.records()[1]["ts"] == "2026-01-01T00:00:00.000Z"
    assert chain.records()[0]["ts"][:13] == logs.timestamp()[:13]
