"""Each matrix product of two models through PyTorch and through samebit: the bits, and the names of the kernels."""
import os
import shutil
import tempfile

import cases
import driver
import report
import torch
from launches import groups, kernel_names

ROWS = [1, 2, 37, 64, 128]
# model: (N, K, bias) of q, k and v, o, gate and up, down, lm_head
SHAPES = {
    "qwen2.5-0.5b": [(896, 896, True), (128, 896, True), (896, 896, False), (4864, 896, False), (896, 4864, False),
                     (151936, 896, False)],
    "smollm2-135m": [(576, 576, False), (192, 576, False), (1536, 576, False), (576, 1536, False), (49152, 576, False)],
}
LARGE = 8192  # more outputs: left out where our kernels' names are recorded, which is slow
NSYS_SECONDS = 30


def gemms():
    """(label, M, N, K, bias), q and o of one shape once."""
    for model, shapes in SHAPES.items():
        for N, K, bias in shapes:
            for M in ROWS:
                yield f"{model} [{M}, {K}] x [{N}, {K}]{' + bias' if bias else ''}", M, N, K, bias


class Random:
    """Random tensors made on PyTorch's device, which is quick; the same in every run."""

    def __init__(self, at):
        self.at, self.generator = at, torch.Generator(at).manual_seed(1)

    def __call__(self, *shape, scale=1.0):
        x = torch.randn(shape, generator=self.generator, device=self.at, dtype=torch.float32) * scale
        return x.to(torch.bfloat16)


def cuda_kernels(function):
    """What function() gives, and the kernels that PyTorch launched; "" where there is no profiler."""
    from torch.profiler import ProfilerActivity, profile

    try:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as p:
            result = function()
            torch.cuda.synchronize()
        return result, kernel_names(e.name for e in p.events() if e.device_type == torch.autograd.DeviceType.CUDA)
    except (RuntimeError, AssertionError):
        return function(), ""


def one(tally, normal, M, N, K, bias):
    """Compares one product in the tally; returns PyTorch's kernels."""
    x, w, b = normal(1, M, K), normal(N, K, scale=K ** -0.5), normal(N) if bias else None
    torch.nn.functional.linear(x, w, b)
    want, names = cuda_kernels(lambda: torch.nn.functional.linear(x, w, b))
    tensors = [("in", x[0].cpu()), ("weight", w.cpu())] + ([("bias", b.cpu())] if bias else [])
    tally.check("", want, "linear", tensors, [M, N], tokens=M)
    return names


def one_row(tally, normal, label, shape, ours, promised):
    before = tally.elements, tally.differing
    names = one(tally, normal, *shape)
    return report.compared("gemm", label, tally.differing - before[1], tally.elements - before[0],
                           f"PyTorch: {names}; samebit: {ours}", promised)


def gemm(settings):
    names, promised = our_kernels(settings), settings.promised()
    with torch.inference_mode():
        tally, normal = cases.Tally(settings), Random(settings.device)
        for label, *shape in gemms():
            yield one_row(tally, normal, label, shape, names.get(label, ""), promised)
        status = tally.driver.close()
    if status:
        raise RuntimeError(f"ops_driver ended with status {status}")


# ---- our kernels, where nsys is installed ----

def recorded(settings, folder, wanted):
    """The products once more, of zeros, under nsys; what it recorded, or ""."""
    requests, trace = os.path.join(folder, "requests"), os.path.join(folder, "trace")
    with open(requests, "wb") as file:
        for _, M, N, K, bias in wanted:
            zeros = [torch.zeros(s, dtype=torch.bfloat16) for s in ([M, K], [N, K], [N])]
            tensors = list(zip(("in", "weight", "bias"), zeros))[:3 if bias else 2]
            file.writelines(driver.request("linear", tensors, torch.bfloat16, [M, N], tokens=M))
    binary = os.path.join(settings.build, "tests/kernels/ops_driver")
    status, _, _ = report.run(["sh", "-c", 'exec nsys profile --trace=cuda --sample=none --cpuctxsw=none --output "$1" '
                               '"$2" torch-cuda best 1 cuda:0 <"$3" >/dev/null', "sh", trace, binary, requests], NSYS_SECONDS)
    if status != 0:
        return ""
    status, out, _ = report.run(["nsys", "stats", "--report", "cuda_gpu_trace", "--format", "csv", trace + ".nsys-rep"],
                                NSYS_SECONDS)
    return out if status == 0 else ""


def our_kernels(settings):
    """{label: names}; nothing where they cannot be told."""
    wanted = [g for g in gemms() if g[2] <= LARGE]
    if not shutil.which("nsys"):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        found = groups(recorded(settings, folder, wanted))
    return dict(zip((g[0] for g in wanted), found)) if len(found) == len(wanted) else {}
