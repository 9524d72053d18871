"""Pictures from other machines, where the server's owner allows it: of public addresses, and not large."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import socket
import ssl
import urllib.parse

from qwen_ref.errors import QwenRefError

SECONDS = 20
REDIRECTS = 3


def fetch(url: str, most: int) -> str:
    """A data: URI of what is there. Raises QwenRefError.

    The name is looked up once and the connection made to the address that was checked, so that it cannot
    become a private one in between.
    """
    for _ in range(REDIRECTS + 1):
        try:
            answer, data = _get(url, most)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise QwenRefError(f"{url:.200}: {error}") from None
        if answer.status in (301, 302, 303, 307, 308) and (to := answer.getheader("Location")):
            url = urllib.parse.urljoin(url, to)
            continue
        if answer.status != 200:
            raise QwenRefError(f"{url:.200}: the server says {answer.status} {answer.reason}")
        kind = (answer.getheader("Content-Type") or "").partition(";")[0].strip().lower()
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"
    raise QwenRefError(f"{url:.200}: more than {REDIRECTS} redirections")


def _get(url: str, most: int) -> tuple[http.client.HTTPResponse, bytes]:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is no address of a web server")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    raw = socket.create_connection((public_address(parts.hostname, port), port), timeout=SECONDS)
    with raw:
        connection = http.client.HTTPConnection(parts.hostname, port, timeout=SECONDS)
        if parts.scheme == "https":
            connection.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=parts.hostname)
        else:
            connection.sock = raw
        path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection.request("GET", path, headers={"Accept": "image/*, video/*", "User-Agent": "qwen_ref"})
        answer = connection.getresponse()
        data = answer.read(most + 1)
        if len(data) > most:
            raise ValueError(f"is larger than {most:,} bytes")
        return answer, data


def public_address(host: str, port: int) -> str:
    """Raises ValueError if one of the host's addresses is not of the public network."""
    found = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    for address in found:
        if not ipaddress.ip_address(address.partition("%")[0]).is_global:
            raise ValueError(f"{address} is no public address")
    return min(found)
