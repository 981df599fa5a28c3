from __future__ import annotations

from pathlib import Path

import pytest

from edge_server.sidecar.authorization import Authorization, NotAllowed, Sender

LOCAL = Sender("127.0.0.1", None, "127.0.0.1:9909", None, is_forwarded=False)


@pytest.mark.parametrize(
    ("sender", "is_loopback_socket"),
    [
        pytest.param(LOCAL, False, id="curl on this machine"),
        pytest.param(LOCAL._replace(peer="127.8.9.10"), False, id="another loopback address"),
        pytest.param(LOCAL._replace(host="localhost:9909"), False, id="localhost by name"),
        pytest.param(LOCAL._replace(host="LOCALHOST"), False, id="localhost in capitals"),
        pytest.param(LOCAL._replace(origin="http://127.0.0.1:9909"), False, id="the status page itself"),
        pytest.param(LOCAL._replace(fetch_site="same-origin"), False, id="a page of this origin"),
        pytest.param(LOCAL._replace(fetch_site="none"), False, id="a person at a browser"),
        pytest.param(LOCAL._replace(peer="0.0.0.0", host="[::1]:9909"), True, id="IPv6 loopback socket"),
    ],
)
def test_programs_on_this_machine_may_act_without_a_token(sender: Sender, is_loopback_socket: bool) -> None:
    Authorization(None, is_loopback_socket).check(sender)


@pytest.mark.parametrize(
    "sender",
    [
        pytest.param(LOCAL._replace(peer="10.0.0.8"), id="another machine"),
        pytest.param(LOCAL._replace(peer="0.0.0.0"), id="an IPv6 peer of an open socket"),
        pytest.param(LOCAL._replace(peer=""), id="unknown peer"),
        pytest.param(LOCAL._replace(is_forwarded=True), id="through a proxy"),
        pytest.param(LOCAL._replace(origin="https://evil.example"), id="a page elsewhere"),
        pytest.param(LOCAL._replace(origin="null"), id="a sandboxed page"),
        pytest.param(LOCAL._replace(fetch_site="cross-site"), id="a browser for another site"),
        pytest.param(LOCAL._replace(fetch_site="same-site"), id="a browser for another port"),
        pytest.param(
            LOCAL._replace(host="evil.example:9909", origin="http://evil.example:9909"), id="a rebound name"
        ),
        pytest.param(LOCAL._replace(host="127.0.0.1.evil.example"), id="a name like an address"),
        pytest.param(LOCAL._replace(host=None), id="no Host"),
        pytest.param(LOCAL._replace(peer="10.0.0.8", authorization="Bearer x"), id="another with some token"),
    ],
)
def test_everybody_else_is_refused_without_a_token_file(sender: Sender) -> None:
    with pytest.raises(NotAllowed) as refusal:
        Authorization(None, is_loopback=False).check(sender)
    assert (refusal.value.status, refusal.value.reason) == (403, "not_allowed")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    return path


@pytest.mark.parametrize("value", ["Bearer s3cret", "bearer s3cret", "Bearer  s3cret"])
def test_the_token_opens_from_anywhere(token_file: Path, value: str) -> None:
    sender = Sender("203.0.113.9", value, "edge.example", None, is_forwarded=True)
    Authorization(str(token_file), is_loopback=False).check(sender)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic s3cret",
        "s3cret",
        "Bearer s3cret2",
        "Bearer \u0141",
    ],
    ids=repr,
)
def test_without_the_right_token_even_this_machine_is_refused(token_file: Path, value: str | None) -> None:
    with pytest.raises(NotAllowed) as refusal:
        Authorization(str(token_file), is_loopback=True).check(LOCAL._replace(authorization=value))
    assert refusal.value.headers == (("WWW-Authenticate", "Bearer"),)


@pytest.mark.parametrize("content", [None, b"", b"\n  \n"], ids=["missing", "empty", "blank"])
def test_a_token_file_without_a_token_lets_nobody_in(token_file: Path, content: bytes | None) -> None:
    if content is None:
        token_file.unlink()
    else:
        token_file.write_bytes(content)
    with pytest.raises(NotAllowed):
        Authorization(str(token_file), is_loopback=True).check(LOCAL._replace(authorization="Bearer "))


def test_a_rotated_token_counts_at_once(token_file: Path) -> None:
    rule = Authorization(str(token_file), is_loopback=True)
    token_file.write_text("n3xt")
    rule.check(LOCAL._replace(authorization="Bearer n3xt"))
    with pytest.raises(NotAllowed):
        rule.check(LOCAL._replace(authorization="Bearer s3cret"))
