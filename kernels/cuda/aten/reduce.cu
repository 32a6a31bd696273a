/* reduce.cu - see reduce.h.  Host code only. */
#include "kernels/cuda/aten/reduce.h"

enum { WARP = 32, SPLIT_LEAST = 16, SPLIT_MOST = 256 };

static int least(int a, int b)
{
    return a < b ? a : b;
}

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* The largest power of two that is neither above x nor above MEAN_THREADS. */
static int power_below(int64_t x)
{
    int power = 1;

    while (power < MEAN_THREADS && 2 * (int64_t)power <= x)
        power *= 2;
    return power;
}

int mean_config(int64_t rows, int64_t n, struct mean_launch *config)
{
    const int vectors = n >= MEAN_VECTORS_FROM;
    const int x_most = power_below(vectors ? n / MEAN_ACCUMULATORS : n);
    const int y = least(power_below(rows), MEAN_THREADS / least(x_most, WARP));
    const int x = least(x_most, MEAN_THREADS / y);
    const int split = divide_up(n, x) >= least(y * SPLIT_LEAST, SPLIT_MOST);

    if (rows < 1 || n < 1 || rows > INT32_MAX / 4 / n ||
        (split && divide_up(n, (int64_t)x * y) >= SPLIT_MOST))
        return -1;
    config->block_x = x;
    config->block_y = y;
    config->split = split;
    config->step = split ? x * y : x;
    config->vectors = vectors;
    config->rows_per_block = split ? 1 : y;
    config->shared_bytes = split || x > WARP ? x * y * (int)sizeof(float) : 0;
    config->blocks = divide_up(rows, config->rows_per_block);
    config->factor = (float)rows / (float)(rows * n);
    return 0;
}

static struct softmax_launch softmax_warp_plan(int64_t length)
{
    struct softmax_launch plan = {SOFTMAX_WARP, 0, 0, 0, 0, 0, 0};

    while ((int64_t)1 << plan.variant < length)
        plan.variant++;
    plan.block_x = least(1 << plan.variant, WARP);
    plan.block_y = 128 / plan.block_x;
    plan.rows_per_warp = plan.variant <= 7 ? 2 : 1;
    plan.rows_per_block = plan.block_y * plan.rows_per_warp;
    return plan;
}

struct softmax_launch softmax_plan(int64_t length)
{
    const int partials = WARP * (int)sizeof(float);
    struct softmax_launch plan = {SOFTMAX_GENERIC, 0, 1024, 1, 1, 1, partials};

    if (length <= SOFTMAX_WARP_MOST)
        return softmax_warp_plan(length);
    if (length <= SOFTMAX_REGISTER_MOST) {
        plan.kind = SOFTMAX_REGISTER;
        plan.variant = (int)divide_up(length, 1024);
    } else if (length < SOFTMAX_SHARED_END && length % 4 == 0) {
        plan.kind = SOFTMAX_SHARED;
        plan.shared_bytes += (int)length * (int)sizeof(float);
    }
    return plan;
}
