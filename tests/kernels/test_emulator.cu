/* test_emulator.cu - the emulated CUDA: each misuse ends the process and says why, and what a race
 * leaves depends on the order of threads. */
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

enum { THREADS = 64, ORDERS = 8 };

/* n zeroed ints of device memory, which stay. */
static int *device_ints(size_t n)
{
    int *ptr;

    assert_int_equal(cudaMalloc(&ptr, n * sizeof(int)), cudaSuccess);
    assert_int_equal(cudaMemset(ptr, 0, n * sizeof(int)), cudaSuccess);
    return ptr;
}

static void run(void (*kernel)(int *), unsigned threads)
{
    LAUNCH(kernel, dim3(1), dim3(threads), 0, (cudaStream_t)0, device_ints(1024));
    cudaDeviceSynchronize();
}

template <void (*KERNEL)(int *), int THREADS_OF_BLOCK>
static void assert_run_ends(const char *words)
{
    assert_ends([] { run(KERNEL, THREADS_OF_BLOCK); }, words);
}

/* ---- warp primitives ---- */

static __global__ void half_a_shuffle(int *out)
{
    if (threadIdx.x < 16)
        out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}

static __global__ void two_shuffles(int *out)
{
    if (threadIdx.x % 2)
        out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
    else
        out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}

static __global__ void shuffle_beside_ballot(int *out)
{
    if (threadIdx.x % 2)
        out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
    else
        out[threadIdx.x] = (int)__ballot_sync(0xffffffffu, 1);
}

static __global__ void shuffle_beside_barrier(int *out)
{
    if (threadIdx.x < 16)
        out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
    else
        __syncthreads();
}

static __global__ void two_masks(int *out)
{
    out[threadIdx.x] = __shfl_xor_sync(threadIdx.x < 16 ? 0xffffu : 0xffffffffu, 1, 1);
}

static __global__ void mask_without_itself(int *out)
{
    out[threadIdx.x] = __shfl_xor_sync(0xffff0000u, 1, 1);
}

static __global__ void outside_the_mask(int *out)
{
    if (threadIdx.x < 16)
        out[threadIdx.x] = __shfl_sync(0xffffu, 1, 20);
}

static __global__ void outside_the_block(int *out)
{
    out[threadIdx.x] = __shfl_down_sync(0xffffffffu, 1, 16);
}

/* Each half goes its own way, and then they meet; which is right. */
static __global__ void halves(int *out)
{
    int sum = 0;

    for (int half = 0; half < 2; half++) {
        if ((threadIdx.x < 16) == half)
            for (int i = 0; i < 3; i++)
                sum += __shfl_xor_sync(half ? 0xffffu : 0xffff0000u, (int)threadIdx.x, 1);
        __syncwarp();
    }
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, sum, 16);
}

static void test_halves(void **state)
{
    int *out = device_ints(32), host[32];

    (void)state;
    for (int order = 0; order < ORDERS; order++) {
        emulated_set_order(order);
        LAUNCH(halves, dim3(1), dim3(32), 0, (cudaStream_t)0, out);
        cudaMemcpy(host, out, sizeof(host), cudaMemcpyDeviceToHost);
        for (int i = 0; i < 32; i++)
            assert_int_equal(host[i], 3 * (i ^ 17));
    }
    emulated_set_order(EMULATED_FORWARD);
    cudaFree(out);
}

static void test_warp_misuse(void **state)
{
    (void)state;
    assert_run_ends<half_a_shuffle, 32>(
        "waits for lane 16, which is at its end (half_a_shuffle: block 0,0,0");
    assert_run_ends<two_shuffles, 32>("waits for lane 1, which is at a warp primitive");
    assert_run_ends<shuffle_beside_ballot, 32>("waits for lane 1, which is at a warp primitive");
    assert_run_ends<shuffle_beside_barrier, 32>("waits for lane 16, which is at __syncthreads");
    assert_run_ends<two_masks, 32>("with mask ffffffff waits for lane 0, which is at its end");
    assert_run_ends<mask_without_itself, 32>("leaves out the calling lane 0");
    assert_run_ends<outside_the_mask, 32>("reads lane 20, outside its mask");
    assert_run_ends<outside_the_block, 24>("reads lane 24, outside its mask");
}

/* ---- barriers ---- */

static __global__ void ends_before_a_barrier(int *out)
{
    if (threadIdx.x == 5)
        return;
    __syncthreads();
    out[threadIdx.x] = 1;
}

static __global__ void two_barriers(int *out)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}

static __global__ void one_round_less(int *out)
{
    for (unsigned i = 0; i < 3 - (threadIdx.x == 40); i++)
        __syncthreads();
    out[threadIdx.x] = 1;
}

static void test_barrier_misuse(void **state)
{
    (void)state;
    assert_run_ends<ends_before_a_barrier, THREADS>(
        "__syncthreads waits for thread 5,0,0, which is at its end");
    assert_run_ends<two_barriers, THREADS>(
        "__syncthreads waits for thread 32,0,0, which is at __syncthreads");
    assert_run_ends<one_round_less, THREADS>(
        "__syncthreads waits for thread 40,0,0, which is at its end");
}

/* ---- what the primitives give ---- */

static __global__ void primitives(int *out)
{
    const int i = (int)threadIdx.x, lane = i % 32;

    out[0 * THREADS + i] = __shfl_sync(0xffffffffu, i, 7);
    out[1 * THREADS + i] = __shfl_xor_sync(0xffffffffu, i, 16);
    out[2 * THREADS + i] = __shfl_down_sync(0xffffffffu, i, 3);
    out[3 * THREADS + i] = __shfl_up_sync(0xffffffffu, i, 3, 8);
    out[4 * THREADS + i] = __shfl_down_sync(0xffffffffu, i, 4, 8);
    out[5 * THREADS + i] = (int)__ballot_sync(0xffffffffu, lane % 3 == 0);
    out[6 * THREADS + i] = lane < 8 ? (int)__ballot_sync(0xffu, lane & 1) : -1;
    out[7 * THREADS + i] = __syncthreads_count(i % 5 == 0);
}

static int expected_primitive(int which, int i)
{
    const int lane = i % 32, warp = i - lane;

    switch (which) {
    case 0:
        return warp + 7;
    case 1:
        return warp + (lane ^ 16);
    case 2:
        return lane + 3 < 32 ? i + 3 : i;
    case 3:
        return lane % 8 >= 3 ? i - 3 : i;
    case 4:
        return lane % 8 < 4 ? i + 4 : i;
    case 5:
        return 0x49249249;
    case 6:
        return lane < 8 ? 0xaa : -1;
    default:
        return (THREADS + 4) / 5;
    }
}

static void test_primitives(void **state)
{
    enum { KINDS = 8 };
    int *out = device_ints(KINDS * THREADS), host[KINDS * THREADS];

    (void)state;
    for (int order = 0; order < ORDERS; order++) {
        emulated_set_order(order);
        LAUNCH(primitives, dim3(1), dim3(THREADS), 0, (cudaStream_t)0, out);
        assert_int_equal(cudaGetLastError(), cudaSuccess);
        cudaMemcpy(host, out, sizeof(host), cudaMemcpyDeviceToHost);
        for (int k = 0; k < KINDS; k++)
            for (int i = 0; i < THREADS; i++)
                assert_int_equal(host[k * THREADS + i], expected_primitive(k, i));
    }
    emulated_set_order(EMULATED_FORWARD);
    cudaFree(out);
}

/* ---- races: a missing barrier gives other results in other orders, with it the same ---- */

template <int BARRIER> static __global__ void rotate(int *out, int n)
{
    __shared__ int tile[THREADS];
    const int i = (int)threadIdx.x;

    tile[i] = i;
    if (BARRIER)
        __syncthreads();
    out[blockIdx.x * THREADS + i] = i < n ? tile[(i + 33) % THREADS] : 0;
}

template <int SYNC> static __global__ void rotate_in_warp(int *out, int n)
{
    DYNAMIC_SHARED(int, tile);
    const int i = (int)threadIdx.x;

    tile[i] = i;
    if (SYNC)
        __syncwarp();
    out[blockIdx.x * THREADS + i] = i < n ? tile[i ^ 1] : 0;
}

/* One warp runs ahead of another between barriers, over a warp primitive. */
template <int BARRIER> static __global__ void overtake(int *out, int n)
{
    __shared__ int last;

    for (int round = 0; round < 4; round++) {
        __syncwarp();
        if (threadIdx.x % 32 == 0)
            last = (int)threadIdx.x / 32 * (round < n);
        if (BARRIER)
            __syncthreads();
    }
    __syncthreads();
    out[blockIdx.x * THREADS + threadIdx.x] = BARRIER ? 0 : last;
}

enum { BLOCKS = 5 };

static uint64_t hash_of_run(void (*kernel)(int *, int), int order)
{
    int *out = device_ints(BLOCKS * THREADS), host[BLOCKS * THREADS];
    uint64_t hash = 14695981039346656037u;

    emulated_set_order(order);
    LAUNCH(kernel, dim3(BLOCKS), dim3(THREADS), THREADS * sizeof(int), (cudaStream_t)0, out,
           THREADS);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    cudaMemcpy(host, out, sizeof(host), cudaMemcpyDeviceToHost);
    for (int i = 0; i < BLOCKS * THREADS; i++)
        hash = (hash ^ (uint64_t)host[i]) * 1099511628211u;
    emulated_set_order(EMULATED_FORWARD);
    cudaFree(out);
    return hash;
}

/* Returns how many orders give what the first gives not. */
static int orders_that_differ(void (*kernel)(int *, int))
{
    int differ = 0;

    for (int order = 1; order < ORDERS; order++)
        differ += hash_of_run(kernel, order) != hash_of_run(kernel, 0);
    return differ;
}

static void test_orders(void **state)
{
    (void)state;
    assert_int_equal(orders_that_differ(rotate<1>), 0);
    assert_int_equal(orders_that_differ(rotate_in_warp<1>), 0);
    assert_int_equal(orders_that_differ(overtake<1>), 0);
    assert_int_equal(orders_that_differ(rotate<0>), ORDERS - 1);
    assert_int_equal(orders_that_differ(rotate_in_warp<0>), ORDERS - 1);
    assert_true(orders_that_differ(overtake<0>) > 0);
}

static void test_an_order_repeats(void **state)
{
    (void)state;
    for (int order = 0; order < ORDERS; order++)
        for (int threads = 1; threads <= 3; threads++) {
            emulated_set_threads(threads);
            assert_true(hash_of_run(rotate<0>, order) == hash_of_run(rotate<0>, order));
        }
    emulated_set_threads(2);
}

/* ---- garbage in shared memory ---- */

template <int N> static __global__ void garbage(int *out)
{
    __shared__ int in_template[N];
    __shared__ float number;
    DYNAMIC_SHARED(int, dynamic);

    if (threadIdx.x == 0) {
        out[0] = in_template[N - 1];
        out[1] = __float_as_int(number);
        out[2] = dynamic[9];
        in_template[N - 1] = dynamic[9] = 1;
        number = 1;
    }
}

static void test_garbage(void **state)
{
    const int expected[] = {-1, 0x7f7f7f7f, -1, 0x7f7f7f7f};
    int *out = device_ints(3), host[3];

    (void)state;
    emulated_set_threads(1);
    for (int order = 0; order < 4; order++) {
        emulated_set_order(order);
        for (int round = 0; round < 2; round++) {
            LAUNCH(garbage<3>, dim3(2), dim3(32), 10 * sizeof(int), (cudaStream_t)0, out);
            cudaMemcpy(host, out, sizeof(host), cudaMemcpyDeviceToHost);
            for (int i = 0; i < 3; i++)
                assert_int_equal(host[i], expected[order]);
        }
    }
    emulated_set_order(EMULATED_FORWARD);
    emulated_set_threads(2);
    cudaFree(out);
}

/* ---- stacks, sizes ---- */

static __global__ void deep(int *out)
{
    volatile char local[600 << 10];

    for (size_t i = sizeof(local); i > 0; i -= 1024)
        local[i - 1] = 1;
    out[threadIdx.x] = local[1023];
}

static void test_stack(void **state)
{
    (void)state;
    assert_ends([] { run(deep, 1); }, "");
}

static __global__ void mark_places(int *out)
{
    const dim3 b = blockDim, g = gridDim;
    const uint3 t = threadIdx, i = blockIdx;
    const unsigned thread = t.x + b.x * (t.y + b.y * t.z), block = i.x + g.x * (i.y + g.y * i.z);

    atomicAdd(&out[block * (b.x * b.y * b.z) + thread], 1);
}

static void test_each_thread_once(void **state)
{
    const dim3 grids[] = {{1, 1, 1}, {7, 1, 1}, {3, 4, 5}},
               blocks[] = {{1, 1, 1}, {33, 2, 1}, {4, 3, 5}};

    (void)state;
    for (int order = 0; order < ORDERS; order++)
        for (const dim3 g : grids)
            for (const dim3 b : blocks) {
                const size_t n = (size_t)g.x * g.y * g.z * b.x * b.y * b.z;
                int *out = device_ints(n), *host = (int *)malloc(n * sizeof(int));

                emulated_set_order(order);
                LAUNCH(mark_places, g, b, 0, (cudaStream_t)0, out);
                cudaMemcpy(host, out, n * sizeof(int), cudaMemcpyDeviceToHost);
                for (size_t i = 0; i < n; i++)
                    assert_int_equal(host[i], 1);
                free(host);
                cudaFree(out);
            }
    emulated_set_order(EMULATED_FORWARD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warp_misuse),      cmocka_unit_test(test_barrier_misuse),
        cmocka_unit_test(test_halves),           cmocka_unit_test(test_primitives),
        cmocka_unit_test(test_orders),           cmocka_unit_test(test_an_order_repeats),
        cmocka_unit_test(test_garbage),          cmocka_unit_test(test_stack),
        cmocka_unit_test(test_each_thread_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
