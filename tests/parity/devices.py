"""Whether samebitd can compute on a GPU here, and on which."""
import functools
import subprocess

import daemon
import models

NUMERICS = "torch-cpu/avx512_bf16"
EMULATED = "emulated"  # the name of the GPU that a build with CUDA=emulated has


@functools.cache
def gpu():
    """Its name; None where there is none, or the build lacks CUDA."""
    folder, _ = models.find("tiny-qwen2")
    if not folder:
        return None
    # No machine has so many: a build with CUDA and a device says so, another one says what it lacks.
    said = subprocess.run([daemon.BINARY, "--model", folder, "--listen", "127.0.0.1:0", "--device", "cuda:9999"],
                          cwd=daemon.ROOT, capture_output=True, text=True).stderr
    if "built without CUDA" in said or "CUDA does not start" in said:
        return None
    if "there is no cuda:9999" not in said:  # nothing may be skipped for that
        raise daemon.Trouble(f"{daemon.BINARY} does not start: {said.strip()}")
    with daemon.Daemon(folder, NUMERICS, 0, device="cuda:0") as server:
        return server.json("/v1/model")["host"].split(" + ")[-1]  # the CPU stands before it
