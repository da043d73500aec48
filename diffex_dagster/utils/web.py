"""Asking a service over HTTP: to the host that was named and no other, and past a proxy where it is this machine."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from diffex_dagster.errors import in_words
from diffex_dagster.utils.secrets import logger

_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_MOST_REDIRECTS = 5
_LOGGERS = ("httpx", "httpx2", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "openai")
for _name in _LOGGERS:
    logger(_name)  # these log addresses, and headers where somebody debugs


class SameHost:
    """Mixed into an httpx client: a redirect is followed where it stays on the host, with the body where it keeps the
    method; the answer that points elsewhere is returned as it is, so that pictures and keys go to nobody else.
    """

    def send(self, request: Any, **options: Any) -> Any:
        """See `httpx.Client.send`."""
        options["follow_redirects"] = False
        response = super().send(request, **options)  # type: ignore[misc]
        for _ in range(_MOST_REDIRECTS):
            following = response.next_request
            if following is None or following.method != request.method or not _same_host(request.url, following.url):
                break
            response.close()
            response = super().send(following, **options)  # type: ignore[misc]
        return response


def _same_host(ours: Any, theirs: Any) -> bool:
    if ours.host != theirs.host:
        return False
    if ours.scheme == theirs.scheme:
        return bool(ours.port == theirs.port)
    return (ours.scheme, theirs.scheme) == ("http", "https") and theirs.port in (None, 443) and ours.port in (None, 80)


def client(address: str, **options: Any) -> Any:
    """An `httpx.Client` for a service: see `SameHost` and `environment_counts`.

    Raises:
        Exception: the proxy that the environment names cannot be used; `unreachable` puts it into words.
    """
    import httpx

    class Client(SameHost, httpx.Client):
        """One host's."""

    return Client(trust_env=environment_counts(address), **options)


def environment_counts(address: str) -> bool:
    """Whether proxies of the environment are for an address: not for this machine's own."""
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def redirected_to(response: Any) -> str | None:
    """Where an answer that was not followed points, without what may be secret in the address."""
    location = response.headers.get("Location") if 300 <= response.status_code < 400 else None
    if not location:
        return None
    parts = urlsplit(str(response.url.join(location)))
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def unreachable(error: BaseException, address: str, environment: Mapping[str, str] | None = None) -> str:
    """Why a service cannot be reached, in its own words, and which proxy variables may be the reason."""
    words = in_words(error, 120)
    kind = type(error).__name__
    said = words if kind in words else f"{kind}: {words}"
    proxies = proxies_set(environment) if environment_counts(address) else []
    return f"{said}; through the proxy in {proxies[0]}" if proxies else said


def proxy_remedy(error: BaseException, environment: Mapping[str, str] | None = None) -> str | None:
    """What to do where the proxy of the environment is the reason; None where no proxy is set."""
    proxies = proxies_set(environment)
    if not proxies:
        return None
    if isinstance(error, ImportError):
        return f"pip install 'httpx[socks]', unset {proxies[0]}, or list the host in NO_PROXY"
    if isinstance(error, ValueError):
        return f"write {proxies[0]} as http://..., https://... or socks5://..., or unset it"
    return f"correct or unset {proxies[0]}, or list the host in NO_PROXY"


def proxies_set(environment: Mapping[str, str] | None = None) -> list[str]:
    """The environment variables that name a proxy, as they are spelled."""
    given = os.environ if environment is None else environment
    return [name for each in _PROXIES for name in (each, each.lower()) if given.get(name)]
