/* What one sample of the loss is made of, and what its means divide by: loss.cu has the formulas. */
#ifndef SUMIX_CUDA_LOSS_SAMPLE_CUH
#define SUMIX_CUDA_LOSS_SAMPLE_CUH

#include "../loss.h"
#include "distance.cuh"

namespace
{

__device__ inline float sumix_mix_ratio(float lam, float a, float b) { return sumix_mix_ratio_f32(lam, a, b); }
__device__ inline double sumix_mix_ratio(double lam, double a, double b) { return sumix_mix_ratio_f64(lam, a, b); }

template <typename real> struct loss_sample {
  int64_t y_a, y_b;  // -1 where the label is ignored
  real lam;
};

/* Sample j as it stands: for those whose own block looks at the values. */
template <typename real> __device__ struct loss_sample<real> loss_sample_of(const struct sumix_loss_args *a, int64_t j)
{
  const int64_t y_a = a->y_a[j], y_b = a->y_b[j];
  struct loss_sample<real> sample = {
    y_a == a->ignore_index ? -1 : y_a, y_b == a->ignore_index ? -1 : y_b, ((const real *)a->lam)[j]
  };
  return sample;
}

template <typename real>
__device__ struct loss_sample<real> loss_checked_sample_of(const struct sumix_loss_args *a, int64_t j)
{
  const int64_t y_a = a->y_a[j], y_b = a->y_b[j], perm = a->perm[j];
  const real lam = ((const real *)a->lam)[j], learned = a->learned != NULL ? ((const real *)a->learned)[j] : lam;
  assert((y_a == a->ignore_index || (y_a >= 0 && y_a < a->k)) && "y_a is out of range");
  assert((y_b == a->ignore_index || (y_b >= 0 && y_b < a->k)) && "y_b is out of range");
  assert(perm >= 0 && perm < a->n && "perm is out of range");
  assert(lam >= 0 && lam <= 1 && "lam is out of range");  // NaN is, too
  assert(!(learned < 0 || learned > 1) && "learned is out of range");
  return loss_sample_of<real>(a, j);
}

/* lam~ where no distance decides it, or one that another launch has found. One label alone says nothing of the other:
 * then it is lam. */
template <typename real>
__device__ real loss_known_ratio(const struct sumix_loss_args *a, const struct loss_sample<real> *sample, int64_t j)
{
  if (sample->y_a < 0 || sample->y_b < 0) return sample->lam;
  if (a->ratio != SUMIX_RATIO_AREA) return ((const real *)a->parts)[j];
  return a->learned != NULL ? ((const real *)a->learned)[j] : sample->lam;
}

/* ---- What a whole batch shares ---- */

/* In the launch's scratch, where one block finds it for all. */
struct loss_totals {
  double classification, regulariser;  // what the means divide by; 1 for other reductions
  double batch_ratio;                  // the mean of lam~, which weighting "batch" uses
  double some;                         // 0 if every label is ignored
};

/* By a whole block, in a fixed order. lam~ of a sample with both labels enters by its sum with 1 - lam~ alone, unless
 * there are class weights or weighting is "batch": only then must parts hold the ratios. */
template <typename real>
__device__ struct loss_totals loss_find_totals(const struct sumix_loss_args *a, double *scratch)
{
  const int64_t n = a->n;
  const bool mean = a->reduction == SUMIX_REDUCTION_MEAN, batch = a->weighting == SUMIX_WEIGHTING_BATCH;
  struct loss_totals totals = {mean ? (double)n : 1, mean ? (double)n : 1, 0, 1};
  if (!mean && !batch) return totals;
  bool uneven = a->class_weight != NULL;
  double ratios = 0, count = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const struct loss_sample<real> sample = loss_sample_of<real>(a, i);
    uneven = uneven || sample.y_a < 0 || sample.y_b < 0;
    if (!batch || (sample.y_a < 0 && sample.y_b < 0)) continue;
    ratios += loss_known_ratio<real>(a, &sample, i);
    count++;
  }
  if (batch) {
    ratios = sumix_block_reduce(ratios, sumix_sum(), scratch);
    totals.batch_ratio = ratios / sumix_block_reduce(count, sumix_sum(), scratch);
  }
  if (!__syncthreads_or(uneven) || !mean) return totals;

  double classification = 0, regulariser = 0, some = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const struct loss_sample<real> sample = loss_sample_of<real>(a, i);
    const real *const weight = (const real *)a->class_weight;
    double ratio = sample.lam;
    if (batch)
      ratio = totals.batch_ratio;
    else if (weight != NULL)
      ratio = loss_known_ratio<real>(a, &sample, i);
    if (sample.y_a >= 0) {
      assert(sample.y_a < a->k && "y_a is out of range");
      classification += (weight != NULL ? weight[sample.y_a] : (real)1) * ratio;
      regulariser += sample.lam;
      some = 1;
    }
    if (sample.y_b >= 0) {
      assert(sample.y_b < a->k && "y_b is out of range");
      classification += (weight != NULL ? weight[sample.y_b] : (real)1) * (1 - ratio);
      regulariser += 1 - (double)sample.lam;
      some = 1;
    }
  }
  totals.classification = sumix_block_reduce(classification, sumix_sum(), scratch);
  totals.regulariser = sumix_block_reduce(regulariser, sumix_sum(), scratch);
  totals.some = sumix_block_reduce(some, sumix_max(), scratch);
  return totals;
}

}  // namespace

#endif
