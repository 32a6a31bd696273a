"""Values in files: .safetensors, .npz, .npy, .pt; bfloat16 stays bfloat16."""
import json
import os
import struct
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from samebit.arrays import BFLOAT16, FROM_NUMPY, TO_NUMPY, Arrays, to_arrays, to_numpy


def encode(values: Mapping[str, Any], metadata: Optional[Mapping[str, str]] = None) -> bytes:
    """A safetensors file."""
    header: Dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts, at = [], 0
    for name, x in to_arrays(values).items():
        x = np.ascontiguousarray(x.astype(x.dtype.newbyteorder("<"), copy=False)) if x.dtype != BFLOAT16 else np.ascontiguousarray(x)
        if x.dtype not in FROM_NUMPY:
            raise TypeError(f"{name}: {x.dtype} has no place in a safetensors file")
        header[name] = {"dtype": FROM_NUMPY[x.dtype], "shape": list(x.shape), "data_offsets": [at, at + x.nbytes]}
        parts.append(x.tobytes())
        at += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def decode(data: bytes) -> Tuple[Arrays, Dict[str, str]]:
    """The values of a safetensors file, and its metadata."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__", {})
    values = {}
    for name, e in header.items():
        begin, end = (8 + size + x for x in e["data_offsets"])
        values[name] = np.frombuffer(data, TO_NUMPY[e["dtype"]], offset=begin,
                                     count=(end - begin) // TO_NUMPY[e["dtype"]].itemsize).reshape(e["shape"])
    return values, metadata


def _flat(x: Any, name: str, out: Dict[str, Any]) -> None:
    """Nested dictionaries and lists, as torch.save keeps them, by dotted names."""
    if isinstance(x, Mapping):
        for key, value in x.items():
            _flat(value, f"{name}.{key}" if name else str(key), out)
    elif isinstance(x, (list, tuple)):
        for i, value in enumerate(x):
            _flat(value, f"{name}.{i}" if name else str(i), out)
    elif hasattr(x, "shape"):
        out[name or "value"] = x


def load(path: str) -> Arrays:
    """name -> array.  A .pt file is read with weights_only: it runs no code."""
    ending = os.path.splitext(path)[1]
    if ending == ".npz":
        with np.load(path) as z:
            found = {n: z[n] for n in z.files if not n.endswith(".json")}
    elif ending == ".npy":
        found = {os.path.basename(path)[:-4]: np.load(path)}
    elif ending in (".pt", ".pth", ".bin"):
        import torch
        nested: Dict[str, Any] = {}
        _flat(torch.load(path, map_location="cpu", weights_only=True), "", nested)
        found = to_arrays(nested)
    elif ending == ".safetensors":
        with open(path, "rb") as f:
            found = decode(f.read())[0]
    else:
        raise ValueError(f"{path}: .safetensors, .npz, .npy and .pt are read")
    return {n: x.view(BFLOAT16) if x.dtype == np.dtype("V2") else x for n, x in found.items()}


def save(path: str, values: Mapping[str, Any], metadata: Optional[Mapping[str, str]] = None) -> None:
    """By the ending of path: .safetensors, .npz, .npy or .pt; a file that was there is replaced once all is written."""
    stem, ending = os.path.splitext(path)
    unfinished = f"{stem}.{os.getpid()}.unfinished{ending}"
    try:
        _write(unfinished, path, ending, values, metadata)
        os.replace(unfinished, path)
    finally:
        if os.path.exists(unfinished):
            os.remove(unfinished)


def _write(to: str, path: str, ending: str, values: Mapping[str, Any], metadata: Optional[Mapping[str, str]]) -> None:
    if ending == ".npz":
        np.savez(to, **to_arrays(values))
    elif ending == ".npy":
        if len(values) != 1:
            raise ValueError(f"{path}: a .npy holds one array, not {len(values)}")
        np.save(to, to_numpy(next(iter(values.values()))))
    elif ending == ".pt":
        import torch
        torch.save({n: torch.from_numpy(x.view(np.uint16).copy()).view(torch.bfloat16) if x.dtype == BFLOAT16
                    else torch.from_numpy(np.ascontiguousarray(x)) for n, x in to_arrays(values).items()}, to)
    elif ending == ".safetensors":
        data = encode(values, metadata)
        with open(to, "wb") as f:
            f.write(data)
    else:
        raise ValueError(f"{path}: .safetensors, .npz, .npy and .pt are written")
