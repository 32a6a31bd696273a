/* probe.cu - two approximations of the hardware against correctly rounded ones, and what flushing
 * to zero does at the least normal.  Prints lines: NAME, differing, elements, a note, with tabs.
 *
 * ex2.approx is the last step of CUDA's expf, rsqrt.approx all of its rsqrtf: without a GPU
 * correctly rounded functions stand in for them (tests/emulated/cuda). */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/device.cuh"

enum { BINADE = 1 << 23, BLOCK = 256 };

static void check(cudaError_t status, const char *what)
{
    if (status == cudaSuccess)
        return;
    fprintf(stderr, "probe: %s: %s\n", what, cudaGetErrorString(status));
    exit(1);
}

static __global__ void ex2_kernel(uint32_t first, float *out)
{
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;

    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out[i]) : "f"(__uint_as_float(first + i)));
}

static __global__ void rsqrt_kernel(uint32_t first, float *out)
{
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;

    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(out[i]) : "f"(__uint_as_float(first + i)));
}

static __global__ void fma_kernel(const float *in, float *out)
{
    asm("fma.rn.ftz.f32 %0, %1, %2, %3;" : "=f"(*out) : "f"(in[0]), "f"(in[1]), "f"(in[2]));
}

static double exact_ex2(double x)
{
    return exp2(x);
}

static double exact_rsqrt(double x)
{
    return 1.0 / sqrt(x);
}

static uint32_t bits_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* All inputs of the binade that begins at `first`; both results are positive normals, so the
 * distance of their bits is in units in the last place. */
static void compare(const char *name, float first, void (*kernel)(uint32_t, float *),
                    double (*exact)(double))
{
    const size_t bytes = BINADE * sizeof(float);
    const uint32_t start = bits_of(first);
    float *device, *got = (float *)malloc(bytes);
    long differing = 0, farthest = 0;

    if (!got)
        exit(1);
    check(cudaMalloc((void **)&device, bytes), "cudaMalloc");
    LAUNCH(kernel, BINADE / BLOCK, BLOCK, 0, 0, start, device);
    check(cudaGetLastError(), name);
    check(cudaMemcpy(got, device, bytes, cudaMemcpyDeviceToHost), name);
    for (uint32_t i = 0; i < BINADE; i++) {
        const float want = (float)exact((double)float_of(start + i));
        const long far = labs((long)bits_of(got[i]) - (long)bits_of(want));

        differing += far != 0;
        farthest = far > farthest ? far : farthest;
    }
    printf("%s from %g\t%ld\t%d\tat most %ld units in the last place\n", name, (double)first,
           differing, BINADE, farthest);
    check(cudaFree(device), "cudaFree");
    free(got);
}

/* The exact result lies under the least normal and rounds up to it. */
static void flush(const char *name, float a, float b, float c)
{
    const float in[3] = {a, b, c};
    float *device, got;

    check(cudaMalloc((void **)&device, sizeof(in) + sizeof(got)), "cudaMalloc");
    check(cudaMemcpy(device, in, sizeof(in), cudaMemcpyHostToDevice), name);
    LAUNCH(fma_kernel, 1, 1, 0, 0, device, device + 3);
    check(cudaGetLastError(), name);
    check(cudaMemcpy(&got, device + 3, sizeof(got), cudaMemcpyDeviceToHost), name);
    printf("fma.rn.ftz, %s\t0\t1\t0x%08x: %s\n", name, bits_of(got),
           got == 0.0f ? "flushed" : "not flushed");
    check(cudaFree(device), "cudaFree");
}

int main(void)
{
    compare("ex2.approx", 0.5f, ex2_kernel, exact_ex2);
    compare("ex2.approx", -0.5f, ex2_kernel, exact_ex2);
    compare("rsqrt.approx", 1.0f, rsqrt_kernel, exact_rsqrt);
    compare("rsqrt.approx", 2.0f, rsqrt_kernel, exact_rsqrt);
    flush("2^-126 - 2^-150", float_of(0x3f7fffff), float_of(0x00800000), 0.0f);
    flush("2^-126 - 2^-152", -ldexpf(1.0f, -76), ldexpf(1.0f, -76), float_of(0x00800000));
    return 0;
}
