/* The SUMix loss on CUDA: the formulas of csrc/cpu/loss.c, for n samples of k classes.
 *
 * One launch computes every row, for any k; a second one, of one block, adds up n numbers where the loss is reduced. A
 * block takes a sample. Up to 2048 classes its threads hold the row in registers, four elements each, from the logits
 * to the gradients; a longer row is streamed, as rows.cuh explains, and so is float64, which nobody trains with. Either
 * way the threads of a row meet three times:
 *
 *   softmaxes of z[i], r[i], r[perm[i]]  ->  ||e||, ||e'||  ->  softmaxes of t, t'  ->  gradients
 *
 * The gradient by u[i] is a sum over sample i itself and every sample j with perm[j] = i, its takers. The partner's
 * share could be added by atomics to a zeroed row: a memset before, and three addends or more would show their order in
 * the bits. Instead block i finds its takers and computes their partner branch again, from z[j], v[j] and its own r[i],
 * u[i]: no memset, no atomics, one write of each gradient, the same bits for any partners. Where memory sets the pace,
 * as no row is found in the L2 cache, that is less: 44 bytes an element, 8 reads and 3 writes, against 52, 6 reads, a
 * memset, 2 writes and two additions of a read and a write each. It is 14 exponentials an element instead of 9; with
 * all about them 14 are some 250 instructions, 9 ps on an H100, whose memory takes 13 ps for 44 bytes. Where a batch
 * fits the L2 cache, launches and barriers take the time, and a memset is one more launch.
 *
 *   (256, 1000) float: 4.1 MB read from DRAM, as much again from L2, 3.1 MB written; without gradients 4.1 MB from
 *   DRAM, 2.0 from L2, nothing but the parts written. Streamed: 12 reads of a row from L2 without gradients; 18, and
 *   for each taker 12 more, with them.
 *
 * What the means divide by is n unless labels are ignored, which the host cannot know. Up to 1024 samples every block
 * looks through the labels itself, from the first cache and in the same order. For more, and where lam~ enters (class
 * weights with the mean, or weighting "batch"), one block finds it for all in a launch before; lam~ itself, where
 * distances decide it, in another launch before that. Label weights found elsewhere, three a sample, take the place of
 * lam~, 1 - lam~ and 0.
 */
#include "loss_backward.cuh"
#include "loss_evidence.cuh"

namespace
{

template <typename real> struct loss_shared {
  struct sumix_row_scratch<real> scratch;
  real e_y[2], t_y[2];
  double sums[SUMIX_WARP];
  int64_t takers[SUMIX_WARP];
};

/* What a block knows from the beginning. */
template <typename element> struct loss_block {
  typedef typename sumix_compute<element>::real real;
  struct sumix_row_group group;
  struct sumix_row_reducer<real> over;
  struct loss_shared<real> *shared;
  const element *z, *r, *v, *u;
  real sign, distance_scale;      // sign 0: no distance
  real gamma, to_classification;  // over what the means divide by
};

/* The weights of a sample's classification term. */
template <typename real> struct loss_classification {
  real own, other;    // of CE(z, y_a) and CE(z, y_b)
  real smooth;        // of each class's share of what is spread evenly, the rest and label smoothing
  real weight_total;  // sum of the class weights
};

/* The softmaxes of the mixed row i and both raw rows, and alpha = scales e. */
template <bool resident, typename element, typename real>
__device__ void loss_compare(struct loss_block<element> *block, const struct loss_sample<real> *sample, int64_t i,
                             int64_t partner, struct sumix_softmax<element> *softmaxes, real (*x)[SUMIX_VISIT],
                             real *scales)
{
  const int64_t k = block->group.k;
  const struct sumix_softmax<element> rows[3] = {
    {block->z + i * k, -1, -1, 0, 0, 0, 0}, {block->r + i * k, sample->y_b, sample->y_a, 0, 0, 0, 0},
        {block->r + partner * k, sample->y_a, sample->y_b, 0, 0, 0, 0}
  };
#pragma unroll
  for (int s = 0; s < 3; s++) softmaxes[s] = rows[s];
  scales[0] = scales[1] = 0;
  if (block->sign != 0) {
    sumix_softmaxes<resident, 3>(&block->group, &block->over, softmaxes, x);
    sumix_distance_norms<resident, resident, 2>(&block->group, &block->over, softmaxes, block->sign, x, scales,
                                                block->shared->e_y);
#pragma unroll
    for (int s = 0; s < 2; s++) scales[s] = block->distance_scale / scales[s];
  } else {
    sumix_softmaxes<resident, 1>(&block->group, &block->over, softmaxes, x);
    if (resident) sumix_probabilities<true>(&block->group, (const struct sumix_visit *)NULL, softmaxes, x[0]);
  }
}

template <typename real>
__device__ struct loss_classification<real> loss_class_weights(const struct sumix_loss_args *a,
                                                               const struct loss_sample<real> *sample,
                                                               struct loss_weights<real> w)
{
  const real *const weight = (const real *)a->class_weight;
  const real smoothing = (real)a->label_smoothing, hard = 1 - smoothing, soft = smoothing / (real)a->k;
  struct loss_classification<real> c = {
    0, 0, 0, (real)a->k
  };
  if (sample->y_a >= 0) {
    c.own = hard * w.own * (weight != NULL ? weight[sample->y_a] : (real)1);
    c.smooth += soft * w.own;
  }
  if (sample->y_b >= 0) {
    c.other = hard * w.other * (weight != NULL ? weight[sample->y_b] : (real)1);
    c.smooth += soft * w.other;
  }
  if (loss_has_rest(a, sample)) c.smooth = soft + hard * w.rest / (real)a->k;
  return c;
}

/* The classification term. */
template <bool resident, typename element, typename real>
__device__ real loss_classify(struct loss_block<element> *block, const struct sumix_loss_args *a,
                              const struct loss_sample<real> *sample, const struct sumix_softmax<element> *z,
                              struct loss_classification<real> *c)
{
  const real log_sum = sumix_log(z->sum), *const weight = (const real *)a->class_weight;
  real value = 0;
  if (sample->y_a >= 0) value += c->own * (log_sum + (z->max - sumix_to_real(z->row[sample->y_a])));
  if (sample->y_b >= 0) value += c->other * (log_sum + (z->max - sumix_to_real(z->row[sample->y_b])));
  if (c->smooth == 0) return value;
  real sums[2] = {0, 0};
  const int64_t visits = sumix_visits<resident>(&block->group);
  for (int64_t number = 0; number < visits; number++) {
    const struct sumix_visit visit = sumix_visit_of(&block->group, number);
    real x[SUMIX_VISIT];
    sumix_load_visit(&block->group, &visit, z->row, x);
    for (int e = 0; e < SUMIX_VISIT; e++) {
      if (e >= visit.count) continue;
      const real w = weight != NULL ? weight[visit.first + e * visit.step] : (real)1;
      sums[0] += w * (log_sum + (z->max - x[e]));
      sums[1] += w;
    }
  }
  sumix_row_sums<2>(&block->over, sums);
  c->weight_total = sums[1];
  return value + c->smooth * sums[0];
}

/* All gradients that come from sample i; of_u is what a resident row's thread has of its share of u[i], which is to be
 * written later unless grad_partner takes the other shares. */
template <bool resident, typename element, typename real>
__device__ void loss_write_gradients(struct loss_block<element> *block, const struct sumix_loss_args *a,
                                     const struct loss_sample<real> *sample, int64_t i,
                                     const struct sumix_softmax<element> *softmaxes,
                                     const struct loss_evidence<element> *evidence,
                                     const struct loss_classification<real> *c, real (*x)[SUMIX_VISIT], real *of_u)
{
  const int64_t at = i * a->k;
  const real *const weight = (const real *)a->class_weight;
  const real g[2] = {block->gamma * sample->lam, block->gamma * (1 - sample->lam)};
  const real m_scale = (c->own + c->other + c->smooth * c->weight_total) * block->to_classification;
  const real own = c->own * block->to_classification, other = c->other * block->to_classification;
  const real smooth = c->smooth * block->to_classification;
  const int64_t visits = sumix_visits<resident>(&block->group);
  for (int64_t number = 0; number < visits; number++) {
    const struct sumix_visit visit = sumix_visit_of(&block->group, number);
    real of_z[SUMIX_VISIT], of_v[SUMIX_VISIT];
    loss_gradients<resident, 2>(&block->group, &visit, softmaxes, block->v + at, evidence, block->sign, g, true, x);
    for (int e = 0; e < SUMIX_VISIT; e++) {
      const int64_t j = visit.first + e * visit.step;
      of_u[e] = x[1][e];
      of_v[e] = x[1][e] + x[2][e];
      of_z[e] = x[0][e] * m_scale;
      if (a->grad_v == NULL) of_z[e] += of_v[e];  // the plain form has z for v
      if (j == sample->y_a) of_z[e] -= own;
      if (j == sample->y_b) of_z[e] -= other;
      if (c->smooth != 0 && e < visit.count) of_z[e] -= smooth * (weight != NULL ? weight[j] : (real)1);
    }
    sumix_store_visit(&block->group, &visit, of_z, (real *)a->grad_z + at);
    if (a->grad_v != NULL) sumix_store_visit(&block->group, &visit, of_v, (real *)a->grad_v + at);
    if (!resident || a->grad_partner != NULL) sumix_store_visit(&block->group, &visit, of_u, (real *)a->grad_u + at);
    if (a->grad_partner != NULL) sumix_store_visit(&block->group, &visit, x[2], (real *)a->grad_partner + at);
  }
}

/* Adds to the gradient by u[i] what sample j, whose partner is i, has to add: j's partner branch computed again.
 * softmaxes[1]: of r[i], known already. */
template <bool resident, typename element, typename real>
__device__ void loss_add_taker(struct loss_block<element> *block, const struct sumix_loss_args *a, int64_t i, int64_t j,
                               struct sumix_softmax<element> *softmaxes, real (*x)[SUMIX_VISIT], real *of_u)
{
  const struct sumix_row_group *const group = &block->group;
  const struct loss_sample<real> taker = loss_sample_of<real>(a, j);
  const element *const v = block->v + j * a->k;
  real *const grad_u = (real *)a->grad_u + i * a->k;
  real norm, scale = 0;
  softmaxes[0].row = block->z + j * a->k;
  softmaxes[1].forget = taker.y_a;
  softmaxes[1].label = -1;
  if (block->sign != 0) {
    sumix_softmaxes<resident, 1>(group, &block->over, softmaxes, x);
    sumix_distance_norms<resident, false, 1>(group, &block->over, softmaxes, block->sign, x, &norm, (real *)NULL);
    scale = block->distance_scale / norm;
  }
  struct loss_evidence<element> evidence = {block->u + i * a->k, taker.y_b, scale, 0, 0, 0, 0};
  loss_regularise<resident, 1>(group, &block->over, softmaxes, v, &evidence, block->sign, x, block->shared->t_y);
  const real g = block->gamma * (1 - taker.lam);
  const int64_t visits = sumix_visits<resident>(group);
  for (int64_t number = 0; number < visits; number++) {
    const struct sumix_visit visit = sumix_visit_of(group, number);
    loss_gradients<resident, 1>(group, &visit, softmaxes, v, &evidence, block->sign, &g, false, x);
    if (!resident) sumix_load_visit(group, &visit, grad_u, of_u);
    for (int e = 0; e < SUMIX_VISIT; e++) of_u[e] += x[1][e];
    if (!resident) sumix_store_visit(group, &visit, of_u, grad_u);
  }
}

/* ratios_alone: only lam~ of each sample, for those who need it before the first row. */
template <typename element, bool resident>
__global__ void __launch_bounds__(sumix_row_threads<typename sumix_compute<element>::real>::most, 1)
    loss_rows(struct sumix_loss_args a, bool vectors, bool ratios_alone)
{
  typedef typename sumix_compute<element>::real real;
  struct loss_shared<real> *const shared = (struct loss_shared<real> *)SUMIX_DYNAMIC_SHARED();
  const bool batch = a.weighting == SUMIX_WEIGHTING_BATCH;
  struct loss_totals totals = {1, 1, 0, 0, 0, 1};
  if (!ratios_alone)
    totals =
        sumix_loss_scratch(&a) > 0 ? *(const struct loss_totals *)a.scratch : loss_find_totals<real>(&a, shared->sums);
  if (totals.some == 0) totals.classification = totals.regulariser = 1;  // the gradient of nothing is 0
  struct loss_block<element> block;
  block.group = sumix_row_group_of(a.k, blockDim.x, vectors);
  block.over.scratch = &shared->scratch;
  block.over.width = blockDim.x;
  block.over.turn = 0;
  block.shared = shared;
  block.z = (const element *)a.z;
  block.r = (const element *)a.r;
  block.v = (const element *)(a.v != NULL ? a.v : a.z);
  block.u = (const element *)(a.u != NULL ? a.u : a.r);
  block.sign = a.ratio == SUMIX_RATIO_AREA ? 0 : a.ratio == SUMIX_RATIO_PUBLISHED ? -1 : 1;
  block.distance_scale = (real)(a.scale < 0 ? (double)a.n : a.scale);
  block.gamma = (real)a.gamma / (real)totals.regulariser;
  block.to_classification = 1 / (real)totals.classification;
  for (int64_t i = blockIdx.x; i < a.n; i += gridDim.x) {
    const struct loss_sample<real> sample = loss_checked_sample_of<real>(&a, i);
    const int64_t partner = a.perm[i];
    struct sumix_softmax<element> softmaxes[3];
    real x[3][SUMIX_VISIT], scales[2], *const parts = (real *)a.parts;
    loss_compare<resident>(&block, &sample, i, partner, softmaxes, x, scales);
    const bool by_distance = block.sign != 0 && sample.y_a >= 0 && sample.y_b >= 0;
    const real ratio = by_distance ? sumix_mix_ratio(sample.lam, scales[0] * shared->e_y[0], scales[1] * shared->e_y[1])
                                   : loss_known_ratio<real>(&a, &sample, i);
    if (threadIdx.x == 0) parts[i] = ratio;
    if (ratios_alone) continue;

    struct loss_evidence<element> evidence[2] = {
      {block.u + i * a.k, sample.y_a, scales[0], 0, 0, 0, 0},
          {block.u + partner * a.k, sample.y_b, scales[1], 0, 0, 0, 0}
    };
    loss_regularise<resident, 2>(&block.group, &block.over, softmaxes, block.v + i * a.k, evidence, block.sign, x,
                                 shared->t_y);
    struct loss_classification<real> c = loss_class_weights<real>(
        &a, &sample, batch ? loss_batch_weights<real>(&a) : loss_weights_of<real>(&a, &sample, ratio, i));
    const real classification = loss_classify<resident>(&block, &a, &sample, &softmaxes[0], &c);
    if (threadIdx.x == 0) {
      const real regulariser =
          sample.lam * loss_cross_entropy(&evidence[0]) + (1 - sample.lam) * loss_cross_entropy(&evidence[1]);
      parts[a.n + i] = classification;
      parts[2 * a.n + i] = regulariser;
      if (a.reduction == SUMIX_REDUCTION_NONE) ((real *)a.loss)[i] = classification + (real)a.gamma * regulariser;
    }
    if (a.grad_z == NULL) continue;

    real of_u[SUMIX_VISIT];
    loss_write_gradients<resident>(&block, &a, &sample, i, softmaxes, evidence, &c, x, of_u);
    if (a.grad_partner != NULL) continue;
    for (int64_t j = 0; (j = sumix_next_taker(a.perm, a.n, j, i, shared->takers)) < a.n; j++)
      loss_add_taker<resident>(&block, &a, i, j, softmaxes, x, of_u);
    const struct sumix_visit visit = sumix_visit_of(&block.group, 0);
    if (resident) sumix_store_visit(&block.group, &visit, of_u, (real *)a.grad_u + i * a.k);
  }
}

/* One block. What all rows share. */
template <typename real> __global__ void __launch_bounds__(1024) loss_sum_up(struct sumix_loss_args a)
{
  double *const scratch = (double *)SUMIX_DYNAMIC_SHARED();
  const struct loss_totals totals = loss_find_totals<real>(&a, scratch);
  if (threadIdx.x == 0) *(struct loss_totals *)a.scratch = totals;
}

/* One block. The loss of all samples from the parts of each. */
template <typename real> __global__ void __launch_bounds__(1024) loss_reduce(struct sumix_loss_args a)
{
  double *const scratch = (double *)SUMIX_DYNAMIC_SHARED();
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

template <typename element> static void launch_rows(const struct sumix_loss_args *a, bool ratios_alone, void *stream)
{
  typedef typename sumix_compute<element>::real real;
  const struct sumix_row_plan plan = sumix_plan_blocks(a->k, sumix_row_threads<real>::most);
  const int64_t bytes = sumix_visit_bytes<element>(), grad_bytes = sumix_visit_bytes<real>();
  const bool vectors = sumix_is_aligned(a->z, bytes) && sumix_is_aligned(a->r, bytes) &&
                       sumix_is_aligned(a->v, bytes) && sumix_is_aligned(a->u, bytes) &&
                       sumix_is_aligned(a->grad_z, grad_bytes) && sumix_is_aligned(a->grad_v, grad_bytes) &&
                       sumix_is_aligned(a->grad_u, grad_bytes) && sumix_is_aligned(a->grad_partner, grad_bytes);
  const unsigned grid = sumix_grid(a->n, 1);
  const size_t shared = sizeof(struct loss_shared<real>);
  if (plan.resident)
    SUMIX_LAUNCH((loss_rows<element, sizeof(real) == 4>), grid, plan.threads, shared, stream, *a, vectors,
                 ratios_alone);
  else
    SUMIX_LAUNCH((loss_rows<element, false>), grid, plan.threads, shared, stream, *a, vectors, ratios_alone);
}

struct forward {
  template <typename element> static void run(const struct sumix_loss_args *a, void *stream)
  {
    typedef typename sumix_compute<element>::real real;
    const unsigned threads = SUMIX_WARP * (a->n > 1024 ? 32 : sumix_grid(a->n, SUMIX_WARP));
    if (a->n > 0 && sumix_loss_needs_ratios(a)) launch_rows<element>(a, true, stream);
    if (sumix_loss_scratch(a) > 0)  // of no samples too: loss_reduce reads it
      SUMIX_LAUNCH(loss_sum_up<real>, 1, threads, SUMIX_WARP * sizeof(double), stream, *a);
    if (a->n > 0) launch_rows<element>(a, false, stream);
    if (a->reduction != SUMIX_REDUCTION_NONE)
      SUMIX_LAUNCH(loss_reduce<real>, 1, threads, SUMIX_WARP * sizeof(double), stream, *a);
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
