#ifndef SUMIX_ARGS_LOSS_H
#define SUMIX_ARGS_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../dtype.h"
#include "../maths.h"

enum sumix_ratio { SUMIX_RATIO_AREA, SUMIX_RATIO_PUBLISHED, SUMIX_RATIO_SEMANTIC, SUMIX_NUM_RATIOS };
enum sumix_weighting { SUMIX_WEIGHTING_SAMPLE, SUMIX_WEIGHTING_BATCH, SUMIX_NUM_WEIGHTINGS };
enum sumix_reduction { SUMIX_REDUCTION_NONE, SUMIX_REDUCTION_MEAN, SUMIX_REDUCTION_SUM, SUMIX_NUM_REDUCTIONS };

/* The SUMix loss and its gradients. Plain form: v and u are NULL, and z and r stand in for them. */
struct sumix_loss_args {
  enum sumix_dtype dtype;
  enum sumix_ratio ratio;
  enum sumix_weighting weighting;
  enum sumix_reduction reduction;
  int64_t n, k;
  const void *z, *r;                     // (n, k): logits of the mixed and of the raw images
  const void *v, *u;                     // (n, k): uncertainty of the mixed and of the raw images, or NULL
  const int64_t *y_a, *y_b;              // (n)
  const int64_t *perm;                   // (n)
  const void *lam;                       // (n) real
  const void *class_weight;              // (k) real, or NULL
  const void *learned;                   // (n) real: lam~ found elsewhere, with SUMIX_RATIO_AREA; or NULL
  const void *label_weights;             // (n, 3) real, in place of lam~, 1 - lam~ and 0, likewise; or NULL
  double gamma, scale, label_smoothing;  // scale below 0: n
  int64_t ignore_index;
  void *loss;   // () real, or (n) for SUMIX_REDUCTION_NONE
  void *parts;  // (3, n) real: lam~, classification term, regulariser
  /* (n, k) real, or NULL where no gradient is wanted. grad_v is NULL in the plain form, where its share goes to grad_z,
   * and grad_u's to the gradient of r. For SUMIX_REDUCTION_NONE grad_u holds sample i's own share and grad_partner the
   * share of u[perm[i]]; otherwise grad_u holds their sum and grad_partner is NULL. */
  void *grad_z, *grad_v, *grad_u, *grad_partner;
  void *scratch;  // CUDA: sumix_loss_scratch(a) bytes
};

/* Whether a launch of its own is to find lam~ of every sample: where what all rows share depends on them. */
static inline SUMIX_HD bool sumix_loss_needs_ratios(const struct sumix_loss_args *a)
{
  const bool weighted_mean = a->class_weight != NULL && a->reduction == SUMIX_REDUCTION_MEAN;
  return a->ratio != SUMIX_RATIO_AREA && (weighted_mean || a->weighting == SUMIX_WEIGHTING_BATCH);
}

/* Six doubles where one block is to find what all rows share. Up to 1024 samples each row's block does that itself
 * where it takes a look at the labels alone: 20 bytes a sample from the first cache, faster than another launch. */
static inline SUMIX_HD int64_t sumix_loss_scratch(const struct sumix_loss_args *a)
{
  const bool weighted_mean = a->class_weight != NULL && a->reduction == SUMIX_REDUCTION_MEAN;
  const bool long_mean = a->n > 1024 && a->reduction == SUMIX_REDUCTION_MEAN;
  return weighted_mean || long_mean || a->weighting == SUMIX_WEIGHTING_BATCH ? 6 * (int64_t)sizeof(double) : 0;
}

/* Scales what sumix_loss left by the incoming gradient: one scalar, or (n) where the loss was not reduced. */
struct sumix_loss_backward_args {
  enum sumix_dtype dtype;  // of the outputs
  bool per_sample;
  int64_t n, k;
  const void *grad_loss;                                // () or (n) real
  const int64_t *perm;                                  // (n)
  const void *grad_z, *grad_v, *grad_u, *grad_partner;  // (n, k) real; grad_v NULL in the plain form
  void *out_z, *out_v, *out_u;                          // (n, k) dtype; out_v NULL in the plain form
};

#endif
