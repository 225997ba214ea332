/* The normalised uncertainty of SUMix (Qin et al., ECCV 2024): a softmax brought to unit length.
 *
 *   u = q / ||q||_2,  q = softmax(x)
 *
 * The softmax's own denominator cancels, so with e_j = exp(x_j - max x)
 *
 *   u_j = e_j / sqrt(sum_k e_k^2)                      forward: one exp an element, no sum of e
 *   dL/dx_j = u_j (g_j - u_j sum_k g_k u_k)            backward: from u and g = dL/du alone
 *
 * Rows are independent: one pass finds the maximum, one writes e and sums its squares, one scales.
 */
#include <math.h>

#include "half.h"
#include "isa.h"
#include "parallel.h"

#define REAL float
#define SUFFIX(name) name##_f32
#define SQRT sqrtf
#include "uncertainty_rows.h"

#define REAL double
#define SUFFIX(name) name##_f64
#define SQRT sqrt
#include "uncertainty_rows.h"

static int run(enum sumix_dtype dtype, int64_t n, int64_t k, ParallelFunc f32, ParallelFunc f64, const void *args,
               struct sumix_status *status)
{
  struct sumix_task task = {args, false};
  SUMIX_TRY(sumix_parallel_rows(n, k, dtype == SUMIX_FLOAT64 ? f64 : f32, &task, status));
  if (task.failed) return sumix_out_of_memory(status);
  return 0;
}

int SUMIX_KERNEL(uncertainty)(const struct sumix_uncertainty_args *a, struct sumix_status *status)
{
  return run(a->dtype, a->n, a->k, forward_rows_f32, forward_rows_f64, a, status);
}

int SUMIX_KERNEL(uncertainty_backward)(const struct sumix_uncertainty_backward_args *a, struct sumix_status *status)
{
  return run(a->dtype, a->n, a->k, backward_rows_f32, backward_rows_f64, a, status);
}
