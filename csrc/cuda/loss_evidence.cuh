/* The regulariser of loss.cu: its two cross entropies and their gradients. */
#ifndef SUMIX_CUDA_LOSS_EVIDENCE_CUH
#define SUMIX_CUDA_LOSS_EVIDENCE_CUH

#include "loss_sample.cuh"

namespace
{

template <typename real> __device__ real loss_epsilon()
{
  return sizeof(real) == 8 ? (real)DBL_EPSILON : (real)FLT_EPSILON;
}

/* exp(80) leaves room for sums of thousands of rows in float; the same bound in double, so that both agree. */
template <typename real> __device__ real loss_cap() { return 80; }

/* One of the regulariser's two cross entropies, CE(t, y), as a softmax of t, whose maximum counts as at least 1: so it
 * is for normalised uncertainties, where exp(t - max t) then is a polynomial. */
template <typename element> struct loss_evidence {
  typedef typename sumix_compute<element>::real real;
  const element *u;
  int64_t y;  // -1: ignored
  real scale;
  real max, sum, held_factor;
  real t_y;
};

/* exp(t - max) for t <= max. */
template <typename real> __device__ real loss_weight(real t, real max)
{
  return max == 1 ? sumix_exp_unit(t - max) : sumix_exp(t - max);
}

/* Where the minimum cuts, t is constant and has no gradient, also where the exponent is the cap itself. The next smaller
 * exponent is 64 epsilon away. */
template <typename real> __device__ bool loss_is_cut(real t)
{
  return t >= sumix_exp(loss_cap<real>()) * (1 - 16 * loss_epsilon<real>());
}

/* x[1], .. from e to t = exp(min(-(u + v + scale e), cap)). sign 0: no distance. */
template <int sides, typename element, typename real>
__device__ void loss_exponentials(const struct sumix_row_group *group, const struct sumix_visit *visit,
                                  const element *v_row, const struct loss_evidence<element> *evidence, real sign,
                                  real (*x)[SUMIX_VISIT])
{
  real v[SUMIX_VISIT], u[SUMIX_VISIT];
  sumix_load_visit(group, visit, v_row, v);
#pragma unroll
  for (int s = 0; s < sides; s++) {
    sumix_load_visit(group, visit, evidence[s].u, u);
    for (int c = 0; c < SUMIX_VISIT; c++) {
      const real alpha = sign != 0 ? evidence[s].scale * x[s + 1][c] : (real)0;
      const real exponent = -(u[c] + v[c] + alpha);
      x[s + 1][c] = sumix_exp(loss_cap<real>() < exponent ? loss_cap<real>() : exponent);
    }
  }
}

/* Fills in the evidence. Of a resident row x[1], .. becomes t exp(t - maximum of the thread), what the gradient is made
 * of. t_y: shared memory. */
template <bool resident, int sides, typename element, typename real>
__device__ void loss_regularise(const struct sumix_row_group *group, struct sumix_row_reducer<real> *over,
                                const struct sumix_softmax<element> *softmaxes, const element *v_row,
                                struct loss_evidence<element> *evidence, real sign, real (*x)[SUMIX_VISIT], real *t_y)
{
  real max[sides], sum[sides], own[sides];
#pragma unroll
  for (int s = 0; s < sides; s++) {
    max[s] = 1;
    sum[s] = 0;
  }
  const int64_t visits = sumix_visits<resident>(group);
  for (int64_t number = 0; number < visits; number++) {
    const struct sumix_visit visit = sumix_visit_of(group, number);
    if (!resident && sign != 0) sumix_distances<false, false, sides>(group, &visit, softmaxes, sign, x);
    loss_exponentials<sides>(group, &visit, v_row, evidence, sign, x);
#pragma unroll
    for (int s = 0; s < sides; s++) {
      real larger = max[s];
      for (int c = 0; c < SUMIX_VISIT; c++)
        if (c < visit.count) larger = sumix_larger(larger, x[s + 1][c]);
      if (!resident && larger > max[s]) sum[s] = sumix_rescale<1>(sum[s], max[s], larger);
      max[s] = larger;
      for (int c = 0; c < SUMIX_VISIT; c++) {
        const real t = x[s + 1][c], weight = c < visit.count ? loss_weight(t, larger) : (real)0;
        sum[s] += weight;
        x[s + 1][c] = loss_is_cut(t) ? (real)0 : t * weight;
        if (c < visit.count && visit.first + c * visit.step == evidence[s].y) t_y[s] = t;
      }
    }
  }
#pragma unroll
  for (int s = 0; s < sides; s++) own[s] = max[s];
  sumix_row_softmaxes<sides, 1>(over, max, sum);
#pragma unroll
  for (int s = 0; s < sides; s++) {
    evidence[s].max = max[s];
    evidence[s].sum = sum[s];
    evidence[s].held_factor = sumix_exp(own[s] - max[s]);
    evidence[s].t_y = evidence[s].y >= 0 ? t_y[s] : (real)0;
  }
}

template <typename element>
__device__ typename sumix_compute<element>::real loss_cross_entropy(const struct loss_evidence<element> *evidence)
{
  if (evidence->y < 0) return 0;
  return evidence->max - evidence->t_y + sumix_log(evidence->sum);
}

/* The gradient by u of g CE(t, y): -g t softmax(t), but g t_y (1 - softmax(t)_y) at y, where the difference would
 * cancel. x: t exp(t - max), or what is held of it. */
template <bool held, typename element, typename real>
__device__ void loss_evidence_gradient(const struct sumix_visit *visit, const struct loss_evidence<element> *evidence,
                                       real g, real *x)
{
  const real t_y = loss_is_cut(evidence->t_y) ? (real)0 : evidence->t_y;
  const real w_y = loss_weight(evidence->t_y, evidence->max);
  const real scale = held ? -g / evidence->sum * evidence->held_factor : -g / evidence->sum;
  const real at_y = g * t_y * ((evidence->sum - w_y) / evidence->sum);
  for (int c = 0; c < SUMIX_VISIT; c++) {
    x[c] *= scale;
    if (visit->first + c * visit->step == evidence->y) x[c] = at_y;
    if (evidence->y < 0) x[c] = 0;
  }
}

/* x[0] = m and x[1], .. = the gradients by u, g the weights of the cross entropies. mixed: whether m is wanted. */
template <bool resident, int sides, typename element, typename real>
__device__ void loss_gradients(const struct sumix_row_group *group, const struct sumix_visit *visit,
                               const struct sumix_softmax<element> *softmaxes, const element *v_row,
                               const struct loss_evidence<element> *evidence, real sign, const real *g, bool mixed,
                               real (*x)[SUMIX_VISIT])
{
  if (!resident) {
    if (sign != 0)
      sumix_distances<false, false, sides>(group, visit, softmaxes, sign, x);
    else if (mixed)
      sumix_probabilities<false>(group, visit, &softmaxes[0], x[0]);
    loss_exponentials<sides>(group, visit, v_row, evidence, sign, x);
#pragma unroll
    for (int s = 0; s < sides; s++)
      for (int c = 0; c < SUMIX_VISIT; c++) {
        const real t = x[s + 1][c];
        x[s + 1][c] = loss_is_cut(t) ? (real)0 : t * loss_weight(t, evidence[s].max);
      }
  }
#pragma unroll
  for (int s = 0; s < sides; s++) loss_evidence_gradient<resident>(visit, &evidence[s], g[s], x[s + 1]);
}

}  // namespace

#endif
