/* The SUMix loss on CUDA: the formulas of csrc/cpu/loss.c.
 * TODO
 */
#include "loss_backward.cuh"
#include "loss_rows.cuh"

namespace
{

template <typename real> struct loss_threads {
  enum { most = sizeof(real) == 8 ? 256 : 512 };
};

template <typename real> struct loss_shared {
  struct sumix_row_scratch<real> scratch;
  real e_y[2], t_y[2];
  double sums[SUMIX_WARP];
  int64_t takers[SUMIX_WARP];
};

__device__ inline int loss_sign(const struct sumix_loss_args *a)
{
  return a->ratio == SUMIX_RATIO_AREA ? 0 : a->ratio == SUMIX_RATIO_PUBLISHED ? -1 : 1;
}

/* lam~ of sample i, in all threads. softmaxes[1] and [2]: of the own and the partner's raw row. */
template <typename real> __device__ real loss_ratio(const struct sumix_loss_args *a,
                                                    const struct loss_sample<real> *sample, int64_t i,
                                                    const real *scales, const real *e_y)
{
  if (a->ratio == SUMIX_RATIO_AREA || sample->y_a < 0 || sample->y_b < 0) return loss_known_ratio<real>(a, sample, i);
  return sumix_mix_ratio(sample->lam, scales[0] * e_y[0], scales[1] * e_y[1]);
}

/* The softmaxes of the mixed row i and both raw rows, and alpha = scales e. */
template <bool resident, typename element, typename real>
__device__ void loss_compare(const struct sumix_row_group *group, struct sumix_row_reducer<real> *over,
                             const struct sumix_loss_args *a, const struct loss_sample<real> *sample, int64_t i,
                             struct sumix_softmax<element> *softmaxes, real (*x)[SUMIX_VISIT], real *scales, real *e_y)
{
  const element *const r = (const element *)a->r;
  const struct sumix_softmax<element> rows[3] = {
    {(const element *)a->z + i * a->k, -1, -1, 0, 0, 0, 0}, {r + i * a->k, sample->y_b, sample->y_a, 0, 0, 0, 0},
        {r + a->perm[i] * a->k, sample->y_a, sample->y_b, 0, 0, 0, 0},
  };
#pragma unroll
  for (int s = 0; s < 3; s++) softmaxes[s] = rows[s];
  scales[0] = scales[1] = 0;
  if (a->ratio == SUMIX_RATIO_AREA) {
    sumix_softmaxes<resident, 1>(group, over, softmaxes, x);
    if (resident) sumix_probabilities<true>(group, (const struct sumix_visit *)NULL, softmaxes, x[0]);
    return;
  }
  sumix_softmaxes<resident, 3>(group, over, softmaxes, x);
  sumix_distance_norms<resident, resident, 2>(group, over, softmaxes, (real)loss_sign(a), x, scales, e_y);
#pragma unroll
  for (int s = 0; s < 2; s++) scales[s] = (real)(a->scale < 0 ? (double)a->n : a->scale) / scales[s];
}

/* lam~ alone, for those who need it of all samples before the first row. */
template <typename element, bool resident>
__global__ void __launch_bounds__(loss_threads<typename sumix_compute<element>::real>::most)
    loss_ratios(struct sumix_loss_args a, bool vectors)
{
  typedef typename sumix_compute<element>::real real;
  __shared__ struct loss_shared<real> shared;
  struct sumix_row_reducer<real> over = {&shared.scratch, (int)blockDim.x, 0};
  const struct sumix_row_group group = sumix_row_group_of(a.k, blockDim.x, vectors);
  for (int64_t i = blockIdx.x; i < a.n; i += gridDim.x) {
    const struct loss_sample<real> sample = loss_checked_sample_of<real>(&a, i);
    struct sumix_softmax<element> softmaxes[3];
    real x[3][SUMIX_VISIT], scales[2];
    loss_compare<resident>(&group, &over, &a, &sample, i, softmaxes, x, scales, shared.e_y);
    const real ratio = loss_ratio(&a, &sample, i, scales, shared.e_y);
    if (threadIdx.x == 0) ((real *)a.parts)[i] = ratio;
  }
}

template <typename real> __global__ void __launch_bounds__(1024) loss_sum_up(struct sumix_loss_args a)
{
  __shared__ double scratch[SUMIX_WARP];
  const struct loss_totals totals = loss_find_totals<real>(&a, scratch);
  if (threadIdx.x == 0) *(struct loss_totals *)a.scratch = totals;
}

template <typename real> __global__ void __launch_bounds__(1024) loss_reduce(struct sumix_loss_args a)
{
  __shared__ double scratch[SUMIX_WARP];
  const struct loss_totals totals =
      sumix_loss_scratch(&a) > 0 ? *(const struct loss_totals *)a.scratch : loss_find_totals<real>(&a, scratch);
  const real *const parts = (const real *)a.parts;
  double classification = 0, regulariser = 0;
  for (int64_t i = threadIdx.x; i < a.n; i += blockDim.x) {
    classification += parts[a.n + i];
    regulariser += parts[2 * a.n + i];
  }
  classification = sumix_block_reduce(classification, sumix_sum(), scratch);
  regulariser = sumix_block_reduce(regulariser, sumix_sum(), scratch);
  if (threadIdx.x == 0)
    *(real *)a.loss = (real)(classification / totals.classification + a.gamma * (regulariser / totals.regulariser));
}

/* The weights of a sample's classification term. */
template <typename real> struct loss_classification {
  real own, other;  // of CE(z, y_a) and CE(z, y_b)
  real smooth;      // of each class's share of label smoothing
};

template <typename real>
__device__ struct loss_classification<real> loss_class_weights(const struct sumix_loss_args *a,
                                                               const struct loss_sample<real> *sample, real ratio)
{
  const real *const weight = (const real *)a->class_weight;
  const real hard = (real)(1 - a->label_smoothing), soft = (real)(a->label_smoothing / (double)a->k);
  struct loss_classification<real> c = {0, 0, 0};
  if (sample->y_a >= 0) {
    c.own = hard * ratio * (weight != NULL ? weight[sample->y_a] : (real)1);
    c.smooth += soft * ratio;
  }
  if (sample->y_b >= 0) {
    c.other = hard * (1 - ratio) * (weight != NULL ? weight[sample->y_b] : (real)1);
    c.smooth += soft * (1 - ratio);
  }
  return c;
}

/* The classification term, and in *weight_total the sum of the class weights; for a whole block. */
template <bool resident, typename element, typename real>
__device__ real loss_classify(const struct sumix_row_group *group, struct sumix_row_reducer<real> *over,
                              const struct sumix_loss_args *a, const struct loss_sample<real> *sample,
                              const struct sumix_softmax<element> *z, const struct loss_classification<real> *c,
                              real *weight_total)
{
  const real log_sum = sumix_log(z->sum), *const weight = (const real *)a->class_weight;
  real value = 0;
  if (sample->y_a >= 0) value += c->own * (log_sum + (z->max - sumix_to_real(z->row[sample->y_a])));
  if (sample->y_b >= 0) value += c->other * (log_sum + (z->max - sumix_to_real(z->row[sample->y_b])));
  *weight_total = (real)a->k;
  if (!(a->label_smoothing > 0)) return value;
  real sums[2] = {0, 0};
  const int64_t visits = sumix_visits<resident>(group);
  for (int64_t number = 0; number < visits; number++) {
    const struct sumix_visit visit = sumix_visit_of(group, number);
    real x[SUMIX_VISIT];
    sumix_load_visit(group, &visit, z->row, x);
    for (int e = 0; e < SUMIX_VISIT; e++) {
      if (e >= visit.count) continue;
      const real w = weight != NULL ? weight[visit.first + e * visit.step] : (real)1;
      sums[0] += w * (log_sum + (z->max - x[e]));
      sums[1] += w;
    }
  }
  sumix_row_sums<2>(over, sums);
  *weight_total = sums[1];
  return value + c->smooth * sums[0];
}

template <typename element, bool resident>
__global__ void __launch_bounds__(loss_threads<typename sumix_compute<element>::real>::most)
    loss_rows(struct sumix_loss_args a, bool vectors)
{
  typedef typename sumix_compute<element>::real real;
  __shared__ struct loss_shared<real> shared;
  struct sumix_row_reducer<real> over = {&shared.scratch, (int)blockDim.x, 0};
  const struct sumix_row_group group = sumix_row_group_of(a.k, blockDim.x, vectors);
  const int64_t n = a.n, k = a.k, visits = sumix_visits<resident>(&group);
  const bool plain = a.v == NULL;
  const element *const v = (const element *)(plain ? a.z : a.v), *const u = (const element *)(plain ? a.r : a.u);
  const real sign = (real)loss_sign(&a);
  const struct loss_totals totals =
      sumix_loss_scratch(&a) > 0 ? *(const struct loss_totals *)a.scratch : loss_find_totals<real>(&a, shared.sums);
  /* The gradient of nothing at all is 0. */
  const real to_classification = 1 / (real)(totals.some > 0 ? totals.classification : 1);
  const real gamma = (real)a.gamma / (real)(totals.some > 0 ? totals.regulariser : 1);
  for (int64_t i = blockIdx.x; i < n; i += gridDim.x) {
    const struct loss_sample<real> sample = loss_checked_sample_of<real>(&a, i);
    struct sumix_softmax<element> softmaxes[3];
    real x[3][SUMIX_VISIT], scales[2];
    loss_compare<resident>(&group, &over, &a, &sample, i, softmaxes, x, scales, shared.e_y);
    const real ratio = loss_ratio(&a, &sample, i, scales, shared.e_y);

    struct loss_evidence<element> evidence[2] = {
      {u + i * k, sample.y_a, scales[0], 0, 0, 0, 0}, {u + a.perm[i] * k, sample.y_b, scales[1], 0, 0, 0, 0}
    };
    loss_regularise<resident, 2>(&group, &over, softmaxes, v + i * k, evidence, sign, x, shared.t_y);
    const struct loss_classification<real> c =
        loss_class_weights<real>(&a, &sample, a.weighting == SUMIX_WEIGHTING_BATCH ? (real)totals.batch_ratio : ratio);
    real weight_total;
    const real classification = loss_classify<resident>(&group, &over, &a, &sample, &softmaxes[0], &c, &weight_total);
    if (threadIdx.x == 0) {
      const real regulariser = sample.lam * loss_cross_entropy(&evidence[0], (real)0) +
                               (1 - sample.lam) * loss_cross_entropy(&evidence[1], (real)0);
      real *const parts = (real *)a.parts;
      parts[i] = ratio;
      parts[n + i] = classification;
      parts[2 * n + i] = regulariser;
      if (a.reduction == SUMIX_REDUCTION_NONE) ((real *)a.loss)[i] = classification + (real)a.gamma * regulariser;
    }
    if (a.grad_z == NULL) continue;

    const real g[2] = {gamma * sample.lam, gamma * (1 - sample.lam)};
    const real m_scale = (c.own + c.other + c.smooth * weight_total) * to_classification;
    const real own = c.own * to_classification, other = c.other * to_classification;
    const real smooth = c.smooth * to_classification;
    real *const grad_u = (real *)a.grad_u + i * k;
    real of_u[SUMIX_VISIT];
    for (int64_t number = 0; number < visits; number++) {
      const struct sumix_visit visit = sumix_visit_of(&group, number);
      loss_gradients<resident, 2>(&group, &visit, softmaxes, v + i * k, evidence, sign, g, true, x);
      real of_z[SUMIX_VISIT], of_v[SUMIX_VISIT];
      for (int e = 0; e < SUMIX_VISIT; e++) {
        const int64_t j = visit.first + e * visit.step;
        of_v[e] = x[1][e] + x[2][e];
        of_u[e] = x[1][e];
        of_z[e] = x[0][e] * m_scale;
        if (plain) of_z[e] += of_v[e];
        if (j == sample.y_a) of_z[e] -= own;
        if (j == sample.y_b) of_z[e] -= other;
        if (a.label_smoothing > 0 && e < visit.count)
          of_z[e] -= smooth * (a.class_weight != NULL ? ((const real *)a.class_weight)[j] : (real)1);
      }
      sumix_store_visit(&group, &visit, of_z, (real *)a.grad_z + i * k);
      if (!plain) sumix_store_visit(&group, &visit, of_v, (real *)a.grad_v + i * k);
      if (a.grad_partner != NULL) sumix_store_visit(&group, &visit, x[2], (real *)a.grad_partner + i * k);
      if (!resident || a.grad_partner != NULL) sumix_store_visit(&group, &visit, of_u, grad_u);
    }
    if (a.grad_partner != NULL) continue;

    /* What every sample j that image i was mixed into adds to its row: the partner's branch of j, computed again. */
    for (int64_t j = 0; (j = sumix_next_taker(a.perm, n, j, i, shared.takers)) < n; j++) {
      const struct loss_sample<real> taker = loss_sample_of<real>(&a, j);
      real norm = 0;
      softmaxes[0].row = (const element *)a.z + j * k;
      softmaxes[1].forget = taker.y_a;
      softmaxes[1].label = -1;
      if (sign != 0) {
        sumix_softmaxes<resident, 1>(&group, &over, softmaxes, x);
        sumix_distance_norms<resident, false, 1>(&group, &over, softmaxes, sign, x, &norm, shared.e_y);
        norm = (real)(a.scale < 0 ? (double)n : a.scale) / norm;
      }
      struct loss_evidence<element> part = {u + i * k, taker.y_b, norm, 0, 0, 0, 0};
      loss_regularise<resident, 1>(&group, &over, softmaxes, v + j * k, &part, sign, x, shared.t_y);
      const real share = gamma * (1 - taker.lam);
      for (int64_t number = 0; number < visits; number++) {
        const struct sumix_visit visit = sumix_visit_of(&group, number);
        loss_gradients<resident, 1>(&group, &visit, softmaxes, v + j * k, &part, sign, &share, false, x);
        if (!resident) sumix_load_visit(&group, &visit, grad_u, of_u);
        for (int e = 0; e < SUMIX_VISIT; e++) of_u[e] += x[1][e];
        if (!resident) sumix_store_visit(&group, &visit, of_u, grad_u);
      }
    }
    const struct sumix_visit visit = sumix_visit_of(&group, 0);
    if (resident) sumix_store_visit(&group, &visit, of_u, grad_u);
  }
}

struct forward {
  template <typename element> static void run(const struct sumix_loss_args *a, void *stream)
  {
    typedef typename sumix_compute<element>::real real;
    const struct sumix_row_plan plan = sumix_plan_blocks(a->k, loss_threads<real>::most);
    const int64_t bytes = sumix_visit_bytes<element>(), grad_bytes = sumix_visit_bytes<real>();
    const bool vectors = sumix_is_aligned(a->z, bytes) && sumix_is_aligned(a->r, bytes) &&
                         sumix_is_aligned(a->v, bytes) && sumix_is_aligned(a->u, bytes) &&
                         sumix_is_aligned(a->grad_z, grad_bytes) && sumix_is_aligned(a->grad_v, grad_bytes) &&
                         sumix_is_aligned(a->grad_u, grad_bytes) && sumix_is_aligned(a->grad_partner, grad_bytes);
    const unsigned grid = sumix_grid(a->n, 1);
    const unsigned for_all = SUMIX_WARP * (a->n > 1024 ? 32 : sumix_grid(a->n, SUMIX_WARP));
    if (a->n > 0) {
      if (sumix_loss_needs_ratios(a)) {
        if (plan.resident)
          SUMIX_LAUNCH((loss_ratios<element, true>), grid, plan.threads, 0, stream, *a, vectors);
        else
          SUMIX_LAUNCH((loss_ratios<element, false>), grid, plan.threads, 0, stream, *a, vectors);
      }
      if (sumix_loss_scratch(a) > 0) SUMIX_LAUNCH(loss_sum_up<real>, 1, for_all, 0, stream, *a);
      if (plan.resident)
        SUMIX_LAUNCH((loss_rows<element, true>), grid, plan.threads, 0, stream, *a, vectors);
      else
        SUMIX_LAUNCH((loss_rows<element, false>), grid, plan.threads, 0, stream, *a, vectors);
    }
    if (a->reduction != SUMIX_REDUCTION_NONE) SUMIX_LAUNCH(loss_reduce<real>, 1, for_all, 0, stream, *a);
  }
};

}  // namespace

extern "C" int sumix_loss_cuda(const struct sumix_loss_args *a, void *stream)
{
  sumix_by_floating<forward>(a->dtype, a, stream);
  return (int)cudaGetLastError();
}

extern "C" int sumix_loss_backward_cuda(const struct sumix_loss_backward_args *a, void *stream)
{
  if (a->n == 0) return 0;
  sumix_by_floating<backward>(a->dtype, a, stream);
  return (int)cudaGetLastError();
}
