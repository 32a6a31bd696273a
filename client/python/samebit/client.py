"""A daemon, asked over HTTP.  Arrays come back as numpy's, bfloat16 as ml_dtypes'."""
import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from samebit.arrays import Arrays, to_numpy
from samebit.files import decode, encode, save
from samebit.reaching import add_token, base_of, opener_of

BINARY = "application/octet-stream"


class SamebitError(Exception):
    """What the daemon or the tool said; `status` is HTTP's, `param` the part of the request at fault."""

    def __init__(self, message: str, status: int = 0, param: Optional[str] = None):
        super().__init__(message)
        self.status, self.param = status, param


class Client:
    """One daemon, at http://, https:// or unix:PATH.  Requests take `prompt` (a text) or `tokens`, and the fields of the HTTP
    interface by their names: attention, steps, positions, padding, position_ids, batch, chunks, numerics, torch_threads."""

    def __init__(self, url: Optional[str] = None, timeout: float = 600):
        self.url = (url or os.environ.get("SAMEBIT_URL") or "http://127.0.0.1:8642").rstrip("/")
        self.timeout = timeout

    def _send(self, path: str, body: Optional[bytes] = None, kind: str = "application/json", accept: str = "application/json") -> bytes:
        request = urllib.request.Request(base_of(self.url) + path, body, {"Content-Type": kind, "Accept": accept})
        try:
            add_token(request)
            with opener_of(self.url).open(request, timeout=self.timeout) as reply:
                return reply.read()
        except urllib.error.HTTPError as e:
            try:
                said = json.loads(e.read())["error"]
            except (ValueError, KeyError):
                raise SamebitError(f"{self.url}{path}: {e}", e.code) from None
            raise SamebitError(said["message"], e.code, said.get("param")) from None
        except ValueError as e:
            raise SamebitError(str(e)) from None
        except (urllib.error.URLError, OSError) as e:
            raise SamebitError(f"cannot reach {self.url}: {getattr(e, 'reason', e)}") from None

    def _post(self, path: str, request: Mapping[str, Any]) -> Dict[str, Any]:
        return json.loads(self._send(path, json.dumps(request).encode()))

    def _arrays(self, path: str, request: Mapping[str, Any], given: Mapping[str, Any]) -> Tuple[Arrays, Dict[str, str]]:
        if given:
            body, kind = encode(given, {"request": json.dumps(request)}), BINARY
        else:
            body, kind = json.dumps(request).encode(), "application/json"
        return decode(self._send(path, body, kind, BINARY))

    @staticmethod
    def _request(prompt: Optional[str], tokens: Optional[Iterable[int]], fields: Mapping[str, Any]) -> Dict[str, Any]:
        request = {k: v for k, v in fields.items() if v is not None}
        if prompt is not None:
            request["prompt"] = prompt
        if tokens is not None:
            request["tokens"] = [int(t) for t in np.asarray(to_numpy(tokens)).reshape(-1)]
        return request

    def model(self) -> Dict[str, Any]:
        """The model, its config and the limits."""
        return json.loads(self._send("/v1/model"))

    def values(self, attention: Optional[str] = None, layer: Optional[int] = None, glob: Optional[str] = None) -> List[Dict[str, Any]]:
        """The catalogue: name, aliases, op, inputs, shape of each value."""
        query = urllib.parse.urlencode({k: v for k, v in (("attention", attention), ("layer", layer), ("glob", glob)) if v is not None})
        return json.loads(self._send("/v1/values" + ("?" + query if query else "")))["values"]

    def tokenize(self, text: str) -> List[int]:
        return self._post("/v1/tokenize", {"text": text})["tokens"]

    def trace(self, prompt: Optional[str] = None, tokens: Optional[Iterable[int]] = None, values: Sequence[str] = ("*",),
              replace: Optional[Mapping[str, Any]] = None, **fields: Any) -> Arrays:
        """Values of a run, by name, and `tokens`; `replace`: arrays to put in place of computed ones."""
        return self._arrays("/v1/trace", self._request(prompt, tokens, {"values": list(values), **fields}), replace or {})[0]

    def logits(self, prompt: Optional[str] = None, tokens: Optional[Iterable[int]] = None, **fields: Any) -> np.ndarray:
        """[rows, vocabulary]: of the last position, or of `positions`."""
        return self._arrays("/v1/logits", self._request(prompt, tokens, fields), {})[0]["logits"]

    def isolate(self, given: Mapping[str, Any], values: Optional[Sequence[str]] = None, tokens: Optional[Iterable[int]] = None,
                **fields: Any) -> Arrays:
        """What each step computes on another program's values, which go by this daemon's names and shapes; `tokens` may be among
        them.  numerics="ideal": in binary64; formulas: what steps compute instead."""
        given = dict(given)
        ids = given.pop("tokens", None)
        request = self._request(None, ids if tokens is None else tokens, {"values": list(values or given), **fields})
        return self._arrays("/v1/isolate", request, given)[0]

    def diagnose(self, dump: Mapping[str, Any], *arguments: str, program: Optional[str] = None) -> Dict[str, Any]:
        """`samebit diagnose` of a dump in whatever names and layouts: {"values": [...], "diagnosis": [{"value", "says", ...}]}.
        program: the tool; else $SAMEBIT, else the one on the PATH."""
        tool = program or os.environ.get("SAMEBIT") or shutil.which("samebit")
        if not tool:
            raise SamebitError("the program `samebit` is needed: give program=, or set SAMEBIT, or put it on the PATH")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "dump.safetensors")
            save(path, dump)
            done = subprocess.run([tool, "diagnose", path, self.url, "--json", *arguments], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise SamebitError(done.stderr.strip())
        return json.loads(done.stdout)
