/* rotary.c - see rotary.h. */
#include "kernels/rotary.h"

#include <math.h>
#include <stddef.h>

#include "kernels/backend.h"
#include "kernels/cpu/sleef.h"
#include "kernels/rotary_exceptions.h"

/* theta ** (arange(0, dim, 2) / dim): ATen calls SLEEF for whole blocks, libm for what is left. */
static void rotary_powers(double theta, int64_t dim, int64_t block, float *power)
{
    const int64_t count = dim / 2;
    const float base = (float)theta;

    for (int64_t i = 0; i < count; i++) {
        const float exponent = (float)(2 * i) / (float)dim;

        power[i] = i < count / block * block ? sleef_powf(base, exponent) : powf(base, exponent);
    }
}

static float rotary_llama3(const struct rope_config *rope, float inv)
{
    const double old = rope->original_max_position_embeddings;
    const float low = (float)(old / rope->low_freq_factor);
    const float high = (float)(old / rope->high_freq_factor);
    const float wavelength = (1.0f / inv) * (float)(2 * 3.14159265358979323846);
    const float scaled = wavelength > low ? inv / (float)rope->factor : inv;
    const float smooth = ((1.0f / wavelength) * (float)old - (float)rope->low_freq_factor) /
                         (float)(rope->high_freq_factor - rope->low_freq_factor);
    const float mixed = ((1.0f - smooth) * scaled) / (float)rope->factor + smooth * scaled;

    return !(wavelength < high) && !(wavelength > low) ? mixed : scaled;
}

/* _compute_yarn_parameters: the pair at which a frequency turns so often within the original length. */
static double yarn_pair(const struct rope_config *rope, double turns, int64_t dim)
{
    const double pi = 3.14159265358979323846;

    return ((double)dim * log(rope->original_max_position_embeddings / (turns * 2 * pi))) /
           (2 * log(rope->theta));
}

/* The pairs between which YaRN goes over from extrapolation to interpolation. */
static void yarn_range(const struct rope_config *rope, int64_t dim, double *low, double *high)
{
    *low = yarn_pair(rope, rope->beta_fast, dim);
    *high = yarn_pair(rope, rope->beta_slow, dim);
    if (rope->truncate) {
        *low = floor(*low);
        *high = ceil(*high);
    }
    *low = *low > 0 ? *low : 0;
    *high = *high < (double)(dim - 1) ? *high : (double)(dim - 1);
    if (*low == *high)
        *high += 0.001;
}

static float yarn(const struct rope_config *rope, double low, double high, int64_t i, float power)
{
    const float extrapolated = 1.0f / power;
    const float interpolated = 1.0f / ((float)rope->factor * power);
    const float linear = ((float)i - (float)low) / (float)(high - low);
    const float ramp = linear < 0 ? 0.0f : linear > 1 ? 1.0f : linear;
    const float kept = 1.0f - ramp;

    return interpolated * (1.0f - kept) + extrapolated * kept;
}

/* _compute_dynamic_ntk_parameters: Python's numbers when the model is made, a tensor of one f32 in a
 * call that is longer, whose power is std::pow's of an f32 and a double. */
static double dynamic_theta(const struct rope_config *rope, int64_t dim, int64_t length)
{
    const double most = rope->max_position_embeddings, factor = rope->factor;
    const double exponent = (double)dim / (double)(dim - 2);
    float ratio;

    if ((double)length <= most)
        return rope->theta * pow(factor * most / most - (factor - 1), exponent);
    ratio = (float)factor * (float)length / (float)most - (float)(factor - 1);
    return (double)((float)rope->theta * (float)pow((double)ratio, exponent));
}

int64_t rotary_same_up_to(const struct rope_config *rope)
{
    switch (rope->type) {
    case ROPE_DYNAMIC:
        return (int64_t)rope->max_position_embeddings;
    case ROPE_LONGROPE:
        return (int64_t)rope->original_max_position_embeddings;
    default:
        return INT64_MAX;
    }
}

void rotary_inv_freq(const struct rope_config *rope, int64_t dim, int64_t length,
                     const struct numerics *numerics, float *inv_freq)
{
    const int dynamic = rope->type == ROPE_DYNAMIC;
    const float *factors =
        length > rotary_same_up_to(rope) ? rope->long_factor : rope->short_factor;
    double low = 0, high = 1;

    if (rope->type == ROPE_YARN)
        yarn_range(rope, dim, &low, &high);
    rotary_powers(dynamic ? dynamic_theta(rope, dim, length) : rope->theta, dim,
                  numerics->rotary_block, inv_freq);
    for (int64_t i = 0; i < dim / 2; i++) {
        const float power = inv_freq[i];

        switch (rope->type) {
        case ROPE_DEFAULT:
        case ROPE_DYNAMIC:
            inv_freq[i] = 1.0f / power;
            break;
        case ROPE_LINEAR:
            inv_freq[i] = 1.0f / power / (float)rope->factor;
            break;
        case ROPE_YARN:
            inv_freq[i] = yarn(rope, low, high, i, power);
            break;
        case ROPE_LONGROPE:
            inv_freq[i] = 1.0f / (factors[i] * power);
            break;
        case ROPE_LLAMA3:
            inv_freq[i] = rotary_llama3(rope, 1.0f / power);
            break;
        }
    }
}

const float *rotary_of_call(const struct op_call *call, float *room)
{
    const struct op_attrs *attrs = call->attrs;
    const int64_t length = op_position(&call->scope, call->scope.tokens - 1) + 1;

    if (!attrs->rope || length <= rotary_same_up_to(attrs->rope))
        return attrs->inv_freq;
    rotary_inv_freq(attrs->rope, 2 * attrs->inv_freq_count, length, call->backend->numerics, room);
    return room;
}

/* The entry of x among [from, to) of the exceptions, or NULL. */
static const struct rotary_exception *rotary_exception(int from, int to, float x)
{
    const uint32_t key = f32_bits(x);

    while (from < to) {
        const int middle = from + (to - from) / 2;

        if (rotary_exceptions[middle].x == key)
            return &rotary_exceptions[middle];
        if (rotary_exceptions[middle].x < key)
            from = middle + 1;
        else
            to = middle;
    }
    return NULL;
}

/* NULL: not listed. */
static const struct rotary_scale *rotary_scale(float scale)
{
    for (size_t i = 0; i < sizeof(rotary_scales) / sizeof(rotary_scales[0]); i++)
        if (rotary_scales[i].scale == scale)
            return &rotary_scales[i];
    return NULL;
}

int rotary_is_listed(float scale)
{
    return rotary_scale(scale) != NULL;
}

/* PyTorch's f32 is one of the two around the exact value, no further from it than 0.6013 of what lies
 * between them, as measured; this takes a margin. */
static int is_unsure(double exact, float scale)
{
    const float near = (float)exact, other = nextafterf(near, exact > (double)near ? 2.0f : -2.0f);
    const double between = fabs((double)other - (double)near);

    return fabs(exact - (double)other) < 0.7 * between &&
           bf16_from_f32(near * scale) != bf16_from_f32(other * scale);
}

int64_t rotary_unsure(const float *inv_freq, int64_t pairs, float scale, int64_t positions,
                      int64_t *first)
{
    int64_t count = 0;

    for (int64_t position = 0; position < positions; position++)
        for (int64_t i = 0; i < pairs; i++) {
            const double angle = (double)((float)position * inv_freq[i]);
            const int found = is_unsure(cos(angle), scale) + is_unsure(sin(angle), scale);

            if (found && !count)
                *first = position;
            count += found;
        }
    return count;
}

bf16 rotary_cos(float x, float scale)
{
    const struct rotary_scale *s = rotary_scale(scale);
    const struct rotary_exception *e = s ? rotary_exception(s->cos, s->sin, x) : NULL;

    return e ? e->y : bf16_from_f32((float)cos((double)x) * scale);
}

bf16 rotary_sin(float x, float scale)
{
    const struct rotary_scale *s = rotary_scale(scale);
    const struct rotary_exception *e = s ? rotary_exception(s->sin, s->end, x) : NULL;

    return e ? e->y : bf16_from_f32((float)sin((double)x) * scale);
}
