"""How a daemon is reached, as the program `samebit` reaches it: http://, https:// or unix:PATH, with what the environment says
of who asks: the token in $SAMEBIT_TOKEN or the first word of $SAMEBIT_TOKEN_FILE, and in $SAMEBIT_CA_FILE who vouches for a
certificate."""
import http.client
import os
import socket
import ssl
import urllib.parse
import urllib.request
from typing import Any

UNIX = "unix:"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: Any):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixHandler(urllib.request.HTTPHandler):
    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(lambda _host, timeout=None, **_: _UnixConnection(self._path, timeout), req)


def base_of(url: str) -> str:
    """What stands before the path of a request."""
    return "http://localhost" if url.startswith(UNIX) else url


def opener_of(url: str) -> urllib.request.OpenerDirector:
    """Loopback addresses and sockets are asked without $http_proxy, which would take the request to another machine."""
    host = urllib.parse.urlsplit(base_of(url)).hostname or ""
    here = host in ("localhost", "::1") or host.startswith("127.")
    handlers: list = [urllib.request.ProxyHandler({} if here else None)]
    if url.startswith(UNIX):
        handlers.append(_UnixHandler(url[len(UNIX):]))
    if os.environ.get("SAMEBIT_CA_FILE"):
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=os.environ["SAMEBIT_CA_FILE"])))
    return urllib.request.build_opener(*handlers)


def add_token(request: urllib.request.Request) -> None:
    """OSError or ValueError where the file that is named has none."""
    token, path = os.environ.get("SAMEBIT_TOKEN"), os.environ.get("SAMEBIT_TOKEN_FILE")
    if not token and path:
        with open(path, encoding="utf-8") as f:
            words = f.read().split()
        if not words:
            raise ValueError(f"$SAMEBIT_TOKEN_FILE: {path}: no token in it")
        token = words[0]
    if token:  # of this request alone: another server, to which it is sent on, gets none
        request.add_unredirected_header("Authorization", f"Bearer {token}")
