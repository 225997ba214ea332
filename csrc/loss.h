/* Formulas of the loss for one sample, for CPU and CUDA. */
#ifndef SUMIX_LOSS_H
#define SUMIX_LOSS_H

#include <math.h>

#include "maths.h"

/* What the own label, the partner's label and all classes evenly weigh in a sample's classification term. */
struct sumix_loss_weights {
  double own, other, rest;
};

/* lam~ = w_a / (w_a + w_b) with w_a = lam exp(-own), w_b = (1 - lam) exp(-other): the sigmoid of the logarithm of their
 * ratio, finite for distances of any size. */
static inline SUMIX_HD float sumix_mix_ratio_f32(float lam, float own, float other)
{
  return 1 / (1 + expf(logf((1 - lam) / lam) + own - other));
}

static inline SUMIX_HD double sumix_mix_ratio_f64(double lam, double own, double other)
{
  return 1 / (1 + exp(log((1 - lam) / lam) + own - other));
}

#endif
