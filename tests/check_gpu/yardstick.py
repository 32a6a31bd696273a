"""What is compared with: which PyTorch and transformers, and whether both sides call the same cuBLAS.

    yardstick.py [--cpu]      prints the folders of the CUDA libraries that this Python's PyTorch has mapped,
                              joined by ':'; ends with 1 where there is no PyTorch for CUDA
                              (--cpu: any PyTorch will do, and no folder)

torch-cuda's bits are those of the very file of cuBLAS that PyTorch has loaded: samebitd is given that one,
and one of the rows here says whether it took it.
"""
import importlib.metadata
import os
import re
import subprocess
import sys
import time

# Other releases have the same launches or other ones; these are known: all cuBLAS calls of 2.11.0 are 2.13.0's, and so
# are its means and softmaxes.  Up to 2.9 a mean has another order.
TORCH = ("2.11.0", "2.13.0")
TRANSFORMERS = ("5.17", "5.18")
TORCH_CUDA = "13.0"
LIBRARIES = ("libcublas", "libcublasLt", "libcudart")


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def promised(torch, torch_cuda, transformers):
    """Whether torch-cuda promises their bits."""
    return (torch.split("+")[0] in TORCH and torch_cuda == TORCH_CUDA
            and ".".join(transformers.split(".")[:2]) in TRANSFORMERS)


def mapped(pid):
    """{library: path of the file} of the CUDA libraries that a process has mapped."""
    found = {}
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            match = re.search(r" (/.*/(lib\w+)\.so[\d.]*)$", line)
            if match and match[2] in LIBRARIES:
                found[match[2]] = os.path.realpath(match[1])
    return found


def folders(libraries):
    return sorted({os.path.dirname(path) for path in libraries.values()})


def same_file(a, b):
    """Whether two paths are one file; copies of one are not, though their bits may be."""
    return bool(a and b) and os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


def library_row(library, theirs, ours):
    import report

    name = f"same {library} file as PyTorch"
    note = f"PyTorch {theirs or 'has none'}" + ("" if same_file(theirs, ours) else f"; samebitd {ours or 'has none'}")
    return report.row("yardstick", name, "equal" if same_file(theirs, ours) else "failed", note=note)


def facts():
    """Of the machine and of its Python."""
    import torch

    found = {"torch": torch.__version__, "torch_cuda": torch.version.cuda or "", "transformers": version("transformers"),
             "torch_cublas": version("nvidia-cublas"), "cpus": len(os.sched_getaffinity(0))}
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        found |= {"gpu": gpu.name, "multiprocessors": gpu.multi_processor_count, "memory_bytes": gpu.total_memory,
                  "capability": f"{gpu.major}.{gpu.minor}"}
    return found | {"driver": driver()}


def driver():
    """Its version; "" where nobody tells."""
    try:
        said = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True)
    except OSError:
        return ""
    return said.stdout.split("\n")[0].strip()


def yardstick(settings):
    """Facts first, as an object that is no row; then rows."""
    import report
    import torch

    found = facts()
    yield {"facts": found}
    known = promised(found["torch"], found["torch_cuda"], found["transformers"])
    what = f"PyTorch {found['torch']}, transformers {found['transformers']}"
    yield report.row("yardstick", "PyTorch is one whose bits are promised", "info",
                     note=what if known else f"{what}: torch-cuda's rows are information")
    if settings.emulated:
        return
    if not torch.version.cuda or not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} finds no GPU")
    x = torch.ones(8, 8, device="cuda", dtype=torch.bfloat16)
    (x @ x).sum().item()
    yield report.row("yardstick", "PyTorch computes on the GPU", "equal", note=found["gpu"])
    yield from daemon_rows()


def daemon_rows():
    import daemon
    import models
    import report

    folder, why = models.find("tiny-qwen2")
    if not folder:
        raise RuntimeError(why)
    started = time.monotonic()
    with daemon.Daemon(folder, "torch-cuda", 0, device="cuda:0") as server:
        yield report.row("yardstick", "samebitd starts on the GPU", "equal", note=f"{time.monotonic() - started:.1f} s")
        server.json("/v1/generate", {"tokens": [1, 2], "max_tokens": 1})
        ours = mapped(server.process.pid)
    theirs = mapped("self")
    for library in LIBRARIES:
        yield library_row(library, theirs.get(library), ours.get(library))


def main(arguments):
    try:
        import safetensors  # noqa: F401
        import torch
        import transformers  # noqa: F401
    except ImportError as e:
        return f"{sys.executable}: {e}"
    if arguments != ["--cpu"]:
        if not torch.version.cuda:
            return f"{sys.executable}: torch {torch.__version__} is not built for CUDA"
        print(":".join(folders(mapped("self"))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
