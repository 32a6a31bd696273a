"""What a PyTorch computes where numerics differ: run by `samebitd --which-numerics --python PATH`.

    probe_torch.py linear:M:K:N softmax:T:L sdpa:T:L:H:D ...

Writes a line of JSON about the torch, then the bf16 results of each probe, as bytes in their order.  Inputs are those of
server/probe.c: a hash of the index and of a seed, as small bf16 numbers.
"""
import json
import sys


def numbers(torch, seed, *shape):
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.int64) + (seed << 20)
    h = (i * 2654435761) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 2246822519) & 0xFFFFFFFF
    h = h ^ (h >> 13)
    bits = (h & 0x807F) | (((h >> 16) & 3) + 124 << 7)
    return bits.to(torch.int16).view(torch.bfloat16).reshape(shape)


def compute(torch, kind, *n):
    """A large product and later its negative: what is left shows in which order a sum was taken."""
    if kind == "linear":
        x, w, last = numbers(torch, 1, n[0], n[1]), numbers(torch, 2, n[2], n[1]), n[1] - 6
        x[:, 3] *= 2**20
        x[:, last], w[:, last] = x[:, 3], -w[:, 3]
        return torch.nn.functional.linear(x, w)
    if kind == "softmax":
        x = numbers(torch, 1, n[0], n[1])
        return torch.nn.functional.softmax(x, dim=-1, dtype=torch.float32).to(x.dtype)
    q, k, v = (numbers(torch, seed, 1, n[2], rows, n[3]) for seed, rows in ((1, n[0]), (2, n[1]), (3, n[1])))
    last = n[1] - n[1] // 3 - 1
    v[:, :, 0] *= 2**16
    k[:, :, last], v[:, :, last] = k[:, :, 0], -v[:, :, 0]
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=n[0] > 1)
    return y.transpose(1, 2).contiguous()


def main():
    try:
        import torch
    except ImportError as e:
        print(json.dumps({"error": f"it has no torch: {e}"}))
        return
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(),
             "capability": torch.backends.cpu.get_cpu_capability()}
    with torch.inference_mode():
        results = [compute(torch, kind, *map(int, n)) for kind, *n in (a.split(":") for a in sys.argv[1:])]
    print(json.dumps(about), flush=True)
    for y in results:
        sys.stdout.buffer.write(bytes(y.view(torch.uint8).reshape(-1).tolist()))


main()
