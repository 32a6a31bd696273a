/* products.c - linear, matmul_qk and matmul_pv: the numerics gives the order of the sums, and the
 * backend's table has a kernel for each order. */
#include "kernels/products.h"

#include "kernels/cpu/cpu.h"

static int run(const struct op_call *call, enum product_use use, const struct product_rule *rule)
{
    return cpu_of(call)->product[rule->kind][use](call, rule);
}

int cpu_linear(const struct op_call *call)
{
    const struct product_rule rule = product_rule_of_linear(call);

    return run(call, PRODUCT_OF_LINEAR, &rule);
}

int cpu_matmul_qk(const struct op_call *call)
{
    const struct product_rule rule = product_rule_of_qk(call);

    return run(call, PRODUCT_OF_QK, &rule);
}

int cpu_matmul_pv(const struct op_call *call)
{
    const struct product_rule rule = product_rule_of_pv(call);

    return run(call, PRODUCT_OF_PV, &rule);
}
