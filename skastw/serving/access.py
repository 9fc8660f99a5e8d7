"""Who may ask: the page itself, under a name that belongs to this machine.

A page of another site can send requests to an address of this machine, and by a name of its own that leads here (DNS
rebinding) it could read the answers. Browsers tell both in headers.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = ["is_local", "is_own_page", "is_trusted_name", "security_headers"]

#: Addresses that stand for all of a machine.
_ALL = ("", "0.0.0.0", "::")


def is_local(host: str) -> bool:
    """Say whether only programs on this machine reach an address.

    Parameters
    ----------
    host : str
        Name or IP address.

    Examples
    --------
    >>> from skastw.serving.access import is_local
    >>> [is_local(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "192.168.1.7")]
    [True, True, True, False, False]
    """
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_trusted_name(header: str, host: str) -> bool:
    """Say whether the header ``Host`` of a request names the address that is served.

    Parameters
    ----------
    header : str
        With or without a port; which one does not matter, because ports can be forwarded.
    host : str
        Name or IP address that is served. For all addresses of the machine (``0.0.0.0``), any IP address and the
        machine's own name are right: a foreign name is what an attack needs.

    Examples
    --------
    >>> from skastw.serving.access import is_trusted_name
    >>> is_trusted_name("localhost:7860", "127.0.0.1"), is_trusted_name("evil.example", "127.0.0.1")
    (True, False)
    """
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if is_local(name) or name == host.lower():
        return True
    own = socket.gethostname().lower()
    return host in _ALL and (_is_address(name) or name in (own, f"{own}.local"))


def is_own_page(headers: Mapping[str, str]) -> bool:
    """Say whether a request comes from the page, or from a program that is no browser, and not from another site.

    Parameters
    ----------
    headers : mapping
        Of the request, by names in lower case.

    Examples
    --------
    >>> from skastw.serving.access import is_own_page
    >>> is_own_page({"host": "localhost:7860", "origin": "http://localhost:7860"})
    True
    >>> is_own_page({"host": "localhost:7860", "origin": "https://evil.example"})
    False
    """
    origin = headers.get("origin")
    return origin is None or origin.lower().partition("://")[2] == headers.get("host", "").lower()


def security_headers(page: str) -> dict[str, str]:
    """Return the headers of every answer: a browser runs what is in the page, and asks nobody but this server.

    Parameters
    ----------
    page : str
        HTML with one script and one style sheet in it, which are allowed by their hashes.
    """
    hashes = {tag: _hash(page, tag) for tag in ("script", "style")}
    policy = {
        "default-src": "'none'",
        "script-src": f"{hashes['script']} blob:",  # the part of the script that records is loaded as a blob
        "style-src": hashes["style"],
        "connect-src": "'self'",
        "media-src": "blob:",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        "Cache-Control": "no-store",
    }


def _hash(page: str, tag: str) -> str:
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
