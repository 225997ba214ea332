/* The backward of loss.cu: what forward left, times the incoming gradient.
 *
 * One launch. One scalar for all: the gradients are three flat arrays, in 16-byte accesses. One for each sample: a
 * block a row, and a row of the raw uncertainty also gathers from every sample it was pasted into, in ascending order.
 * Either way device memory sees one read of each array that forward left and one write of each result.
 */
#ifndef SUMIX_CUDA_LOSS_BACKWARD_CUH
#define SUMIX_CUDA_LOSS_BACKWARD_CUH

#include "rows.cuh"

namespace
{

enum { LOSS_BACKWARD_THREADS = 256 };

/* Elements begin .. begin + count of three arrays, in vectors of SUMIX_VISIT. grad_v, out_v may be NULL. */
template <typename element> __global__ void __launch_bounds__(LOSS_BACKWARD_THREADS)
    loss_scale(struct sumix_loss_backward_args a, int64_t count, bool vectors)
{
  typedef typename sumix_compute<element>::real real;
  const void *const from[3] = {a.grad_z, a.grad_u, a.grad_v};
  void *const to[3] = {a.out_z, a.out_u, a.out_v};
  const real g = *(const real *)a.grad_loss;
  /* One row as long as everything. */
  const struct sumix_row_group group = {count, (int)blockDim.x, (int)threadIdx.x, vectors};
  const int64_t visits = sumix_visits<false>(&group);
  for (int64_t number = blockIdx.x; number < visits; number += gridDim.x) {
    const struct sumix_visit visit = sumix_visit_of(&group, number);
#pragma unroll
    for (int array = 0; array < 3; array++) {
      real x[SUMIX_VISIT];
      if (from[array] == NULL) continue;
      sumix_load_visit(&group, &visit, (const real *)from[array], x);
      for (int e = 0; e < SUMIX_VISIT; e++) x[e] *= g;
      sumix_store_visit(&group, &visit, x, (element *)to[array]);
    }
  }
}

template <typename element> __global__ void __launch_bounds__(1024)
    loss_scale_samples(struct sumix_loss_backward_args a, bool vectors)
{
  typedef typename sumix_compute<element>::real real;
  int64_t *const scratch = (int64_t *)SUMIX_DYNAMIC_SHARED();
  const struct sumix_row_group group = sumix_row_group_of(a.k, blockDim.x, vectors);
  const real *const grad_loss = (const real *)a.grad_loss;
  const int64_t k = a.k, visits = sumix_visits<false>(&group);
  for (int64_t i = blockIdx.x; i < a.n; i += gridDim.x) {
    assert(a.perm[i] >= 0 && a.perm[i] < a.n && "perm is out of range");
    const real g = grad_loss[i];
    for (int64_t number = 0; number < visits; number++) {
      const struct sumix_visit visit = sumix_visit_of(&group, number);
      real z[SUMIX_VISIT], v[SUMIX_VISIT], u[SUMIX_VISIT];
      sumix_load_visit(&group, &visit, (const real *)a.grad_z + i * k, z);
      if (a.grad_v != NULL) sumix_load_visit(&group, &visit, (const real *)a.grad_v + i * k, v);
      sumix_load_visit(&group, &visit, (const real *)a.grad_u + i * k, u);
      for (int e = 0; e < SUMIX_VISIT; e++) z[e] *= g;
      sumix_store_visit(&group, &visit, z, (element *)a.out_z + i * k);
      if (a.grad_v != NULL) {
        for (int e = 0; e < SUMIX_VISIT; e++) v[e] *= g;
        sumix_store_visit(&group, &visit, v, (element *)a.out_v + i * k);
      }
      for (int e = 0; e < SUMIX_VISIT; e++) u[e] *= g;
      for (int64_t j = 0; (j = sumix_next_taker(a.perm, a.n, j, i, scratch)) < a.n; j++) {
        real partner[SUMIX_VISIT];
        const real g_j = grad_loss[j];
        sumix_load_visit(&group, &visit, (const real *)a.grad_partner + j * k, partner);
        for (int e = 0; e < SUMIX_VISIT; e++) u[e] += partner[e] * g_j;
      }
      sumix_store_visit(&group, &visit, u, (element *)a.out_u + i * k);
    }
  }
}

struct backward {
  template <typename element> static void run(const struct sumix_loss_backward_args *a, void *stream)
  {
    typedef typename sumix_compute<element>::real real;
    const int64_t bytes = sumix_visit_bytes<real>(), out_bytes = sumix_visit_bytes<element>();
    const int64_t count = a->n * a->k, a_block = (int64_t)SUMIX_VISIT * LOSS_BACKWARD_THREADS;
    const bool aligned = sumix_is_aligned(a->grad_z, bytes) && sumix_is_aligned(a->grad_v, bytes) &&
                         sumix_is_aligned(a->grad_u, bytes) && sumix_is_aligned(a->grad_partner, bytes) &&
                         sumix_is_aligned(a->out_z, out_bytes) && sumix_is_aligned(a->out_v, out_bytes) &&
                         sumix_is_aligned(a->out_u, out_bytes);
    if (a->per_sample)
      SUMIX_LAUNCH(loss_scale_samples<element>, sumix_grid(a->n, 1), sumix_plan_blocks(a->k, 1024).threads,
                   SUMIX_WARP * sizeof(int64_t), stream, *a, aligned);
    else
      SUMIX_LAUNCH(loss_scale<element>, sumix_grid(count, a_block), LOSS_BACKWARD_THREADS, 0, stream, *a, count,
                   aligned && count % SUMIX_VISIT == 0);
  }
};

}  // namespace

#endif
