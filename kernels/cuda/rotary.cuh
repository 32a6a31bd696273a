/* rotary.cuh - the tables of cos and sin, of the numerics torch-cpu: made on the host, because
 * their bits are those of PyTorch's CPU code (kernels/rotary.h), and kept there. */
#ifndef SAMEBIT_CUDA_ROTARY_CUH
#define SAMEBIT_CUDA_ROTARY_CUH

struct rotary_tables;

struct rotary_tables *rotary_tables_open(void); /* NULL when there is no memory */
void rotary_tables_close(struct rotary_tables *tables);

#endif
