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
  for (int t = 0; t < 3 && a->label_weights != NULL; t++) {
    const real part = ((const real *)a->label_weights)[3 * j + t];
    assert(!(part < 0 || part > 1) && "learned is out of range");
  }
  return loss_sample_of<real>(a, j);
}

/* lam~ where no distance decides it, or one that another launch has found. One label alone says nothing of the other:
 * then it is lam. */
template <typename real>
__device__ real loss_known_ratio(const struct sumix_loss_args *a, const struct loss_sample<real> *sample, int64_t j)
{
  if (sample->y_a < 0 || sample->y_b < 0) return sample->lam;
  if (a->ratio != SUMIX_RATIO_AREA) return ((const real *)a->parts)[j];
  if (a->label_weights != NULL) return ((const real *)a->label_weights)[3 * j];
  return a->learned != NULL ? ((const real *)a->learned)[j] : sample->lam;
}

/* What the own label, the partner's label and all classes evenly weigh. */
template <typename real> struct loss_weights {
  real own, other, rest;
};

/* Label weights found elsewhere are those of both labels: one label alone has none of the rest. */
template <typename real>
__device__ bool loss_has_rest(const struct sumix_loss_args *a, const struct loss_sample<real> *sample)
{
  return a->label_weights != NULL && sample->y_a >= 0 && sample->y_b >= 0;
}

template <typename real> __device__ struct loss_weights<real> loss_weights_of(const struct sumix_loss_args *a,
                                                                              const struct loss_sample<real> *sample,
                                                                              real ratio, int64_t j)
{
  struct loss_weights<real> w = {ratio, 1 - ratio, 0};
  if (!loss_has_rest(a, sample)) return w;
  const real *const given = (const real *)a->label_weights + 3 * j;
  w.own = given[0], w.other = given[1], w.rest = given[2];
  return w;
}

/* ---- What a whole batch shares ---- */

/* In the launch's scratch, where one block finds it for all. */
struct loss_totals {
  double classification, regulariser;  // what the means divide by; 1 for other reductions
  double own, other, rest;             // the means of all samples' weights, which weighting "batch" uses
  double some;                         // 0 if every label is ignored
};

/* What weighting "batch" uses for all samples. Read where it is used: a row's block has no registers to keep it in. */
template <typename real> __device__ struct loss_weights<real> loss_batch_weights(const struct sumix_loss_args *a)
{
  const struct loss_totals *const totals = (const struct loss_totals *)a->scratch;
  const real own = (real)totals->own;
  struct loss_weights<real> w = {
    own, a->label_weights != NULL ? (real)totals->other : 1 - own, (real)totals->rest
  };
  return w;
}

/* By a whole block, in a fixed order. lam~ of a sample with both labels enters by its sum with 1 - lam~ alone, unless
 * there are class weights or weighting is "batch": only then must parts hold the ratios. */
template <typename real>
__device__ struct loss_totals loss_find_totals(const struct sumix_loss_args *a, double *scratch)
{
  const int64_t n = a->n;
  const bool mean = a->reduction == SUMIX_REDUCTION_MEAN, batch = a->weighting == SUMIX_WEIGHTING_BATCH;
  struct loss_totals totals = {mean ? (double)n : 1, mean ? (double)n : 1, 0, 0, 0, 1};
  if (!mean && !batch) return totals;
  bool uneven = a->class_weight != NULL;
  double ratios = 0, others = 0, rests = 0, count = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const struct loss_sample<real> sample = loss_sample_of<real>(a, i);
    uneven = uneven || sample.y_a < 0 || sample.y_b < 0;
    if (!batch || (sample.y_a < 0 && sample.y_b < 0)) continue;
    const real ratio = loss_known_ratio<real>(a, &sample, i);
    ratios += ratio;
    count++;
    if (a->label_weights == NULL) continue;
    const struct loss_weights<real> w = loss_weights_of<real>(a, &sample, ratio, i);
    others += w.other;
    rests += w.rest;
  }
  if (batch) {
    ratios = sumix_block_reduce(ratios, sumix_sum(), scratch);
    count = sumix_block_reduce(count, sumix_sum(), scratch);
    totals.own = ratios / count;
    totals.other = 1 - totals.own;
    if (a->label_weights != NULL) {
      totals.other = sumix_block_reduce(others, sumix_sum(), scratch) / count;
      totals.rest = sumix_block_reduce(rests, sumix_sum(), scratch) / count;
    }
  }
  if (!__syncthreads_or(uneven) || !mean) return totals;

  double classification = 0, regulariser = 0, some = 0, mean_weight = 1;
  const real *const weight = (const real *)a->class_weight;
  if (weight != NULL && a->label_weights != NULL) {
    double sum = 0;
    for (int64_t k = threadIdx.x; k < a->k; k += blockDim.x) sum += weight[k];
    mean_weight = sumix_block_reduce(sum, sumix_sum(), scratch) / (double)a->k;
  }
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const struct loss_sample<real> sample = loss_sample_of<real>(a, i);
    const bool three = loss_has_rest(a, &sample);
    double own = sample.lam, other = 1 - own,
           rest = 0;  // without class weights both labels count 1, whatever they weigh
    if (batch && !(three && weight == NULL)) {
      own = totals.own, other = totals.other, rest = three ? totals.rest : 0;
    } else if (weight != NULL) {
      const struct loss_weights<real> w = loss_weights_of<real>(a, &sample, loss_known_ratio<real>(a, &sample, i), i);
      own = w.own, other = three ? (double)w.other : 1 - own, rest = w.rest;
    }
    classification += rest * mean_weight;
    if (sample.y_a >= 0) {
      assert(sample.y_a < a->k && "y_a is out of range");
      classification += (weight != NULL ? weight[sample.y_a] : (real)1) * own;
      regulariser += sample.lam;
      some = 1;
    }
    if (sample.y_b >= 0) {
      assert(sample.y_b < a->k && "y_b is out of range");
      classification += (weight != NULL ? weight[sample.y_b] : (real)1) * other;
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
