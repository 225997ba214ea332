/* What several kernels check of the values inside tensors, each with the same message. */
#ifndef SUMIX_CPU_CHECKS_H
#define SUMIX_CPU_CHECKS_H

#include "../kernels.h"

static inline int sumix_check_partners(const int64_t *perm, int64_t n, struct sumix_status *status)
{
  for (int64_t i = 0; i < n; i++)
    SUMIX_CHECK(perm[i] >= 0 && perm[i] < n, status, "perm[%lld] is %lld, expected 0 to %lld", (long long)i,
                (long long)perm[i], (long long)n - 1);
  return 0;
}

/* (n, 4), in images of height x width. */
static inline int sumix_check_boxes(const int64_t *boxes, int64_t n, int64_t height, int64_t width,
                                    struct sumix_status *status)
{
  for (int64_t i = 0; i < n; i++) {
    const int64_t x1 = boxes[4 * i], y1 = boxes[4 * i + 1], x2 = boxes[4 * i + 2], y2 = boxes[4 * i + 3];
    SUMIX_CHECK(0 <= x1 && x1 <= x2 && x2 <= width && 0 <= y1 && y1 <= y2 && y2 <= height, status,
                "box[%lld] is (%lld, %lld, %lld, %lld), expected 0 <= x1 <= x2 <= %lld and 0 <= y1 <= y2 <= %lld",
                (long long)i, (long long)x1, (long long)y1, (long long)x2, (long long)y2, (long long)width,
                (long long)height);
  }
  return 0;
}

static inline int sumix_check_lam(const float *lam, int64_t n, struct sumix_status *status)
{
  for (int64_t i = 0; i < n; i++)  // written so that NaN fails
    SUMIX_CHECK(lam[i] >= 0 && lam[i] <= 1, status, "lam[%lld] is %g, expected 0 to 1", (long long)i, (double)lam[i]);
  return 0;
}

#endif
