"""Names of launched kernels, from a profiler's and from nsys' records."""
import csv
import io


def kernel_names(names):
    return ", ".join(n.split("(")[0] for n in names if not n.startswith(("Memcpy", "Memset", "[CUDA mem")))


def groups(text):
    """Names of the kernels of each request, from nsys' cuda_gpu_trace: a request ends with its output on the host."""
    text = text[text.find("Start (ns)"):]
    found, names = [], []
    for line in csv.DictReader(io.StringIO(text)):
        name = line.get("Name") or ""
        if "Device-to-Host" in name or "DtoH" in name:
            found.append(kernel_names(names))
            names = []
        else:
            names.append(name)
    return found
