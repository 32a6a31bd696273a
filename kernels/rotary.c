/* rotary.c - see rotary.h. */
#include "kernels/rotary.h"

#include <math.h>
#include <stddef.h>

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

void rotary_inv_freq(const struct rope_config *rope, int64_t dim, const struct numerics *numerics,
                     float *inv_freq)
{
    rotary_powers(rope->theta, dim, numerics->rotary_block, inv_freq);
    for (int64_t i = 0; i < dim / 2; i++) {
        const float inv = 1.0f / inv_freq[i];

        switch (rope->type) {
        case ROPE_DEFAULT:
            inv_freq[i] = inv;
            break;
        case ROPE_LINEAR:
            inv_freq[i] = inv / (float)rope->factor;
            break;
        case ROPE_LLAMA3:
            inv_freq[i] = rotary_llama3(rope, inv);
            break;
        }
    }
}

/* The entry of x, or NULL. */
static const struct rotary_exception *rotary_exception(const struct rotary_exception *table,
                                                       size_t count, float x)
{
    const uint32_t key = f32_bits(x);

    while (count) {
        const struct rotary_exception *middle = &table[count / 2];

        if (middle->x == key)
            return middle;
        if (middle->x < key) {
            table = middle + 1;
            count -= count / 2 + 1;
        } else {
            count /= 2;
        }
    }
    return NULL;
}

bf16 rotary_cos(float x)
{
    const struct rotary_exception *e = rotary_exception(
        rotary_cos_exceptions, sizeof(rotary_cos_exceptions) / sizeof(rotary_cos_exceptions[0]), x);

    return e ? e->y : bf16_from_f32((float)cos((double)x));
}

bf16 rotary_sin(float x)
{
    const struct rotary_exception *e = rotary_exception(
        rotary_sin_exceptions, sizeof(rotary_sin_exceptions) / sizeof(rotary_sin_exceptions[0]), x);

    return e ? e->y : bf16_from_f32((float)sin((double)x));
}
