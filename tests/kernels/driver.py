"""Single operations through tests/kernels/ops_driver.c, on torch tensors."""
import subprocess

import numpy as np
import torch

DTYPES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.int64: "I64"}


def request(op, tensors, out_dtype, out_shape, past=0, tokens=1, padding=0, eps=0.0, by=0.0, width=0, window=0, part=0,
            row=0, pairs=0, table=0, apply=0, before=0, count=0, pieces=0):
    """What the driver reads, as pieces of bytes.  tensors: (role, tensor) pairs."""
    yield (f"{op} {past} {tokens} {padding} {eps!r} {by!r} {width} {window} {part} {row} {pairs} {table} {apply} "
           f"{before} {count} {pieces} {len(tensors) + 1}\n").encode()
    for role, t in tensors:
        t = t.contiguous()
        yield f"{role} {DTYPES[t.dtype]} {t.dim()} {' '.join(map(str, t.shape))}\n".encode()
        raw = t.view(torch.int16) if t.dtype == torch.bfloat16 else t
        yield raw.numpy().tobytes()
    yield f"out {DTYPES[out_dtype]} {len(out_shape)} {' '.join(map(str, out_shape))}\n".encode()


class Driver:
    """A running ops_driver.  device: None is the CPU, which alone has isa and threads."""

    def __init__(self, path, numerics, isa="best", threads=2, device=None):
        self.process = subprocess.Popen([path, numerics, isa, str(threads), *([device] if device else [])],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, op, tensors, out_dtype, out_shape, **attributes):
        """Returns the output as a torch tensor; see request."""
        for piece in request(op, tensors, out_dtype, out_shape, **attributes):
            self.process.stdin.write(piece)
        self.process.stdin.flush()
        size = int(np.prod(out_shape)) * out_dtype.itemsize
        raw = self.process.stdout.read(size)
        if len(raw) != size:
            raise RuntimeError(f"{op}: the driver ended early")
        return torch.frombuffer(bytearray(raw), dtype=out_dtype).reshape(out_shape)

    def close(self):
        """The exit status."""
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()


def differing(a, b):
    """Elements whose bits differ; any NaN equals any other."""
    kind = torch.int16 if a.dtype == torch.bfloat16 else torch.int32
    a, b = a.contiguous(), b.contiguous()
    return int(((a.view(kind) != b.view(kind)) & ~(a.isnan() & b.isnan())).sum())
