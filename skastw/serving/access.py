"""Access: only the page itself may send requests, under a name or address of this machine.

A page of another site can send requests to an address of this machine. With a domain name that resolves to this
machine (DNS rebinding) it could also read the answers. The headers ``Origin`` and ``Host`` reveal both.
"""

import base64
import hashlib
import ipaddress
import re
import socket
from collections.abc import Mapping

#: Addresses that mean all addresses of a machine.
_ALL = ("", "0.0.0.0", "::")
#: A name, an IPv4 address, or an IPv6 address in brackets; and a port.
_HOST = re.compile(r"([^:@/?#\[\]]+|\[[^\]]+\])(?::\d*)?")


def is_local(host: str) -> bool:
    """Return whether only programs on this machine can reach an address.

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
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def is_trusted(header: str, host: str) -> bool:
    """Return whether the header ``Host`` of a request is a name or an address of this server.

    Parameters
    ----------
    header : str
        With or without a port, which is ignored because ports can be forwarded.
    host : str
        Name or IP address that is served. ``localhost`` and the loopback addresses are always trusted. For all
        addresses of the machine (``0.0.0.0``), the machine's own name and any IP address are trusted too: an attack
        needs a domain name.

    Examples
    --------
    >>> from skastw.serving.access import is_trusted
    >>> [is_trusted(header, "10.0.0.7") for header in ("localhost:80", "[::1]", "10.0.0.7", "10.0.0.8", "evil.example")]
    [True, True, True, False, False]
    >>> is_trusted("10.0.0.8:7860", "0.0.0.0")
    True
    """
    match = _HOST.fullmatch(header.lower())
    name = match[1].strip("[]") if match else ""
    address = _address(name)
    if address is not None:
        return address.is_loopback or host in _ALL or address == _address(host)
    own = socket.gethostname().lower()
    return name in ("localhost", *((own, f"{own}.local") if host in _ALL else (host.lower(),)))


def is_own_page(headers: Mapping[str, str]) -> bool:
    """Return whether a request comes from the page or from a program other than a browser, not from another site.

    Parameters
    ----------
    headers : mapping
        Headers of the request, with names in lower case.

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
    """Return the headers of every answer: a browser runs only the script of the page, and connects only to this server.

    Parameters
    ----------
    page : str
        HTML with one script and one style sheet, which are allowed by their hashes.
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


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that a text is, or None."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
