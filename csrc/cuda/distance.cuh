/* The semantic distance of a mixed row to raw rows on CUDA, for semantic_distance.cu and loss.cu:
 *
 *   e = exp(sign (p - m)), alpha = scale e / ||e||_2,   m = softmax(z), p = softmax(r) with p[forget] = 0
 *
 * in the terms of rows.cuh. What a thread holds of a resident row goes from exp(x - its maximum) to a probability to e;
 * for a streamed row every pass starts from x again. Arrays of rows have the mixed one first, then one raw row or two.
 */
#ifndef SUMIX_CUDA_DISTANCE_CUH
#define SUMIX_CUDA_DISTANCE_CUH

#include "rows.cuh"

/* softmax(row) = exp(row - max) * factor, or what the thread holds times held_factor. */
template <typename element> struct sumix_softmax {
  typedef typename sumix_compute<element>::real real;
  const element *row;
  int64_t forget, label;  // of a raw row: the class without probability, and the one that is asked for; -1 for none
  real max, sum, factor, held_factor;
};

/* The softmaxes of `rows` rows, whose exponentials this thread then holds, if they are resident. */
template <bool resident, int rows, typename element, typename real>
__device__ void sumix_softmaxes(const struct sumix_row_group *group, struct sumix_row_reducer<real> *over,
                                struct sumix_softmax<element> *softmaxes, real (*held)[SUMIX_VISIT])
{
  real max[rows], sum[rows], own[rows];
#pragma unroll
  for (int s = 0; s < rows; s++) {
    sumix_thread_softmax<resident, 1>(group, softmaxes[s].row, &max[s], &sum[s], held[s]);
    own[s] = max[s];
  }
  sumix_row_softmaxes<rows, 1>(over, max, sum);
#pragma unroll
  for (int s = 0; s < rows; s++) {
    softmaxes[s].max = max[s];
    softmaxes[s].sum = sum[s];
    softmaxes[s].factor = 1 / sum[s];
    softmaxes[s].held_factor = softmaxes[s].factor * sumix_exp(own[s] - max[s]);
  }
}

template <bool held, typename element, typename real>
__device__ void sumix_probabilities(const struct sumix_row_group *group, const struct sumix_visit *visit,
                                    const struct sumix_softmax<element> *softmax, real *x)
{
  if (!held) sumix_load_visit(group, visit, softmax->row, x);
  for (int c = 0; c < SUMIX_VISIT; c++)
    x[c] = held ? x[c] * softmax->held_factor : sumix_exp(x[c] - softmax->max) * softmax->factor;
}

/* x[0] becomes m, and x[1], .. e of the `sides` raw rows. Both p and m are probabilities: no maximum is needed. */
template <bool held_z, bool held_r, int sides, typename element, typename real>
__device__ void sumix_distances(const struct sumix_row_group *group, const struct sumix_visit *visit,
                                const struct sumix_softmax<element> *softmaxes, real sign, real (*x)[SUMIX_VISIT])
{
  sumix_probabilities<held_z>(group, visit, &softmaxes[0], x[0]);
#pragma unroll
  for (int s = 1; s <= sides; s++) {
    sumix_probabilities<held_r>(group, visit, &softmaxes[s], x[s]);
    for (int c = 0; c < SUMIX_VISIT; c++) {
      const real p = visit->first + c * visit->step == softmaxes[s].forget ? (real)0 : x[s][c];
      x[s][c] = sumix_exp_unit(sign * (p - x[0][c]));
    }
  }
}

/* ||e||_2 of the raw rows. Their label's e goes to at_label, in shared memory. */
template <bool resident, bool held_r, int sides, typename element, typename real>
__device__ void sumix_distance_norms(const struct sumix_row_group *group, struct sumix_row_reducer<real> *over,
                                     const struct sumix_softmax<element> *softmaxes, real sign, real (*x)[SUMIX_VISIT],
                                     real *norms, real *at_label)
{
#pragma unroll
  for (int s = 0; s < sides; s++) norms[s] = 0;
  const int64_t visits = sumix_visits<resident>(group);
  for (int64_t number = 0; number < visits; number++) {
    const struct sumix_visit visit = sumix_visit_of(group, number);
    sumix_distances<resident, held_r, sides>(group, &visit, softmaxes, sign, x);
#pragma unroll
    for (int s = 0; s < sides; s++)
      for (int c = 0; c < SUMIX_VISIT; c++) {
        const real e = x[s + 1][c];
        norms[s] += c < visit.count ? e * e : (real)0;
        if (c < visit.count && visit.first + c * visit.step == softmaxes[s + 1].label) at_label[s] = e;
      }
  }
  sumix_row_sums<sides>(over, norms);
#pragma unroll
  for (int s = 0; s < sides; s++) norms[s] = sumix_sqrt(norms[s]);
}

#endif
