"""Single operations through tests/kernels/ops_driver.c, on torch tensors."""
import subprocess

import numpy as np
import torch

DTYPES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.int64: "I64"}


class Driver:
    """A running ops_driver.  device: None is the CPU; prefix: a command that runs it."""

    def __init__(self, path, numerics, isa="best", threads=2, device=None, prefix=()):
        self.process = subprocess.Popen([*prefix, path, numerics, isa, str(threads), *([device] if device else [])],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, op, tensors, out_dtype, out_shape, past=0, tokens=1, hidden=0, eps=0.0, by=0.0, width=0,
            window=0, part=0):
        """tensors: (role, tensor) pairs.  Returns the output as a torch tensor."""
        write, read = self.process.stdin.write, self.process.stdout.read
        write(f"{op} {past} {tokens} {hidden} {eps!r} {by!r} {width} {window} {part} {len(tensors) + 1}\n".encode())
        for role, t in tensors:
            t = t.contiguous()
            write(f"{role} {DTYPES[t.dtype]} {t.dim()} {' '.join(map(str, t.shape))}\n".encode())
            raw = t.view(torch.int16) if t.dtype == torch.bfloat16 else t
            write(raw.numpy().tobytes())
        write(f"out {DTYPES[out_dtype]} {len(out_shape)} {' '.join(map(str, out_shape))}\n".encode())
        self.process.stdin.flush()
        size = int(np.prod(out_shape)) * out_dtype.itemsize
        raw = read(size)
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
