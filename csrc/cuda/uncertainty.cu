/* Normalised uncertainty on CUDA: the formulas of csrc/cpu/uncertainty.c.
 *
 *   u = e / ||e||_2, e = exp(x - max x);   grad_x = u (grad_u - u <u, grad_u>)
 *
 * One launch each way. Device memory sees one read of each input row and one write of each output row, the least there
 * can be: up to 4096 classes (2048 of float64) a row stays in the registers of its threads, part of a warp, a warp or a
 * block, and longer ones are read a second time from the cache. One exchange between the threads of a row: the maximum
 * and the sum of squares travel together (rows.cuh).
 */
#include "rows.cuh"

namespace
{

template <typename element, bool resident>
__global__ void __launch_bounds__(sumix_row_threads<typename sumix_compute<element>::real>::most, 1)
    uncertainty_forward(int64_t n, int64_t k, int width, bool vectors, const element *__restrict__ x,
                        element *__restrict__ u)
{
  typedef typename sumix_compute<element>::real real;
  struct sumix_row_reducer<real> over = {(struct sumix_row_scratch<real> *)SUMIX_DYNAMIC_SHARED(), width, 0};
  const struct sumix_row_group group = sumix_row_group_of(k, width, vectors);
  const int64_t a_block = blockDim.x / width, visits = sumix_visits<resident>(&group);
  for (int64_t first = blockIdx.x * a_block; first < n; first += gridDim.x * a_block) {
    const int64_t row = first + threadIdx.x / width, i = row < n ? row : n - 1;  // all lanes take part in exchanges
    real e[SUMIX_VISIT], max, squares;
    sumix_thread_softmax<resident, 2>(&group, x + i * k, &max, &squares, e);
    const real own_max = max;
    sumix_row_softmaxes<1, 2>(&over, &max, &squares);
    const real scale = 1 / sumix_sqrt(squares), own_scale = scale * sumix_exp(own_max - max);
    for (int64_t number = 0; number < visits; number++) {
      const struct sumix_visit visit = sumix_visit_of(&group, number);
      if (!resident) sumix_load_visit(&group, &visit, x + i * k, e);
      for (int c = 0; c < SUMIX_VISIT; c++) e[c] = resident ? e[c] * own_scale : sumix_exp(e[c] - max) * scale;
      if (row < n) sumix_store_visit(&group, &visit, e, u + i * k);
    }
  }
}

template <typename element, bool resident>
__global__ void __launch_bounds__(sumix_row_threads<typename sumix_compute<element>::real>::most, 1)
    uncertainty_backward(int64_t n, int64_t k, int width, bool vectors, const element *__restrict__ u,
                         const element *__restrict__ grad_u, element *__restrict__ grad_x)
{
  typedef typename sumix_compute<element>::real real;
  struct sumix_row_reducer<real> over = {(struct sumix_row_scratch<real> *)SUMIX_DYNAMIC_SHARED(), width, 0};
  const struct sumix_row_group group = sumix_row_group_of(k, width, vectors);
  const int64_t a_block = blockDim.x / width, visits = sumix_visits<resident>(&group);
  for (int64_t first = blockIdx.x * a_block; first < n; first += gridDim.x * a_block) {
    const int64_t row = first + threadIdx.x / width, i = row < n ? row : n - 1;
    real at[SUMIX_VISIT], g[SUMIX_VISIT], dot = 0;
    for (int64_t number = 0; number < visits; number++) {
      const struct sumix_visit visit = sumix_visit_of(&group, number);
      sumix_load_visit(&group, &visit, u + i * k, at);
      sumix_load_visit(&group, &visit, grad_u + i * k, g);
      for (int c = 0; c < SUMIX_VISIT; c++) dot += at[c] * g[c];
    }
    sumix_row_sums<1>(&over, &dot);
    for (int64_t number = 0; number < visits; number++) {
      const struct sumix_visit visit = sumix_visit_of(&group, number);
      if (!resident) sumix_load_visit(&group, &visit, u + i * k, at);
      if (!resident) sumix_load_visit(&group, &visit, grad_u + i * k, g);
      for (int c = 0; c < SUMIX_VISIT; c++) g[c] = at[c] * (g[c] - at[c] * dot);
      if (row < n) sumix_store_visit(&group, &visit, g, grad_x + i * k);
    }
  }
}

struct forward {
  template <typename element> static void run(const struct sumix_uncertainty_args *a, void *stream)
  {
    const struct sumix_row_plan plan = sumix_plan_rows<typename sumix_compute<element>::real>(a->k);
    const int64_t bytes = sumix_visit_bytes<element>();
    const bool vectors = sumix_is_aligned(a->x, bytes) && sumix_is_aligned(a->u, bytes);
    const size_t shared = sizeof(struct sumix_row_scratch<typename sumix_compute<element>::real>);
    const unsigned grid = sumix_grid(a->n, plan.threads / plan.width);
    if (plan.resident)
      SUMIX_LAUNCH((uncertainty_forward<element, true>), grid, plan.threads, shared, stream, a->n, a->k,
                   (int)plan.width, vectors, (const element *)a->x, (element *)a->u);
    else
      SUMIX_LAUNCH((uncertainty_forward<element, false>), grid, plan.threads, shared, stream, a->n, a->k,
                   (int)plan.width, vectors, (const element *)a->x, (element *)a->u);
  }
};
struct backward {
  template <typename element> static void run(const struct sumix_uncertainty_backward_args *a, void *stream)
  {
    const struct sumix_row_plan plan = sumix_plan_rows<typename sumix_compute<element>::real>(a->k);
    const int64_t bytes = sumix_visit_bytes<element>();
    const bool vectors =
        sumix_is_aligned(a->u, bytes) && sumix_is_aligned(a->grad_u, bytes) && sumix_is_aligned(a->grad_x, bytes);
    const size_t shared = sizeof(struct sumix_row_scratch<typename sumix_compute<element>::real>);
    const unsigned grid = sumix_grid(a->n, plan.threads / plan.width);
    if (plan.resident)
      SUMIX_LAUNCH((uncertainty_backward<element, true>), grid, plan.threads, shared, stream, a->n, a->k,
                   (int)plan.width, vectors, (const element *)a->u, (const element *)a->grad_u, (element *)a->grad_x);
    else
      SUMIX_LAUNCH((uncertainty_backward<element, false>), grid, plan.threads, shared, stream, a->n, a->k,
                   (int)plan.width, vectors, (const element *)a->u, (const element *)a->grad_u, (element *)a->grad_x);
  }
};

}  // namespace

extern "C" int sumix_uncertainty_cuda(const struct sumix_uncertainty_args *a, void *stream)
{
  if (a->n == 0) return 0;
  sumix_by_floating<forward>(a->dtype, a, stream);
  return (int)cudaGetLastError();
}

extern "C" int sumix_uncertainty_backward_cuda(const struct sumix_uncertainty_backward_args *a, void *stream)
{
  if (a->n == 0) return 0;
  sumix_by_floating<backward>(a->dtype, a, stream);
  return (int)cudaGetLastError();
}
