/* aten_oracle.cpp - see aten_oracle.py.  torch_kernels.h is made from PyTorch's headers; what they
 * ask of the rest of PyTorch for the two kernels at hand is stood in for here. */
#include "kernels/cuda/device.cuh"

#include <algorithm>
#include <array>
#include <cassert>
#include <limits>
#include <optional>
#include <random>
#include <type_traits>
#include <vector>

#include <ATen/detail/FunctionTraits.h>

#include "kernels/cuda/aten/aten.h"
#include "kernels/cuda/cuda_state.cuh"
#include "tests/kernels/aten_probe.h"

#undef C10_DEVICE
#undef C10_HOST_DEVICE
#undef C10_WARP_SIZE
#undef CUDA_KERNEL_ASSERT
#undef TORCH_INTERNAL_ASSERT
#define C10_DEVICE
#define C10_HOST_DEVICE
#define C10_WARP_SIZE 32
#define CUDA_KERNEL_ASSERT(x) assert(x)
#define TORCH_INTERNAL_ASSERT(...)

template <typename T>
static T WARP_SHFL_DOWN(T value, unsigned offset, int width = 32, unsigned mask = 0xffffffffu)
{
    return __shfl_down_sync(mask, value, offset, width);
}

template <typename T>
static T WARP_SHFL_XOR(T value, int lanes, int width = 32, unsigned mask = 0xffffffffu)
{
    return __shfl_xor_sync(mask, value, lanes, width);
}

namespace thrust
{
template <class A, class B> struct pair {
    A first;
    B second;
};
} // namespace thrust

namespace c10
{
template <class T> static T load(const T *p)
{
    return *p;
}
} // namespace c10

/* Only splits over blocks, which no shape here has, depend on the device. */
struct device_properties {
    int multiProcessorCount = 132, maxThreadsPerMultiProcessor = 2048;
};

namespace at::cuda
{
static int warp_size()
{
    return 32;
}

static const device_properties *getCurrentDeviceProperties()
{
    static const device_properties properties;

    return &properties;
}
} // namespace at::cuda

/* Byte offsets of output (and input) `i`: one dimension. */
template <int N, class I> struct OffsetCalculator {
    int dims = 1;
    I strides_[1][N];
    I step[N];

    std::array<I, N> get(I i) const
    {
        std::array<I, N> offsets;

        for (int k = 0; k < N; k++)
            offsets[k] = i * step[k];
        return offsets;
    }
};

namespace at
{
/* mean(-1) of a contiguous f32 [rows, n]; the reduced dimension first, as PyTorch orders them. */
struct TensorIterator {
    int64_t rows, n, sizes[2], out_strides[2], in_strides[2];

    struct view {
        const int64_t *at;
        int count;

        int64_t operator[](int i) const
        {
            return at[i];
        }
        const int64_t *begin() const
        {
            return at;
        }
        const int64_t *end() const
        {
            return at + count;
        }
    };

    TensorIterator(int64_t rows_, int64_t n_)
        : rows(rows_), n(n_), sizes{n_, rows_}, out_strides{0, 4}, in_strides{4, 4 * n_}
    {
    }
    int ndim() const
    {
        return rows == 1 ? 1 : 2;
    }
    int num_reduce_dims() const
    {
        return 1;
    }
    int ntensors() const
    {
        return 2;
    }
    int noutputs() const
    {
        return 1;
    }
    int64_t num_output_elements() const
    {
        return rows;
    }
    int64_t numel() const
    {
        return rows * n;
    }
    view strides(int tensor) const
    {
        return {tensor ? in_strides : out_strides, ndim()};
    }
    view shape() const
    {
        return {sizes, ndim()};
    }
    void *data_ptr(int) const
    {
        return nullptr;
    }
};
} // namespace at

namespace at::native::memory
{
template <class T, int N> struct alignas(sizeof(T) * N) aligned_vector {
    T val[N];
};

template <int N, class T> static aligned_vector<T, N> load_vector(const T *p, uint32_t i)
{
    return reinterpret_cast<const aligned_vector<T, N> *>(p)[i];
}
} // namespace at::native::memory

#include "torch_kernels.h"

/* ---- PyTorch's kernels ---- */

using mean_operation = at::native::MeanOps<float, float, float, float>;
using mean_reduction = at::native::ReduceOp<float, mean_operation, uint32_t, float, 4, 4>;

static __global__ void mean_kernel(mean_reduction reduction)
{
    reduction.template run<1>();
}

static struct backend *backend;
static cudaStream_t stream; /* the backend's */

static void torch_mean(float *out, const float *in, int64_t rows, int64_t n)
{
    at::TensorIterator iterator(rows, n);
    const auto config = at::native::setReduceConfig<float, float, 4, 4>(iterator);
    const float factor = static_cast<float>(iterator.num_output_elements()) / iterator.numel();
    OffsetCalculator<1, uint32_t> inputs;
    OffsetCalculator<2, uint32_t> outputs;

    /* Their constructors leave some of them as it was, which might look like a pointer of the host. */
    memset((void *)&inputs, 0, sizeof(inputs));
    memset((void *)&outputs, 0, sizeof(outputs));

    if (config.should_global_reduce() || config.output_vec_size != 1)
        std::abort(); /* no shape here is split over blocks */
    inputs.strides_[0][0] = inputs.step[0] = 4;
    outputs.step[0] = 4;
    outputs.step[1] = 4 * (uint32_t)n;
    alignas(mean_reduction) static unsigned char room[sizeof(mean_reduction)];
    mean_reduction &reduction = *new (memset(room, 0, sizeof(room))) mean_reduction(
        mean_operation{factor}, config, inputs, outputs, in, (char *)out, std::nullopt, nullptr,
        nullptr, nullptr, 0.f, 1, 0);
    reduction.accumulate = false;
    reduction.final_output = true;
    LAUNCH(mean_kernel, config.grid(), config.block(), (size_t)config.shared_memory_size(), stream,
           reduction);
}

template <int LOG2>
static __global__ void softmax_kernel(float *out, const float *in, int rows, int length)
{
    persistent::softmax_warp_forward<float, float, float, LOG2, false, false, 32>(
        out, in, rows, length, length, nullptr, -1, false);
}

template <int LOG2> static void torch_softmax_of(float *out, const float *in, int rows, int length)
{
    const int lanes = (1 << LOG2) < 32 ? 1 << LOG2 : 32, warps = 128 / lanes;
    const int rows_per_block = warps * (LOG2 <= 7 ? 2 : 1);

    LAUNCH(softmax_kernel<LOG2>, dim3((rows + rows_per_block - 1) / rows_per_block),
           dim3(lanes, warps), 0, stream, out, in, rows, length);
}

static void torch_softmax(float *out, const float *in, int rows, int length)
{
    using softmax = void(float *, const float *, int, int);
    static softmax *const by_log2[] = {
        torch_softmax_of<0>, torch_softmax_of<1>, torch_softmax_of<2>,  torch_softmax_of<3>,
        torch_softmax_of<4>, torch_softmax_of<5>, torch_softmax_of<6>,  torch_softmax_of<7>,
        torch_softmax_of<8>, torch_softmax_of<9>, torch_softmax_of<10>, torch_softmax_of<11>};

    by_log2[persistent::log2_ceil(length)](out, in, rows, length);
}

/* ---- memory of the device ---- */

template <class T> struct device_array {
    T *at;
    int64_t count;
    enum dtype dtype;

    explicit device_array(int64_t n) : count(n), dtype(sizeof(T) == 2 ? DTYPE_BF16 : DTYPE_F32)
    {
        at = (T *)backend->alloc(backend, n * sizeof(T));
        assert(at);
    }
    ~device_array()
    {
        backend->free(backend, at);
    }
    void write(const T *host)
    {
        const struct tensor to = tensor_make(dtype, 1, &count, at);
        const struct tensor from = tensor_make(dtype, 1, &count, (void *)host);

        backend->copy(backend, &to, &from);
    }
    void read(T *host)
    {
        const struct tensor from = tensor_make(dtype, 1, &count, at);

        backend->read(backend, host, &from);
    }
};

static std::mt19937 generator(3);

static bf16 random_bf16(float scale)
{
    return bf16_from_f32(std::normal_distribution<float>(0, scale)(generator));
}

static int ours(enum op op, const struct tensor *in, const struct tensor *weight, double eps,
                struct tensor *out)
{
    const struct weight w = {weight ? *weight : *in, NULL};
    struct op_attrs attrs = {};
    struct op_call call = {};

    attrs.eps = eps;
    call.backend = backend;
    call.in[0] = in;
    call.weight = weight ? &w : NULL;
    call.out = out;
    call.attrs = &attrs;
    call.scope.tokens = in->shape[0];
    return backend->op[op](&call);
}

/* ---- the comparisons ---- */

/* Rows are one another's permutations, and eps cancels all but 2^-18 of their mean: the last bit of
 * a mean then moves the whole row.  1 when something differs. */
static int mean_differs(int64_t rows, int64_t n)
{
    const int64_t shape[] = {rows, n};
    std::vector<bf16> x(rows * n), w(n), y(rows * n);
    std::vector<float> squares(rows * n), means(rows);
    device_array<bf16> in(rows * n), weight(n), out(rows * n);
    device_array<float> squared(rows * n), mean(rows);
    double eps = 0;

    for (int64_t i = 0; i < n; i++) {
        w[i] = random_bf16(1);
        x[i] = random_bf16(1);
        eps -= (double)bf16_to_f32(x[i]) * bf16_to_f32(x[i]) / n * (1 - 0x1p-18);
    }
    for (int64_t r = 1; r < rows; r++) {
        std::copy_n(x.begin(), n, x.begin() + r * n);
        std::shuffle(x.begin() + r * n, x.begin() + (r + 1) * n, generator);
    }
    for (int64_t i = 0; i < rows * n; i++)
        squares[i] = bf16_to_f32(x[i]) * bf16_to_f32(x[i]);
    in.write(x.data());
    weight.write(w.data());
    squared.write(squares.data());
    torch_mean(mean.at, squared.at, rows, n);
    mean.read(means.data());

    const struct tensor a = tensor_make(DTYPE_BF16, 2, shape, in.at);
    const struct tensor b = tensor_make(DTYPE_BF16, 1, &n, weight.at);
    struct tensor c = tensor_make(DTYPE_BF16, 2, shape, out.at);

    if (ours(OP_rms_norm, &a, &b, eps, &c))
        return 1;
    out.read(y.data());
    for (int64_t i = 0; i < rows * n; i++) {
        const float r = (float)(1.0 / std::sqrt((double)(means[i / n] + (float)eps)));
        const bf16 scaled = bf16_from_f32(bf16_to_f32(x[i]) * r);

        if (y[i] != bf16_from_f32(bf16_to_f32(w[i % n]) * bf16_to_f32(scaled)))
            return 1;
    }
    return 0;
}

/* Rounded weights, and the sums themselves: every row has a largest element, whose weight is 1 /
 * sum. */
static int softmax_differs(int rows, int64_t length)
{
    const int64_t shape[] = {1, rows, length};
    std::vector<bf16> x(rows * length), y(rows * length);
    std::vector<float> x_f32(rows * length), want(rows * length), sums(rows);
    device_array<bf16> in(rows * length), out(rows * length);
    device_array<float> in_f32(rows * length), out_f32(rows * length);

    for (int64_t i = 0; i < rows * length; i++) {
        x[i] = i % 11 == 2 && length > 3 ? 0xff7f : random_bf16(5);
        x_f32[i] = bf16_to_f32(x[i]);
    }
    in.write(x.data());
    in_f32.write(x_f32.data());
    torch_softmax(out_f32.at, in_f32.at, rows, (int)length);
    out_f32.read(want.data());

    const struct tensor a = tensor_make(DTYPE_BF16, 3, shape, in.at);
    struct tensor b = tensor_make(DTYPE_BF16, 3, shape, out.at);

    if (ours(OP_softmax, &a, NULL, 0, &b) ||
        aten_probe_sums(backend, x.data(), rows, length, sums.data()))
        return 1;
    out.read(y.data());
    for (int row = 0; row < rows; row++) {
        const float *p = want.data() + row * length;

        if (*std::max_element(p, p + length) != 1.0f / sums[row])
            return 1;
        for (int64_t i = 0; i < length; i++)
            if (y[row * length + i] != bf16_from_f32(p[i]))
                return 1;
    }
    return 0;
}

int main()
{
    struct error err = {};
    int shapes = 0, differing = 0;

    backend = backend_cuda_open("cuda:0", numerics_find("torch-cuda"), &err);
    if (backend)
        aten_close(backend);
    if (!backend || aten_open(backend, &err)) {
        std::printf("no device: %s\n", err.text);
        return 2;
    }
    stream = ((const struct cuda *)backend->state)->stream;
    for (int64_t n : {2,    5,    16,   31,   32,   33,   64,   96,   100,  127,  128,  129,
                      130,  131,  132,  256,  384,  576,  640,  768,  896,  1023, 1024, 1152,
                      1536, 2048, 2056, 2560, 3072, 3584, 4096, 5120, 8192, 16384})
        for (int64_t rows : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 64, 100, 512, 600})
            if (n * rows <= 1 << 20 &&
                (n >= 32 || rows >= 32)) { /* a whole warp, as they shuffle */
                const int differs = mean_differs(rows, n);

                if (differs)
                    std::printf("\nmean of [%lld, %lld] differs", (long long)rows, (long long)n);
                differing += differs;
                shapes++;
            }
    for (int64_t length = 1; length <= 2048; length += length < 70 || length > 2044 ? 1 : 47) {
        const int differs = softmax_differs(11, length);

        if (differs)
            std::printf("\nsoftmax of %lld differs", (long long)length);
        differing += differs;
        shapes++;
    }
    std::printf("%d shapes against its own kernels' source, %d differing\n", shapes, differing);
    aten_close(backend);
    backend_cuda_close(backend);
    return differing != 0;
}
