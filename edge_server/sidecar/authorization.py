"""Authorization: who may change something through the admin plane.

With a token file: whoever sends its token as RFC 6750 says. Without one: programs on this
machine, and not a web page that its browser happens to show (a page elsewhere can post to
a loopback address, and can make its own name resolve to one). What cannot be judged is refused.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import NamedTuple

from edge_server.errors import Rejection

_MAX_TOKEN_BYTES = 4096
# Fields by which a proxy says that the client is somewhere else (RFC 7239 and its forerunner).
FORWARDING_FIELDS = ("Forwarded", "X-Forwarded-For")


class NotAllowed(Rejection):
    """The sender may not do this."""

    status, reason = 403, "not_allowed"


class Sender(NamedTuple):
    """Who asks: the peer's address and the fields of the request that tell about it."""

    peer: str
    authorization: str | None
    host: str | None
    origin: str | None
    is_forwarded: bool
    fetch_site: str | None = None


class Authorization:
    """The rule of one instance.

    Args:
        token_file: path of a file with the token, read at each use so that it can be
            rotated; None leaves it to loopback peers.
        is_loopback: whether the admin plane listens on a loopback address only. bjoern
            shows IPv6 peers as 0.0.0.0, and on such a socket every peer is local.
    """

    def __init__(self, token_file: str | None, is_loopback: bool) -> None:
        self._token_file = token_file
        self._is_loopback = is_loopback

    def check(self, sender: Sender) -> None:
        """Return if `sender` may act.

        Raises:
            NotAllowed: otherwise; asks for a token where one would help.
        """
        if self._token_file is not None:
            self._check_token(self._token_file, sender.authorization)
        else:
            self._check_local(sender)

    def _check_token(self, path: str, authorization: str | None) -> None:
        expected = _read_token(path)
        scheme, _, given = (authorization or "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), expected)
        if scheme.lower() != "bearer" or not is_right:
            raise NotAllowed("wrong or no token", (("WWW-Authenticate", "Bearer"),))

    def _check_local(self, sender: Sender) -> None:
        if sender.is_forwarded or not (self._is_loopback or is_loopback(sender.peer)):
            raise NotAllowed("not a loopback peer; set admin.token_file to allow others")
        if sender.origin is not None and sender.origin != f"http://{sender.host}":
            raise NotAllowed("sent by a web page of another origin")
        # Fetch Metadata section 2.4: what a browser says of whoever made it ask; `none` is the person.
        if sender.fetch_site not in (None, "same-origin", "none"):
            raise NotAllowed("sent by a browser for another site")
        if not _names_this_machine(sender.host):
            raise NotAllowed("the Host field does not name this machine")


def is_loopback(address: str) -> bool:
    """Whether an IP address in text is one of this machine's loopback addresses."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _names_this_machine(host: str | None) -> bool:
    """Whether a Host field is ``localhost`` or an address, which no name server can redirect."""
    if host is None:
        return False
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower() == "localhost"
    return True


def _read_token(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            token = file.read(_MAX_TOKEN_BYTES).strip()
    except OSError as error:
        raise NotAllowed(f"admin.token_file cannot be read: {error.strerror}") from error
    if not token:
        raise NotAllowed("admin.token_file is empty")
    return token
