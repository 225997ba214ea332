/* The semantic distance on CUDA: the formulas of csrc/cpu/semantic_distance.c.
 *
 *   alpha = scale * e / ||e||_2,   e = exp(sign (softmax(r) - softmax(z))), softmax(r) without the class `masked`
 *
 * One launch. Device memory sees one read of each row of z and r and one write of alpha, the least there can be; the
 * rows of up to 4096 classes (2048 of float64) stay in registers, longer ones are read twice more from the cache. Two
 * exchanges between the threads of a row: both softmaxes, then the norm.
 */
#include "distance.cuh"

namespace
{

template <typename element, bool resident>
__global__ void __launch_bounds__(sumix_row_threads<typename sumix_compute<element>::real>::most, 1)
    semantic_distance_rows(struct sumix_semantic_distance_args a, int width, bool vectors)
{
  typedef typename sumix_compute<element>::real real;
  struct sumix_row_reducer<real> over = {(struct sumix_row_scratch<real> *)SUMIX_DYNAMIC_SHARED(), width, 0};
  const struct sumix_row_group group = sumix_row_group_of(a.k, width, vectors);
  const int64_t n = a.n, k = a.k, a_block = blockDim.x / width, visits = sumix_visits<resident>(&group);
  const real sign = a.published ? -1 : 1;
  for (int64_t first = blockIdx.x * a_block; first < n; first += gridDim.x * a_block) {
    const int64_t row = first + threadIdx.x / width, i = row < n ? row : n - 1;  // all lanes take part in exchanges
    const int64_t masked = a.masked[i];
    assert(masked >= -1 && masked < k && "masked is out of range");
    struct sumix_softmax<element> softmaxes[2] = {
      {(const element *)a.z + i * k, -1, -1, 0, 0, 0, 0}, {(const element *)a.r + i * k, masked, -1, 0, 0, 0, 0}
    };
    real x[2][SUMIX_VISIT], norm;
    sumix_softmaxes<resident, 2>(&group, &over, softmaxes, x);
    sumix_distance_norms<resident, resident, 1>(&group, &over, softmaxes, sign, x, &norm, (real *)NULL);
    const real scale = (real)a.scale / norm;
    for (int64_t number = 0; number < visits; number++) {
      const struct sumix_visit visit = sumix_visit_of(&group, number);
      if (!resident) sumix_distances<false, false, 1>(&group, &visit, softmaxes, sign, x);
      for (int c = 0; c < SUMIX_VISIT; c++) x[1][c] *= scale;
      if (row < n) sumix_store_visit(&group, &visit, x[1], (element *)a.alpha + i * k);
    }
  }
}

struct launch {
  template <typename element> static void run(const struct sumix_semantic_distance_args *a, void *stream)
  {
    const struct sumix_row_plan plan = sumix_plan_rows<typename sumix_compute<element>::real>(a->k);
    const int64_t bytes = sumix_visit_bytes<element>();
    const bool vectors =
        sumix_is_aligned(a->z, bytes) && sumix_is_aligned(a->r, bytes) && sumix_is_aligned(a->alpha, bytes);
    const size_t shared = sizeof(struct sumix_row_scratch<typename sumix_compute<element>::real>);
    const unsigned grid = sumix_grid(a->n, plan.threads / plan.width);
    if (plan.resident)
      SUMIX_LAUNCH((semantic_distance_rows<element, true>), grid, plan.threads, shared, stream, *a, (int)plan.width,
                   vectors);
    else
      SUMIX_LAUNCH((semantic_distance_rows<element, false>), grid, plan.threads, shared, stream, *a, (int)plan.width,
                   vectors);
  }
};

}  // namespace

extern "C" int sumix_semantic_distance_cuda(const struct sumix_semantic_distance_args *a, void *stream)
{
  if (a->n == 0) return 0;
  sumix_by_floating<launch>(a->dtype, a, stream);
  return (int)cudaGetLastError();
}
