/* The SUMix loss (Qin et al., ECCV 2024) and its gradients in one pass over the rows.
 *
 * Sample i is image i with image perm[i] pasted in. From the logits z of the mixed and r of the raw images, the
 * uncertainties v and u of both, the labels and the area ratio lam (weight of the own image), all rows of k classes:
 *
 *   m = softmax(z), p = softmax(r), p' = softmax(r[perm]), p[y_b] = 0, p'[y_a] = 0
 *   alpha = scale e / ||e||_2, e = exp(p - m)    for "semantic"; exp(m - p) for "published"; alpha = 0 for "area"
 *   alpha' likewise from p'
 *   lam~ = sigmoid(log(lam / (1 - lam)) - alpha[y_a] + alpha'[y_b])    for "area" lam, or a ratio found elsewhere, such
 *                                                      as masked_similarity.c's; its mean for weighting "batch"
 *   classification = lam~ CE(z, y_a) + (1 - lam~) CE(z, y_b)    or, with label weights w_a, w_b and w_r found elsewhere,
 *                    w_a CE(z, y_a) + w_b CE(z, y_b) + w_r mean_k CE(z, k)
 *   t = exp(min(-(u + v + alpha), 80)),  t' = exp(min(-(u[perm] + v + alpha'), 80))
 *   regulariser = lam CE(t, y_a) + (1 - lam) CE(t', y_b)
 *   loss = mean(classification) + gamma mean(regulariser)
 *
 * The minimum is ours: without it t overflows, and the published loss becomes inf or NaN, for logits around -45 in the
 * plain form (u = r, v = z). Below 80 nothing differs; from 80 on t is constant, and the gradient through it 0. No
 * gradient flows through alpha or lam~.
 *
 *   dL/dz  = m - lam~ e_{y_a} - (1 - lam~) e_{y_b}    or (w_a + w_b + w_r) m - w_a e_{y_a} - w_b e_{y_b} - w_r / k
 *   dL/dt  = softmax(t) - e_{y_a}, dt/du = -t:  own share of du[i], partner's share of du[perm[i]], and both of dv[i]
 *
 * A row's arithmetic lies in scratch that stays in the first cache. Of the inputs, rows of z and v are read once, rows
 * of r and u twice (as own and as partner's), and each gradient row is written once. Two samples write to each row of
 * du, its own and the one it is pasted into: a lock a row keeps them apart, the first writes and the second adds, and
 * since addition commutes the bits do not depend on who came first. Repeated partners would be more than two addends:
 * then one thread does it all.
 */
#include <math.h>
#include <sched.h>

#include "../loss.h"
#include "half.h"
#include "inverse.h"
#include "isa.h"
#include "parallel.h"
#include "real.h"

/* exp(80) leaves room for sums of thousands of rows in float; the same bound in double, so that both agree. */
#define CAP 80

struct row_state {
  atomic_flag busy;
  bool written;
};

struct loss_task {
  const struct sumix_loss_args *args;
  double class_total, regulariser_total;  // what a reduction divides by; 1 where it does not
  bool nothing_kept;                      // every label is ignored: the loss is 0 / 0, its gradient 0
  double weight_total;                    // sum of the class weights
  struct sumix_loss_weights batch;        // what weighting "batch" uses for all samples
  bool ratios_known;                      // parts[0] is filled
  double *cross_entropies;                // (n, 2), by y_a and y_b, kept until batch is known; NULL where it is
  struct row_state *rows;                 // (n), of grad_u; NULL where rows are not shared
  atomic_bool failed;
};

struct backward_task {
  const struct sumix_loss_backward_args *args;
  struct sumix_inverse inverse;  // of perm, where gradients are scaled sample by sample
  atomic_bool failed;
};

static bool ignored(const struct sumix_loss_args *a, int64_t label) { return label == a->ignore_index; }

static bool has_both(const struct sumix_loss_args *a, int64_t i)
{
  return !ignored(a, a->y_a[i]) && !ignored(a, a->y_b[i]);
}

/* Label weights found elsewhere are those of both labels: one label alone has none of the rest. */
static bool has_rest(const struct sumix_loss_args *a, int64_t i) { return a->label_weights != NULL && has_both(a, i); }

static struct sumix_loss_weights weights_of(const struct sumix_loss_args *a, int64_t i, double ratio)
{
  if (!has_rest(a, i)) return (struct sumix_loss_weights){ratio, 1 - ratio, 0};
  return (struct sumix_loss_weights){real_at(a->dtype, a->label_weights, 3 * i),
                                     real_at(a->dtype, a->label_weights, 3 * i + 1),
                                     real_at(a->dtype, a->label_weights, 3 * i + 2)};
}

#define REAL float
#define SUFFIX(name) name##_f32
#define SQRT sqrtf
#define LOG logf
#define EPSILON 0x1p-23f
#include "softmax_rows.h"
#include "loss_backward_rows.h"
#include "loss_rows.h"
#undef REAL
#undef SUFFIX
#undef SQRT
#undef LOG
#undef EPSILON

#define REAL double
#define SUFFIX(name) name##_f64
#define SQRT sqrt
#define LOG log
#define EPSILON 0x1p-52
#include "softmax_rows.h"
#include "loss_backward_rows.h"
#include "loss_rows.h"

/* Labels, partners and ratios lie in their ranges. Finds out whether any label is ignored. */
static int check_values(const struct sumix_loss_args *a, bool *any_ignored, struct sumix_status *status)
{
  *any_ignored = false;
  for (int64_t i = 0; i < a->n; i++) {
    for (int side = 0; side < 2; side++) {
      const int64_t label = side == 0 ? a->y_a[i] : a->y_b[i];
      const bool ignore = ignored(a, label);
      *any_ignored |= ignore;
      SUMIX_CHECK(ignore || (label >= 0 && label < a->k), status,
                  "%s[%lld] is %lld, expected a class from 0 to %lld or ignore_index", side == 0 ? "y_a" : "y_b",
                  (long long)i, (long long)label, (long long)a->k - 1);
    }
    SUMIX_CHECK(a->perm[i] >= 0 && a->perm[i] < a->n, status, "perm[%lld] is %lld, expected 0 to %lld", (long long)i,
                (long long)a->perm[i], (long long)a->n - 1);
    const double lam = real_at(a->dtype, a->lam, i);
    SUMIX_CHECK(lam >= 0 && lam <= 1, status, "lam[%lld] is %g, expected 0 to 1", (long long)i, lam);
    const double learned = a->learned != NULL ? real_at(a->dtype, a->learned, i) : lam;
    SUMIX_CHECK(!(learned < 0 || learned > 1), status, "learned[%lld] is %g, expected 0 to 1, or NaN", (long long)i,
                learned);
    for (int t = 0; t < 3 && a->label_weights != NULL; t++) {
      const double part = real_at(a->dtype, a->label_weights, 3 * i + t);
      SUMIX_CHECK(!(part < 0 || part > 1), status, "learned[%lld, %d] is %g, expected 0 to 1, or NaN", (long long)i, t,
                  part);
    }
  }
  return 0;
}

/* Marks in rows which partners occur, and clears the marks again. */
static bool has_repeats(const int64_t *perm, int64_t n, struct row_state *rows)
{
  bool repeats = false;
  for (int64_t i = 0; i < n; i++) {
    repeats |= rows[perm[i]].written;
    rows[perm[i]].written = true;
  }
  for (int64_t i = 0; i < n; i++) rows[i].written = false;
  return repeats;
}

/* Of the samples that have a label. */
static struct sumix_loss_weights mean_weights(const struct sumix_loss_args *a)
{
  struct sumix_loss_weights sum = {0, 0, 0};
  double count = 0;
  for (int64_t i = 0; i < a->n; i++) {
    if (ignored(a, a->y_a[i]) && ignored(a, a->y_b[i])) continue;
    const struct sumix_loss_weights w = weights_of(a, i, real_at(a->dtype, a->parts, i));
    sum.own += w.own;
    sum.other += w.other;
    sum.rest += w.rest;
    count++;
  }
  const double own = sum.own / count;
  if (a->label_weights == NULL) return (struct sumix_loss_weights){own, 1 - own, 0};
  return (struct sumix_loss_weights){own, sum.other / count, sum.rest / count};
}

/* What the means divide by: the weights of the labels, which may depend on lam~. `uneven`: they are not all 1. Label
 * weights of a sample with both labels count 1 without class weights, whatever they sum to, as lam~ and 1 - lam~ do. */
static void set_totals(struct loss_task *task, bool uneven)
{
  const struct sumix_loss_args *a = task->args;
  task->weight_total = (double)a->k;
  if (a->class_weight != NULL) {
    task->weight_total = 0;
    for (int64_t j = 0; j < a->k; j++) task->weight_total += real_at(a->dtype, a->class_weight, j);
  }
  task->class_total = task->regulariser_total = a->reduction == SUMIX_REDUCTION_MEAN ? (double)a->n : 1;
  if (a->reduction != SUMIX_REDUCTION_MEAN || !uneven) return;
  task->class_total = task->regulariser_total = 0;
  task->nothing_kept = true;
  for (int64_t i = 0; i < a->n; i++) {
    const double lam = real_at(a->dtype, a->lam, i);
    const bool rest = has_rest(a, i), batch = a->weighting == SUMIX_WEIGHTING_BATCH;
    struct sumix_loss_weights w = batch ? task->batch : weights_of(a, i, real_at(a->dtype, a->parts, i));
    if (rest && a->class_weight == NULL) w = (struct sumix_loss_weights){lam, 1 - lam, 0};
    for (int side = 0; side < 2; side++) {
      const int64_t label = side == 0 ? a->y_a[i] : a->y_b[i];
      if (ignored(a, label)) continue;
      const double weight = a->class_weight != NULL ? real_at(a->dtype, a->class_weight, label) : 1;
      task->class_total += weight * (side == 0 ? w.own : w.other);
      task->regulariser_total += side == 0 ? lam : 1 - lam;
      task->nothing_kept = false;
    }
    if (rest) task->class_total += w.rest * task->weight_total / (double)a->k;
  }
}

static void reduce(const struct loss_task *task)
{
  const struct sumix_loss_args *a = task->args;
  double classification = 0, regulariser = 0;
  for (int64_t i = 0; i < a->n; i++) {
    const double c = real_at(a->dtype, a->parts, a->n + i), r = real_at(a->dtype, a->parts, 2 * a->n + i);
    if (a->reduction == SUMIX_REDUCTION_NONE) set_real(a->dtype, a->loss, i, c + a->gamma * r);
    classification += c;
    regulariser += r;
  }
  if (a->reduction != SUMIX_REDUCTION_NONE)
    set_real(a->dtype, a->loss, 0,
             classification / task->class_total + a->gamma * (regulariser / task->regulariser_total));
}

/* Weighting "batch" without class weights, label weights or ignored labels: the mean ratio enters the classification
 * term, and its gradient at the two labels alone, as a factor. So the rows are computed without, and this adds what is
 * missing once the ratios of all samples are known, which spares a pass over the rows to find them first. */
static void apply_batch_ratio(const struct loss_task *task)
{
  const struct sumix_loss_args *a = task->args;
  const struct sumix_loss_weights mean = mean_weights(a);
  const double hard = 1 - a->label_smoothing, own = hard * mean.own, other = hard * mean.other;
  for (int64_t i = 0; i < a->n; i++) {
    const double value = own * task->cross_entropies[2 * i] + other * task->cross_entropies[2 * i + 1];
    set_real(a->dtype, a->parts, a->n + i, real_at(a->dtype, a->parts, a->n + i) + value);
    if (a->grad_z == NULL) continue;
    const int64_t at_a = i * a->k + a->y_a[i], at_b = i * a->k + a->y_b[i];
    set_real(a->dtype, a->grad_z, at_a, real_at(a->dtype, a->grad_z, at_a) - own / task->class_total);
    set_real(a->dtype, a->grad_z, at_b, real_at(a->dtype, a->grad_z, at_b) - other / task->class_total);
  }
}

static int run(struct loss_task *task, bool any_ignored, struct sumix_status *status)
{
  const struct sumix_loss_args *a = task->args;
  const bool wide = a->dtype == SUMIX_FLOAT64, uneven = a->class_weight != NULL || any_ignored;
  const bool batch = a->weighting == SUMIX_WEIGHTING_BATCH;
  if (a->ratio == SUMIX_RATIO_AREA) {
    for (int64_t i = 0; i < a->n; i++) {
      double ratio = real_at(a->dtype, a->learned != NULL && has_both(a, i) ? a->learned : a->lam, i);
      if (has_rest(a, i)) ratio = real_at(a->dtype, a->label_weights, 3 * i);
      set_real(a->dtype, a->parts, i, ratio);
    }
    task->ratios_known = true;
  } else if (uneven && (batch || a->reduction == SUMIX_REDUCTION_MEAN)) {
    SUMIX_TRY(sumix_parallel_rows(a->n, 4 * a->k, wide ? ratio_rows_f64 : ratio_rows_f32, task, status));
    task->ratios_known = true;
  }
  const bool known = uneven || a->label_weights != NULL;
  if (batch && known) task->batch = mean_weights(a);
  if (batch && !known) {
    task->batch.other = 1;  // until they are known, only their sum means something
    task->cross_entropies = sumix_scratch(2 * a->n, sizeof(double));
    if (task->cross_entropies == NULL) return sumix_out_of_memory(status);
  }
  set_totals(task, uneven);
  const bool serial = task->rows != NULL && has_repeats(a->perm, a->n, task->rows);
  const int64_t grain = serial ? a->n : sumix_rows_a_thread(8 * a->k);
  SUMIX_TRY(sumix_parallel_for(a->n, grain, wide ? loss_rows_f64 : loss_rows_f32, task, status));
  if (task->failed) return sumix_out_of_memory(status);
  if (task->cross_entropies != NULL) apply_batch_ratio(task);
  reduce(task);
  return 0;
}

int SUMIX_KERNEL(loss)(const struct sumix_loss_args *a, struct sumix_status *status)
{
  bool any_ignored;
  SUMIX_TRY(check_values(a, &any_ignored, status));
  struct loss_task task = {.args = a};
  if (a->grad_u != NULL && a->grad_partner == NULL) {
    task.rows = sumix_scratch(a->n, sizeof *task.rows);
    if (task.rows == NULL) return sumix_out_of_memory(status);
    for (int64_t i = 0; i < a->n; i++) task.rows[i] = (struct row_state){ATOMIC_FLAG_INIT, false};
  }
  const int failed = run(&task, any_ignored, status);
  free(task.rows);
  free(task.cross_entropies);
  return failed;
}

int SUMIX_KERNEL(loss_backward)(const struct sumix_loss_backward_args *a, struct sumix_status *status)
{
  struct backward_task task = {.args = a};
  if (a->per_sample) SUMIX_TRY(sumix_inverse_lists(a->perm, a->n, &task.inverse, status));
  const ParallelFunc rows = a->dtype == SUMIX_FLOAT64 ? backward_rows_f64 : backward_rows_f32;
  const int failed = sumix_parallel_rows(a->n, a->k, rows, &task, status);
  free(task.inverse.first);
  SUMIX_TRY(failed);
  if (task.failed) return sumix_out_of_memory(status);
  return 0;
}
