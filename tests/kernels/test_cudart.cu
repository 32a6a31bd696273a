/* test_cudart.cu - the stand-in for the CUDA runtime: host mistakes end the process, work is put
 * off as long as CUDA may, allocations fail where they are told to, and the log has every transfer.
 */
extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
}

#include "kernels/cuda/device.cuh"
#include "tests/emulated/cuda/control.h"
#include "tests/kernels/child.h"

static char *device_bytes(size_t n)
{
    char *ptr;

    assert_int_equal(cudaMalloc(&ptr, n), cudaSuccess);
    return ptr;
}

static char *pinned_bytes(size_t n)
{
    char *ptr;

    assert_int_equal(cudaMallocHost(&ptr, n), cudaSuccess);
    memset(ptr, 0, n);
    return ptr;
}

static cudaStream_t stream_open(void)
{
    cudaStream_t stream;

    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    return stream;
}

static cudaEvent_t event_open(void)
{
    cudaEvent_t event;

    assert_int_equal(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    return event;
}

static __global__ void set_byte(char *at, char value)
{
    *at = value;
}

struct pointers {
    int count, unused;
    char *at[2];
};

static __global__ void set_bytes(struct pointers p)
{
    for (int i = 0; i < p.count; i++)
        *p.at[i] = 1;
}

template <int VALUE, bool TWICE> static __global__ void set_to(char *at)
{
    *at = VALUE << TWICE;
}

static void set(char *at, char value, cudaStream_t stream)
{
    LAUNCH(set_byte, dim3(1), dim3(1), 0, stream, at, value);
}

/* ---- mistakes ---- */

static char host[64];

static void test_copies(void **state)
{
    (void)state;
    assert_ends([] { cudaMemcpy(device_bytes(8) + 4, host, 5, cudaMemcpyDefault); },
                "cudaMemcpy: 5 bytes at its destination, 4 bytes before an allocation's end");
    assert_ends([] { cudaMemcpy(host, device_bytes(8), 9, cudaMemcpyDefault); },
                "cudaMemcpy: 9 bytes at its source, 8 bytes");
    assert_ends([] { cudaMemcpy2D(host, 2, device_bytes(8), 4, 2, 3, cudaMemcpyDefault); },
                "cudaMemcpy2D: 10 bytes at its source");
    assert_ends([] { cudaMemcpy(device_bytes(8), host, 8, cudaMemcpyDeviceToHost); },
                "cudaMemcpy: its kind is not where its pointers lie (host to device)");
    assert_ends([] { cudaMemcpy(host, host + 8, 8, cudaMemcpyDeviceToHost); }, "(host to host)");
    assert_ends([] { cudaMemset(device_bytes(8), 0, 9); }, "9 bytes at its destination");
    assert_ends([] { cudaMemset(host, 0, 9); }, "that the device cannot reach");
    assert_ends([] { cudaMemcpy(device_bytes(8), NULL, 8, cudaMemcpyDefault); }, "source is NULL");
    assert_goes_through([] { cudaMemcpy2D(host, 2, device_bytes(8), 3, 2, 3, cudaMemcpyDefault); });
}

static void test_frees(void **state)
{
    (void)state;
    assert_ends([] { cudaFree(host); }, "no allocation of device memory");
    assert_ends([] { cudaFree(device_bytes(8) + 1); }, "no allocation of device memory");
    assert_ends([] { cudaFree(pinned_bytes(8)); }, "no allocation of device memory");
    assert_ends([] { cudaFreeHost(device_bytes(8)); }, "no allocation of pinned memory");
    assert_ends(
        [] {
            char *p = device_bytes(8);
            cudaFree(p);
            cudaFree(p);
        },
        "no allocation of device memory");
    assert_goes_through([] {
        cudaFree(device_bytes(8));
        cudaFree(NULL);
    });
}

static void test_overruns(void **state)
{
    (void)state;
    assert_ends(
        [] {
            char *p = device_bytes(8);
            set(p + 8, 1, NULL);
            cudaFree(p);
        },
        "");
    assert_ends(
        [] {
            char *p = device_bytes(7);
            set(p + 7, 1, NULL);
            cudaFree(p);
        },
        "");
    assert_goes_through([] {
        char *p = device_bytes(7);
        set(p + 6, 1, NULL);
        cudaFree(p);
    });
}

static void test_handles(void **state)
{
    (void)state;
    assert_ends(
        [] {
            cudaStream_t s = stream_open();
            cudaStreamDestroy(s);
            set(NULL, 1, s);
        },
        "set_byte: a stream that does not exist or was destroyed");
    assert_ends(
        [] {
            cudaStream_t s = stream_open();
            cudaStreamDestroy(s);
            cudaStreamDestroy(s);
        },
        "cudaStreamDestroy: a stream that");
    assert_ends(
        [] {
            cudaEvent_t e = event_open();
            cudaEventDestroy(e);
            cudaEventRecord(e);
        },
        "cudaEventRecord: an event that");
    assert_ends([] { cudaStreamSynchronize((cudaStream_t)host); },
                "cudaStreamSynchronize: a stream");
}

static void test_arguments(void **state)
{
    (void)state;
    assert_ends([] { set(host, 1, NULL); }, "set_byte: argument 1 holds");
    assert_ends(
        [] {
            struct pointers p = {2, 1, {device_bytes(8), host}};
            LAUNCH(set_bytes, dim3(1), dim3(1), 0, (cudaStream_t)0, p);
        },
        "set_bytes: argument 1 holds");
    assert_goes_through([] {
        struct pointers p = {1, 1, {device_bytes(8), NULL}};
        LAUNCH(set_bytes, dim3(1), dim3(1), 0, (cudaStream_t)0, p);
    });
    assert_goes_through([] { set(pinned_bytes(8), 1, NULL); });
}

static void test_devices(void **state)
{
    cudaDeviceProp properties;

    (void)state;
    assert_int_equal(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
    assert_string_equal(properties.name, "emulated");
    assert_int_equal(cudaSetDevice(1), cudaErrorInvalidDevice);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidDevice);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    setenv("SAMEBIT_EMULATED_DEVICES", "2", 1);
    assert_ends(
        [] {
            char *p = device_bytes(1);
            cudaSetDevice(1);
            set(p, 1, stream_open());
        },
        "points to memory of device 0, the stream is of 1");
    assert_ends(
        [] {
            cudaStream_t s = stream_open();
            cudaSetDevice(1);
            set(NULL, 1, s);
        },
        "launched on a stream of device 0 while device 1 is current");
    unsetenv("SAMEBIT_EMULATED_DEVICES");
}

static void test_refused_launches(void **state)
{
    const struct {
        dim3 grid, block;
        size_t shared;
        cudaError_t error;
    } cases[] = {
        {{0, 1, 1}, {1, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 1}, {1025, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 65536, 1}, {1, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 1}, {1, 1, 1}, 49153, cudaErrorInvalidValue},
        {{1, 1, 1}, {1, 1, 1}, 49152, cudaSuccess},
    };
    char *at = device_bytes(1);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        LAUNCH(set_byte, cases[i].grid, cases[i].block, cases[i].shared, (cudaStream_t)0, at, 1);
        assert_int_equal(cudaGetLastError(), cases[i].error);
    }
    assert_int_equal(
        cudaFuncSetAttribute(set_byte, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10),
        cudaSuccess);
    LAUNCH(set_byte, dim3(1), dim3(1), 64 << 10, (cudaStream_t)0, at, 1);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    cudaFree(at);
}

/* ---- when work is done ---- */

static void test_late(void **state)
{
    char *at = pinned_bytes(1);
    cudaStream_t stream = stream_open();

    (void)state;
    for (int late = 0; late < 2; late++) {
        emulated_set_late(late);
        *at = 0;
        set(at, 1, stream);
        assert_int_equal(*at, !late);
        assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
        assert_int_equal(*at, 1);
    }
    cudaStreamDestroy(stream);
    cudaFreeHost(at);
}

/* The second stream overtakes the first unless it waits for its event. */
static void test_events(void **state)
{
    char *at = pinned_bytes(2);
    cudaStream_t first = stream_open(), second = stream_open();
    cudaEvent_t event = event_open();

    (void)state;
    for (int waits = 0; waits < 2; waits++) {
        at[0] = at[1] = 0;
        set(at, 1, first);
        cudaEventRecord(event, first);
        if (waits)
            cudaStreamWaitEvent(second, event);
        cudaMemcpyAsync(at + 1, at, 1, cudaMemcpyDefault, second);
        cudaStreamSynchronize(second);
        assert_int_equal(at[1], waits);
        cudaEventSynchronize(event);
        assert_int_equal(at[0], 1);
    }
    assert_int_equal(cudaEventQuery(event), cudaSuccess);
    cudaEventDestroy(event);
    cudaStreamDestroy(first);
    cudaStreamDestroy(second);
    cudaFreeHost(at);
}

/* A copy to pageable memory has happened, and what was before it on its stream. */
static void test_pageable(void **state)
{
    char *at = device_bytes(1);
    cudaStream_t stream = stream_open();

    (void)state;
    set(at, 7, stream);
    cudaMemcpyAsync(host, at, 1, cudaMemcpyDefault, stream);
    assert_int_equal(host[0], 7);
    set(at, 8, stream);
    cudaMemcpy(host, at, 1, cudaMemcpyDefault); /* the legacy stream waits */
    assert_int_equal(host[0], 8);
    cudaStreamDestroy(stream);
    cudaFree(at);
}

/* ---- failures and the log ---- */

static void test_failures(void **state)
{
    const int had = emulated_allocations();
    void *ptr[3];

    (void)state;
    emulated_fail_allocation(2);
    assert_int_equal(cudaMalloc(&ptr[0], 1), cudaSuccess);
    assert_int_equal(cudaMalloc(&ptr[1], 1), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(cudaMalloc(&ptr[2], 1), cudaSuccess);
    assert_int_equal(emulated_allocations(), had + 2);
    cudaFree(ptr[0]);
    cudaFree(ptr[2]);
    assert_int_equal(emulated_allocations(), had);
}

static void log_some(void)
{
    char *at = device_bytes(8);

    cudaMemset(at, 0, 8);
    cudaMemcpy(host, at, 3, cudaMemcpyDefault);
    set(at, 1, NULL);
    LAUNCH((set_to<3, true>), dim3(1), dim3(2), 4, (cudaStream_t)0, at);
}

static void test_log(void **state)
{
    char path[] = "/tmp/samebit_log_XXXXXX", text[256] = "";
    const int file = mkstemp(path);

    (void)state;
    setenv("SAMEBIT_EMULATED_LOG", path, 1);
    assert_goes_through(log_some);
    unsetenv("SAMEBIT_EMULATED_LOG");
    assert_true(read(file, text, sizeof(text) - 1) > 0);
    assert_string_equal(text, "set 8\ncopy device-to-host 3\nlaunch set_byte 1x1x1 1x1x1 0\n"
                              "launch set_to<3,true> 1x1x1 2x1x1 4\n");
    close(file);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies),    cmocka_unit_test(test_frees),
        cmocka_unit_test(test_overruns),  cmocka_unit_test(test_handles),
        cmocka_unit_test(test_arguments), cmocka_unit_test(test_devices),
        cmocka_unit_test(test_late),      cmocka_unit_test(test_refused_launches),
        cmocka_unit_test(test_events),    cmocka_unit_test(test_pageable),
        cmocka_unit_test(test_failures),  cmocka_unit_test(test_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
