/* The rows of loss.c for one type: included after distance_rows.h, with LOG and EPSILON defined too. */

/* The rows that one sample needs: of the inputs, and of scratch. */
struct SUFFIX(rows) {
  const REAL *z, *v, *r, *u, *r_partner, *u_partner;
  REAL *m, *a, *b;        // m; then own and partner's e, t and t * exp(t - max t) in turn
  REAL max_z, sum_z;      // log sum exp(z) = max_z + log(sum_z)
  REAL scale_a, scale_b;  // alpha = scale_a * a, alpha' = scale_b * b
};

/* Scratch for one thread: m, a, b, and room to widen six half rows. */
static REAL *SUFFIX(loss_scratch)(const struct sumix_loss_args *args)
{
  const bool half = args->dtype == SUMIX_FLOAT16 || args->dtype == SUMIX_BFLOAT16;
  return sumix_scratch(args->k, (half ? 9 : 3) * sizeof(REAL));
}

/* Softmax of the mixed row and both distances. */
static void SUFFIX(distances)(const struct sumix_loss_args *args, int64_t i, REAL *scratch, struct SUFFIX(rows) * rows)
{
  const int64_t k = args->k, partner = args->perm[i];
  REAL *const widened = scratch + 3 * k;
  rows->z = SUFFIX(sumix_load)(args->dtype, args->z, i * k, k, widened);
  rows->r = SUFFIX(sumix_load)(args->dtype, args->r, i * k, k, widened + k);
  rows->r_partner = SUFFIX(sumix_load)(args->dtype, args->r, partner * k, k, widened + 2 * k);
  rows->m = scratch;
  rows->a = scratch + k;
  rows->b = scratch + 2 * k;

  rows->sum_z = SUFFIX(exps)(rows->z, k, rows->m, &rows->max_z);
  const REAL to_m = 1 / rows->sum_z;
#pragma omp simd
  for (int64_t j = 0; j < k; j++) rows->m[j] *= to_m;

  rows->scale_a = rows->scale_b = 0;
  if (args->ratio == SUMIX_RATIO_AREA) {
    memset(rows->a, 0, (size_t)(2 * k) * sizeof(REAL));
    return;
  }
  const REAL sign = args->ratio == SUMIX_RATIO_PUBLISHED ? -1 : 1;
  REAL max;
  REAL sum = SUFFIX(exps)(rows->r, k, rows->a, &max);
  if (!ignored(args, args->y_b[i])) rows->a[args->y_b[i]] = 0;
  rows->scale_a = (REAL)args->scale / SUFFIX(distance)(rows->a, rows->m, sign / sum, sign, k);
  sum = SUFFIX(exps)(rows->r_partner, k, rows->b, &max);
  if (!ignored(args, args->y_a[i])) rows->b[args->y_a[i]] = 0;
  rows->scale_b = (REAL)args->scale / SUFFIX(distance)(rows->b, rows->m, sign / sum, sign, k);
}

/* lam~, finite for any scale because only the logarithm of the weights' ratio is formed. */
static REAL SUFFIX(mix_ratio)(const struct sumix_loss_args *args, int64_t i, const struct SUFFIX(rows) * rows)
{
  const REAL lam = ((const REAL *)args->lam)[i];
  if (ignored(args, args->y_a[i]) || ignored(args, args->y_b[i]))
    return lam;  // one label alone says nothing of the other
  const double own = (double)rows->scale_a * rows->a[args->y_a[i]],
               other = (double)rows->scale_b * rows->b[args->y_b[i]];
  return (REAL)(1 / (1 + exp(log1p(-(double)lam) - log((double)lam) + own - other)));
}

static void SUFFIX(ratio_rows)(int64_t begin, int64_t end, void *context)
{
  struct loss_task *task = context;
  REAL *scratch = SUFFIX(loss_scratch)(task->args);
  if (scratch == NULL) task->failed = true;
  for (int64_t i = begin; i < end && scratch != NULL; i++) {
    struct SUFFIX(rows) rows;
    SUFFIX(distances)(task->args, i, scratch, &rows);
    ((REAL *)task->args->parts)[i] = SUFFIX(mix_ratio)(task->args, i, &rows);
  }
  free(scratch);
}

/* One cross entropy of the regulariser, CE(t, y). Leaves in e (which holds alpha / scale) t * exp(t - max t), so that
 * the gradient by beta is -g (e / sum - t_y at y); t is constant where the minimum cuts, and both are 0 there. */
struct SUFFIX(evidence) {
  REAL cross_entropy, sum, t_y;
};
static struct SUFFIX(evidence) SUFFIX(regulariser)(const REAL *restrict u, const REAL *restrict v, REAL *restrict e,
                                                   REAL scale, int64_t y, int64_t k)
{
  REAL max = 0;  // t > 0
#pragma omp simd reduction(max : max)
  for (int64_t j = 0; j < k; j++) {
    REAL exponent = -(u[j] + v[j] + scale * e[j]);
    exponent = CAP < exponent ? CAP : exponent;
    const REAL t = SUFFIX(sumix_exp)(exponent);
    e[j] = t;
    max = t > max ? t : max;
  }
  REAL t_y = e[y], sum = 0;
  struct SUFFIX(evidence) result = {.cross_entropy = max - t_y};
  if (max <= 1) {  // always so for normalised uncertainties: then t - max lies in [-1, 0]
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < k; j++) {
      const REAL w = SUFFIX(sumix_exp_unit)(e[j] - max);
      sum += w;
      e[j] *= w;
    }
  } else {
    const REAL cut = SUFFIX(sumix_exp)(CAP) * (1 - 16 * EPSILON);  // the next exponent below CAP is 64 EPSILON away
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < k; j++) {
      const REAL w = SUFFIX(sumix_exp)(e[j] - max);
      sum += w;
      e[j] = e[j] >= cut ? 0 : e[j] * w;
    }
    if (t_y >= cut) t_y = 0;
  }
  result.cross_entropy += LOG(sum);
  result.sum = sum;
  result.t_y = t_y;
  return result;
}

/* An ignored label's cross entropy and gradient are 0. */
static struct SUFFIX(evidence) SUFFIX(no_regulariser)(REAL *e, int64_t k)
{
  memset(e, 0, (size_t)k * sizeof(REAL));
  return (struct SUFFIX(evidence)){0, 1, 0};
}

/* Gives a row of grad_u one of its two addends. */
static void SUFFIX(add_to_row)(const struct loss_task *task, int64_t row, const REAL *restrict addend)
{
  const int64_t k = task->args->k;
  REAL *restrict grad = (REAL *)task->args->grad_u + row * k;
  struct row_state *state = &task->rows[row];
  while (atomic_flag_test_and_set_explicit(&state->busy, memory_order_acquire)) sched_yield();
  if (state->written) {
#pragma omp simd
    for (int64_t j = 0; j < k; j++) grad[j] += addend[j];
  } else {
    memcpy(grad, addend, (size_t)k * sizeof(REAL));
    state->written = true;
  }
  atomic_flag_clear_explicit(&state->busy, memory_order_release);
}

/* What one sample's classification term is made of. */
struct SUFFIX(classification) {
  double own, other;  // weights of CE(z, y_a) and CE(z, y_b)
  double smooth;      // weight of each class's share of label smoothing
};
static struct SUFFIX(classification) SUFFIX(class_weights)(const struct loss_task *task, int64_t i, double ratio)
{
  const struct sumix_loss_args *args = task->args;
  const REAL *weight = args->class_weight;
  const int64_t y_a = args->y_a[i], y_b = args->y_b[i];
  struct SUFFIX(classification) c = {0, 0, 0};
  if (args->weighting == SUMIX_WEIGHTING_BATCH) ratio = task->batch_ratio;
  const double hard = 1 - args->label_smoothing, soft = args->label_smoothing / (double)args->k;
  if (!ignored(args, y_a)) {
    c.own = hard * ratio * (weight != NULL ? weight[y_a] : 1);
    c.smooth += soft * ratio;
  }
  if (!ignored(args, y_b)) {
    c.other = hard * (1 - ratio) * (weight != NULL ? weight[y_b] : 1);
    c.smooth += soft * (1 - ratio);
  }
  return c;
}

static double SUFFIX(classify)(const struct sumix_loss_args *args, int64_t i, const struct SUFFIX(rows) * rows,
                               const struct SUFFIX(classification) * c)
{
  const REAL *weight = args->class_weight;
  const double log_sum = LOG(rows->sum_z);
  double value = 0;
  if (!ignored(args, args->y_a[i])) value += c->own * (log_sum + (rows->max_z - rows->z[args->y_a[i]]));
  if (!ignored(args, args->y_b[i])) value += c->other * (log_sum + (rows->max_z - rows->z[args->y_b[i]]));
  if (args->label_smoothing > 0) {
    double sum = 0;
    for (int64_t j = 0; j < args->k; j++)
      sum += (weight != NULL ? weight[j] : 1) * (log_sum + (double)(rows->max_z - rows->z[j]));
    value += c->smooth * sum;
  }
  return value;
}

static void SUFFIX(write_gradients)(const struct loss_task *task, int64_t i, const struct SUFFIX(rows) * rows,
                                    const struct SUFFIX(classification) * c, const struct SUFFIX(evidence) * own,
                                    const struct SUFFIX(evidence) * other)
{
  const struct sumix_loss_args *args = task->args;
  const int64_t k = args->k, y_a = args->y_a[i], y_b = args->y_b[i];
  const double lam = ((const REAL *)args->lam)[i];
  const double g_own = args->gamma * lam / task->regulariser_total,
               g_other = args->gamma * (1 - lam) / task->regulariser_total;
  const REAL own_scale = (REAL)(-g_own / own->sum), other_scale = (REAL)(-g_other / other->sum);
  const REAL m_scale = (REAL)((c->own + c->other + c->smooth * task->weight_total) / task->class_total);
  REAL *restrict a = rows->a, *restrict b = rows->b;
  const REAL *restrict m = rows->m;
  REAL *restrict grad_z = (REAL *)args->grad_z + i * k;
  REAL *restrict grad_v = args->grad_v != NULL ? (REAL *)args->grad_v + i * k : grad_z;  // the plain form has z for v

  /* The products are rounded here, before they are added to other rows: the sum of two rounded numbers has no order. */
  if (args->grad_v != NULL) {
#pragma omp simd
    for (int64_t j = 0; j < k; j++) {
      const REAL from_own = a[j] * own_scale, from_other = b[j] * other_scale;
      a[j] = from_own;
      b[j] = from_other;
      grad_v[j] = from_own + from_other;
      grad_z[j] = m[j] * m_scale;
    }
  } else {
#pragma omp simd
    for (int64_t j = 0; j < k; j++) {
      const REAL from_own = a[j] * own_scale, from_other = b[j] * other_scale;
      a[j] = from_own;
      b[j] = from_other;
      grad_z[j] = m[j] * m_scale + (from_own + from_other);
    }
  }
  if (args->label_smoothing > 0) {
    const REAL *weight = args->class_weight;
    const REAL smooth = (REAL)(c->smooth / task->class_total);
    for (int64_t j = 0; j < k; j++) grad_z[j] -= smooth * (weight != NULL ? weight[j] : 1);
  }
  if (!ignored(args, y_a)) {
    const REAL at_label = (REAL)(g_own * own->t_y);
    a[y_a] += at_label;
    grad_v[y_a] += at_label;
    grad_z[y_a] -= (REAL)(c->own / task->class_total);
  }
  if (!ignored(args, y_b)) {
    const REAL at_label = (REAL)(g_other * other->t_y);
    b[y_b] += at_label;
    grad_v[y_b] += at_label;
    grad_z[y_b] -= (REAL)(c->other / task->class_total);
  }
  if (args->grad_partner != NULL) {
    memcpy((REAL *)args->grad_u + i * k, a, (size_t)k * sizeof(REAL));
    memcpy((REAL *)args->grad_partner + i * k, b, (size_t)k * sizeof(REAL));
  } else {
    SUFFIX(add_to_row)(task, i, a);
    SUFFIX(add_to_row)(task, args->perm[i], b);
  }
}

static void SUFFIX(loss_rows)(int64_t begin, int64_t end, void *context)
{
  struct loss_task *task = context;
  const struct sumix_loss_args *args = task->args;
  const int64_t k = args->k, n = args->n;
  REAL *parts = args->parts;
  REAL *scratch = SUFFIX(loss_scratch)(args);
  if (scratch == NULL) task->failed = true;
  for (int64_t i = begin; i < end && scratch != NULL; i++) {
    const int64_t y_a = args->y_a[i], y_b = args->y_b[i];
    struct SUFFIX(rows) rows;
    SUFFIX(distances)(args, i, scratch, &rows);
    rows.v = rows.z, rows.u = rows.r, rows.u_partner = rows.r_partner;
    if (args->v != NULL) {
      REAL *const widened = scratch + 6 * k;
      rows.v = SUFFIX(sumix_load)(args->dtype, args->v, i * k, k, widened);
      rows.u = SUFFIX(sumix_load)(args->dtype, args->u, i * k, k, widened + k);
      rows.u_partner = SUFFIX(sumix_load)(args->dtype, args->u, args->perm[i] * k, k, widened + 2 * k);
    }
    if (!task->ratios_known) parts[i] = SUFFIX(mix_ratio)(args, i, &rows);

    const struct SUFFIX(classification) c = SUFFIX(class_weights)(task, i, parts[i]);
    const struct SUFFIX(evidence) own = ignored(args, y_a)
                                            ? SUFFIX(no_regulariser)(rows.a, k)
                                            : SUFFIX(regulariser)(rows.u, rows.v, rows.a, rows.scale_a, y_a, k);
    const struct SUFFIX(evidence) other =
        ignored(args, y_b) ? SUFFIX(no_regulariser)(rows.b, k)
                           : SUFFIX(regulariser)(rows.u_partner, rows.v, rows.b, rows.scale_b, y_b, k);
    const double lam = ((const REAL *)args->lam)[i];
    parts[n + i] = (REAL)SUFFIX(classify)(args, i, &rows, &c);
    parts[2 * n + i] = (REAL)(lam * own.cross_entropy + (1 - lam) * other.cross_entropy);
    if (args->grad_z != NULL) SUFFIX(write_gradients)(task, i, &rows, &c, &own, &other);
  }
  free(scratch);
}
