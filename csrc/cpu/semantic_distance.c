/* The semantic distance of SUMix (Qin et al., ECCV 2024): how far each class of the mixed image is from the raw one.
 *
 *   alpha = scale * d / ||d||_2,   d = softmax(p - m),   m = softmax(z),   p = softmax(r) with p[masked] = 0
 *
 * for z, r (n, k) the logits of the mixed and the raw images. alpha is large where the mix has lost what the raw image
 * showed. The published code has it the other way round, d = softmax(m - p): `published` reproduces that.
 */
#include <math.h>

#include "half.h"
#include "isa.h"
#include "parallel.h"

#define REAL float
#define SUFFIX(name) name##_f32
#define SQRT sqrtf
#include "softmax_rows.h"
#include "semantic_distance_rows.h"
#undef REAL
#undef SUFFIX
#undef SQRT

#define REAL double
#define SUFFIX(name) name##_f64
#define SQRT sqrt
#include "softmax_rows.h"
#include "semantic_distance_rows.h"

int SUMIX_KERNEL(semantic_distance)(const struct sumix_semantic_distance_args *a, struct sumix_status *status)
{
  for (int64_t i = 0; i < a->n; i++)
    SUMIX_CHECK(a->masked[i] >= -1 && a->masked[i] < a->k, status, "masked[%lld] is %lld, expected -1 to %lld",
                (long long)i, (long long)a->masked[i], (long long)a->k - 1);
  struct sumix_task task = {a, false};
  SUMIX_TRY(sumix_parallel_rows(a->n, 4 * a->k, a->dtype == SUMIX_FLOAT64 ? distance_rows_f64 : distance_rows_f32,
                                &task, status));
  if (task.failed) return sumix_out_of_memory(status);
  return 0;
}
