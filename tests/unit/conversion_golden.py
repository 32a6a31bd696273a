"""Prints the two digests in test_weights.c: SHA-256 of PyTorch's bfloat16 of every float16 (in order
of their bits) and of 2^20 float32 (the seeded ones of conversion_source() there)."""
import hashlib
import warnings

import numpy as np
import torch

MASK = (1 << 64) - 1


def splitmix64(state, count):
    out = np.empty(count, dtype=np.uint64)
    for i in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        out[i] = z ^ z >> 31
    return out


def floats(count):
    """Every third has a tie or its neighbours in the low half, every seventh an extreme exponent."""
    z = splitmix64(1, count)
    bits = (z & 0xFFFFFFFF).astype(np.uint32)
    at = np.arange(count)
    near = (0x7FFF + (z >> np.uint64(32)) % np.uint64(3)).astype(np.uint32)
    bits = np.where(at % 3 == 0, bits & np.uint32(0xFFFF0000) | near, bits)
    bits = np.where(at % 14 == 0, bits & np.uint32(0x807FFFFF), bits)
    return np.where(at % 14 == 7, bits | np.uint32(0x7F800000), bits).astype(np.uint32)


def digest(tensor):
    return hashlib.sha256(tensor.to(torch.bfloat16).view(torch.int16).numpy().tobytes()).hexdigest()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    halves = np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.int16)
    print("f16", digest(torch.from_numpy(halves).view(torch.float16)))
    print("f32", digest(torch.from_numpy(floats(1 << 20).view(np.int32)).view(torch.float32)))
