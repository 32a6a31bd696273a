/* preset.h - when two numbers that are not equal are close enough: the rules of the libraries that people
 * know, to the bit.
 *
 *   bits           equal bits, and nothing else
 *   assert_close   torch.testing.assert_close(a, b, check_dtype=False): torch.isclose with the tolerances of
 *                  the dtype (of two dtypes, the larger ones)
 *   allclose       numpy.allclose(a, b): rtol 1e-5, atol 1e-8
 *
 * Both hold |a - b| <= atol + rtol |b|, computed in the dtypes that the library computes it in: of bf16
 * torch rounds each step to bf16, and numpy (with ml_dtypes) computes in binary64.  Mirrors ATen
 * native/TensorCompare.cpp isclose(), torch/testing/_comparison.py, numpy/_core/numeric.py isclose(). */
#ifndef SAMEBIT_PRESET_H
#define SAMEBIT_PRESET_H

#include "kernels/base/error.h"
#include "kernels/base/tensor.h"

enum preset_kind { PRESET_BITS, PRESET_ASSERT_CLOSE, PRESET_ALLCLOSE };

struct preset {
    enum preset_kind kind;
    double rtol, atol; /* negative: the library's own */
    int equal_nan;     /* NaN is close to NaN */
};

/* Reads a name and two numbers as text (NULL: not given).  Errors: 400 with the option. */
int preset_parse(const char *name, const char *rtol, const char *atol, struct preset *out,
                 struct error *err);
const char *preset_name(const struct preset *p);

/* The tolerances that hold between two dtypes. */
void preset_tolerances(const struct preset *p, enum dtype a, enum dtype b, double *rtol,
                       double *atol);

/* a, b: contiguous, of equal counts, both of floats or both I64.  Returns how many elements are not
 * close; first: the flat index of the first of them, else -1.  close (may be NULL): 1 or 0 for each. */
int64_t preset_failing(const struct preset *p, const struct tensor *a, const struct tensor *b,
                       int64_t *first, unsigned char *close);

#endif
