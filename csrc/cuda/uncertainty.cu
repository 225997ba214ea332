/* Normalised uncertainty on CUDA: the formulas of csrc/cpu/uncertainty.c, a block a row.
 *
 *   u = e / ||e||_2, e = exp(x - max x);   grad_x = u (grad_u - u <u, grad_u>)
 *
 * One launch each way. Device memory sees one read and one write of each row, the least there can be; what a row needs
 * again comes from the caches.
 */
#include "common.cuh"

namespace
{

enum { THREADS = 128 };

template <typename element> __global__ void __launch_bounds__(THREADS)
    uncertainty_forward(int64_t n, int64_t k, const element *__restrict__ x, element *__restrict__ u)
{
  typedef typename sumix_compute<element>::real real;
  __shared__ real scratch[SUMIX_WARP];
  for (int64_t i = blockIdx.x; i < n; i += gridDim.x) {
    const element *row = x + i * k;

    real max = sumix_to_real(row[0]);
    for (int64_t j = threadIdx.x; j < k; j += blockDim.x) max = sumix_max()(sumix_to_real(row[j]), max);
    max = sumix_block_reduce(max, sumix_max(), scratch);

    real squares = 0;
    for (int64_t j = threadIdx.x; j < k; j += blockDim.x) {
      const real e = sumix_exp(sumix_to_real(row[j]) - max);
      squares += e * e;
    }
    const real scale = 1 / sumix_sqrt(sumix_block_reduce(squares, sumix_sum(), scratch));
    for (int64_t j = threadIdx.x; j < k; j += blockDim.x)
      sumix_from_real(sumix_exp(sumix_to_real(row[j]) - max) * scale, &u[i * k + j]);
  }
}

template <typename element> __global__ void __launch_bounds__(THREADS)
    uncertainty_backward(int64_t n, int64_t k, const element *__restrict__ u, const element *__restrict__ grad_u,
                         element *__restrict__ grad_x)
{
  typedef typename sumix_compute<element>::real real;
  __shared__ real scratch[SUMIX_WARP];
  for (int64_t i = blockIdx.x; i < n; i += gridDim.x) {
    real dot = 0;
    for (int64_t j = threadIdx.x; j < k; j += blockDim.x)
      dot += sumix_to_real(u[i * k + j]) * sumix_to_real(grad_u[i * k + j]);
    dot = sumix_block_reduce(dot, sumix_sum(), scratch);
    for (int64_t j = threadIdx.x; j < k; j += blockDim.x) {
      const real at = sumix_to_real(u[i * k + j]);
      sumix_from_real(at * (sumix_to_real(grad_u[i * k + j]) - at * dot), &grad_x[i * k + j]);
    }
  }
}

struct forward {
  template <typename element> static void run(const struct sumix_uncertainty_args *a, void *stream)
  {
    SUMIX_LAUNCH(uncertainty_forward<element>, sumix_grid(a->n, 1), THREADS, 0, stream, a->n, a->k,
                 (const element *)a->x, (element *)a->u);
  }
};
struct backward {
  template <typename element> static void run(const struct sumix_uncertainty_backward_args *a, void *stream)
  {
    SUMIX_LAUNCH(uncertainty_backward<element>, sumix_grid(a->n, 1), THREADS, 0, stream, a->n, a->k,
                 (const element *)a->u, (const element *)a->grad_u, (element *)a->grad_x);
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
