"""tests/kernels/remove_barriers.py: what it finds and removes, and a kernel of which one is missed."""
import importlib.util
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(ROOT, "tests", "kernels", "remove_barriers.py")
SPEC = importlib.util.spec_from_file_location("remove_barriers", SCRIPT)
barriers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(barriers)

KERNEL = '''#include "kernels/cuda/device.cuh"

/* A __syncthreads() that is none. */
static __device__ float sum(float x)
{
    for (int by = 16; by; by /= 2)
        x = __fadd_rn(x, __shfl_xor_sync(0xffffffffu, f(x, by), by));
    return x;
}

static __global__ void __launch_bounds__(64) turn(int *out)
{
    __shared__ int tile[64];

    tile[threadIdx.x] = (int)threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = tile[63 - threadIdx.x];
    __syncthreads(); // __syncthreads() again
    if (__ballot_sync(0xffffffffu, threadIdx.x < 3))
        __syncwarp(0xffffffffu);
}

template <int N>
static __global__ void __launch_bounds__(32 * N, N == 1 ? 2 : 1)
    wait_long(struct matmul p)
{
    __syncthreads();
}
'''

MAKEFILE = '''build/emulated/tests/kernels/test_cuda_turn: kernels/cuda/turn.cu tests/kernels/test_cuda_turn.cu
\t@mkdir -p $(@D)
\tg++ -std=c++17 -I{root}/tests/emulated/cuda/include -I{root} -I. -x c++ $^ -x none {objects} -lpthread -o $@
'''

TURN = '''#include "kernels/cuda/device.cuh"

static __global__ void turn(int *out)
{
    __shared__ int tile[64];

    tile[threadIdx.x] = (int)threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = tile[63 - threadIdx.x];
    __syncthreads();
}

void turn_all(int *out)
{
    LAUNCH(turn, dim3(1), dim3(64), 0, (cudaStream_t)0, out);
}
'''

TEST = '''#include "kernels/cuda/device.cuh"

void turn_all(int *out);

int main()
{
    int *out, host[64], wrong = 0;

    cudaMalloc(&out, sizeof(host));
    turn_all(out);
    cudaMemcpy(host, out, sizeof(host), cudaMemcpyDefault);
    for (int i = 0; i < 64; i++)
        wrong += host[i] != 63 - i;
    printf("%s\\n", wrong ? "FAILED" : "fine");
    return wrong > 0;
}
'''


def test_sites():
    sites = barriers.sites_of("k.cu", KERNEL)
    assert [barriers.row(s) for s in sites] == [
        "k.cu sum __shfl_xor_sync 1", "k.cu turn __syncthreads 1", "k.cu turn __syncthreads 2",
        "k.cu turn __ballot_sync 1", "k.cu turn __syncwarp 1",
        "k.cu wait_long __syncthreads 1"]
    assert [s.instead for s in sites] == ["(f(x, by))", "((void)0)", "((void)0)", "((threadIdx.x < 3) != 0)",
                                          "((void)0)", "((void)0)"]
    assert [KERNEL[s.start:s.end] for s in sites][3:5] == ["__ballot_sync(0xffffffffu, threadIdx.x < 3)",
                                                          "__syncwarp(0xffffffffu)"]
    assert [s.line for s in sites] == [7, 16, 18, 19, 20, 27]


def test_judgement():
    site = barriers.sites_of("k.cu", KERNEL)[0]
    listed = {barriers.row(site): "why"}
    assert barriers.judge(site, "test, reverse", {})[0]
    assert not barriers.judge(site, "test, reverse", listed)[0]
    assert barriers.judge(site, None, listed)[0]
    assert not barriers.judge(site, None, {})[0]
    assert not barriers.judge(site, "FAULT: does not build", {})[0]


def run(folder, reason):
    (folder / "redundant.txt").write_text(reason)
    return subprocess.run([sys.executable, SCRIPT, "--root", str(folder), "--build", "build/emulated",
                           "--redundant", str(folder / "redundant.txt")], capture_output=True, text=True, check=False)


def test_a_kernel(tmp_path):
    objects = os.path.join(os.environ.get("SAMEBIT_BUILD", ""), "obj/tests/emulated/cuda")
    if not os.path.isdir(objects):
        pytest.skip("not a build with CUDA=emulated")
    if "address" in objects:
        pytest.skip("needs a build without sanitizers")
    for path, text in [("kernels/cuda/turn.cu", TURN), ("tests/kernels/test_cuda_turn.cu", TEST),
                       ("build/emulated/made", ""),
                       ("Makefile", MAKEFILE.format(root=ROOT, objects=f"{objects}/*.cpp.o"))]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    unlisted = run(tmp_path, "")
    assert unlisted.stdout.splitlines()[-1] == "1 passed, 1 failed, 0 skipped", unlisted.stdout
    assert "turn __syncthreads 1 (line 8): caught by test_cuda_turn, forward" in unlisted.stdout
    assert "turn __syncthreads 2 (line 10): NO TEST NOTICES" in unlisted.stdout
    listed = run(tmp_path, "kernels/cuda/turn.cu turn __syncthreads 2: nothing follows\n")
    assert listed.stdout.splitlines()[-1] == "2 passed, 0 failed, 0 skipped", listed.stdout
    stale = run(tmp_path, "kernels/cuda/turn.cu turn __syncthreads 3: nothing follows\n")
    assert "turn __syncthreads 3: listed as redundant, but not there" in stale.stdout
