/* The rows of loss.c for one type: included after softmax_rows.h, with LOG and EPSILON defined too. */

/* A value for the own image and one for the partner. Their rows go through the same loops side by side: twice the
 * independent work hides the latency of reductions, which is what a short row spends its time on. */
struct SUFFIX(pair) {
  REAL own, other;
};

/* The rows that one sample needs: of the inputs, and of scratch. */
struct SUFFIX(rows) {
  const REAL *z, *v, *r, *u, *r_partner, *u_partner;
  REAL *m, *a, *b;            // m; then own and partner's e, t and t * exp(t - max t) in turn
  REAL max_z, sum_z;          // log sum exp(z) = max_z + log(sum_z)
  struct SUFFIX(pair) scale;  // alpha = scale.own * a, alpha' = scale.other * b
};

/* Scratch for one thread: m, a, b, and room to widen six half rows. */
static REAL *SUFFIX(loss_scratch)(const struct sumix_loss_args *args)
{
  const bool half = args->dtype == SUMIX_FLOAT16 || args->dtype == SUMIX_BFLOAT16;
  return sumix_scratch(args->k, (half ? 9 : 3) * sizeof(REAL));
}

/* a = exp(x - max x) and b = exp(y - max y). Returns their sums. */
static struct SUFFIX(pair)
    SUFFIX(exps_pair)(const REAL *restrict x, const REAL *restrict y, int64_t k, REAL *restrict a, REAL *restrict b)
{
  REAL max_x = x[0], max_y = y[0];
#pragma omp simd reduction(max : max_x, max_y)
  for (int64_t j = 1; j < k; j++) {
    max_x = x[j] > max_x ? x[j] : max_x;
    max_y = y[j] > max_y ? y[j] : max_y;
  }
  REAL sum_a = 0, sum_b = 0;
#pragma omp simd reduction(+ : sum_a, sum_b)
  for (int64_t j = 0; j < k; j++) {
    a[j] = SUFFIX(sumix_exp)(x[j] - max_x);
    sum_a += a[j];
    b[j] = SUFFIX(sumix_exp)(y[j] - max_y);
    sum_b += b[j];
  }
  return (struct SUFFIX(pair)){sum_a, sum_b};
}

/* m to m / sum m; a and b to e = exp(sign (p - m)) for p = a / sum a and p' = b / sum b, as semantic_distance_rows.h
 * explains. Returns ||e||_2 of both. */
static struct SUFFIX(pair) SUFFIX(distance_pair)(REAL *restrict a, REAL *restrict b, REAL *restrict m,
                                                 struct SUFFIX(pair) sums, REAL sum_m, REAL sign, int64_t k)
{
  const REAL to_m = 1 / sum_m, to_a = sign / sums.own, to_b = sign / sums.other;
  REAL squares_a = 0, squares_b = 0;
#pragma omp simd reduction(+ : squares_a, squares_b)
  for (int64_t j = 0; j < k; j++) {
    m[j] *= to_m;
    a[j] = SUFFIX(sumix_exp_unit)(a[j] * to_a - sign * m[j]);
    squares_a += a[j] * a[j];
    b[j] = SUFFIX(sumix_exp_unit)(b[j] * to_b - sign * m[j]);
    squares_b += b[j] * b[j];
  }
  return (struct SUFFIX(pair)){SQRT(squares_a), SQRT(squares_b)};
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
  if (args->ratio == SUMIX_RATIO_AREA) {
    for (int64_t j = 0; j < k; j++) rows->m[j] /= rows->sum_z;
    memset(rows->a, 0, (size_t)(2 * k) * sizeof(REAL));
    rows->scale = (struct SUFFIX(pair)){0, 0};
    return;
  }
  const struct SUFFIX(pair) sums = SUFFIX(exps_pair)(rows->r, rows->r_partner, k, rows->a, rows->b);
  if (!ignored(args, args->y_b[i])) rows->a[args->y_b[i]] = 0;
  if (!ignored(args, args->y_a[i])) rows->b[args->y_a[i]] = 0;
  const REAL sign = args->ratio == SUMIX_RATIO_PUBLISHED ? -1 : 1;
  const REAL scale = (REAL)(args->scale < 0 ? (double)args->n : args->scale);
  const struct SUFFIX(pair) norms = SUFFIX(distance_pair)(rows->a, rows->b, rows->m, sums, rows->sum_z, sign, k);
  rows->scale = (struct SUFFIX(pair)){scale / norms.own, scale / norms.other};
}

static REAL SUFFIX(mix_ratio)(const struct sumix_loss_args *args, int64_t i, const struct SUFFIX(rows) * rows)
{
  const REAL lam = ((const REAL *)args->lam)[i];
  if (ignored(args, args->y_a[i]) || ignored(args, args->y_b[i]))
    return lam;  // one label alone says nothing of the other
  const double own = (double)rows->scale.own * rows->a[args->y_a[i]];
  const double other = (double)rows->scale.other * rows->b[args->y_b[i]];
  return (REAL)sumix_mix_ratio_f64(lam, own, other);
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

/* One of the regulariser's two cross entropies, CE(t, y), and what its gradient by beta is made of when a holds
 * t * exp(t - max t): -g a / sum, but g t_y (1 - softmax(t)_y) at y, where the difference would cancel. */
struct SUFFIX(evidence) {
  REAL cross_entropy, sum, t_y, rest;  // rest = 1 - softmax(t)_y
};

/* Both of them, from a, b = alpha / scale, which become t * exp(t - max t). Where the minimum cuts, t is constant and
 * the gradient 0, also where the exponent is CAP itself. */
static void SUFFIX(regulariser)(const struct SUFFIX(rows) * rows, int64_t y_a, int64_t y_b, int64_t k,
                                struct SUFFIX(evidence) * own, struct SUFFIX(evidence) * other)
{
  const REAL *restrict u = rows->u, *restrict u_partner = rows->u_partner, *restrict v = rows->v;
  REAL *restrict a = rows->a, *restrict b = rows->b;
  const REAL scale_a = rows->scale.own, scale_b = rows->scale.other;
  REAL max_a = 0, max_b = 0;  // t > 0
#pragma omp simd reduction(max : max_a, max_b)
  for (int64_t j = 0; j < k; j++) {
    REAL exponent_a = -(u[j] + v[j] + scale_a * a[j]), exponent_b = -(u_partner[j] + v[j] + scale_b * b[j]);
    exponent_a = CAP < exponent_a ? CAP : exponent_a;
    exponent_b = CAP < exponent_b ? CAP : exponent_b;
    a[j] = SUFFIX(sumix_exp)(exponent_a);
    b[j] = SUFFIX(sumix_exp)(exponent_b);
    max_a = a[j] > max_a ? a[j] : max_a;
    max_b = b[j] > max_b ? b[j] : max_b;
  }
  own->t_y = a[y_a];
  other->t_y = b[y_b];
  own->cross_entropy = max_a - own->t_y;
  other->cross_entropy = max_b - other->t_y;
  REAL sum_a = 0, sum_b = 0, w_y_a, w_y_b;
  if (max_a <= 1 && max_b <= 1) {  // always so for normalised uncertainties: then t - max lies in [-1, 0]
#pragma omp simd reduction(+ : sum_a, sum_b)
    for (int64_t j = 0; j < k; j++) {
      const REAL w_a = SUFFIX(sumix_exp_unit)(a[j] - max_a), w_b = SUFFIX(sumix_exp_unit)(b[j] - max_b);
      sum_a += w_a;
      sum_b += w_b;
      a[j] *= w_a;
      b[j] *= w_b;
    }
    w_y_a = SUFFIX(sumix_exp_unit)(own->t_y - max_a);
    w_y_b = SUFFIX(sumix_exp_unit)(other->t_y - max_b);
  } else {
    const REAL cut = SUFFIX(sumix_exp)(CAP) * (1 - 16 * EPSILON);  // the next exponent below CAP is 64 EPSILON away
#pragma omp simd reduction(+ : sum_a, sum_b)
    for (int64_t j = 0; j < k; j++) {
      const REAL w_a = SUFFIX(sumix_exp)(a[j] - max_a), w_b = SUFFIX(sumix_exp)(b[j] - max_b);
      sum_a += w_a;
      sum_b += w_b;
      a[j] = a[j] >= cut ? 0 : a[j] * w_a;
      b[j] = b[j] >= cut ? 0 : b[j] * w_b;
    }
    w_y_a = SUFFIX(sumix_exp)(own->t_y - max_a);
    w_y_b = SUFFIX(sumix_exp)(other->t_y - max_b);
    if (own->t_y >= cut) own->t_y = 0;
    if (other->t_y >= cut) other->t_y = 0;
  }
  own->cross_entropy += LOG(sum_a);
  other->cross_entropy += LOG(sum_b);
  own->sum = sum_a;
  other->sum = sum_b;
  own->rest = (sum_a - w_y_a) / sum_a;
  other->rest = (sum_b - w_y_b) / sum_b;
}

/* An ignored label's cross entropy and gradient are 0. */
static void SUFFIX(drop)(struct SUFFIX(evidence) * evidence, REAL *row, int64_t k)
{
  memset(row, 0, (size_t)k * sizeof(REAL));
  *evidence = (struct SUFFIX(evidence)){0, 1, 0, 0};
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

/* What one sample's classification term is made of. Where the ratio is still to come (cross_entropies), only the sum of
 * own and other means something. */
struct SUFFIX(classification) {
  double own, other;  // weights of CE(z, y_a) and CE(z, y_b)
  double smooth;      // weight of each class's share of what is spread evenly, the rest and label smoothing
};
static struct SUFFIX(classification) SUFFIX(class_weights)(const struct loss_task *task, int64_t i, double ratio)
{
  const struct sumix_loss_args *args = task->args;
  const REAL *weight = args->class_weight;
  const int64_t y_a = args->y_a[i], y_b = args->y_b[i];
  struct SUFFIX(classification) c = {0, 0, 0};
  const struct sumix_loss_weights w =
      args->weighting == SUMIX_WEIGHTING_BATCH ? task->batch : weights_of(args, i, ratio);
  const double hard = 1 - args->label_smoothing, soft = args->label_smoothing / (double)args->k;
  if (!ignored(args, y_a)) {
    c.own = hard * w.own * (weight != NULL ? weight[y_a] : 1);
    c.smooth += soft * w.own;
  }
  if (!ignored(args, y_b)) {
    c.other = hard * w.other * (weight != NULL ? weight[y_b] : 1);
    c.smooth += soft * w.other;
  }
  if (has_rest(args, i)) c.smooth = soft + hard * w.rest / (double)args->k;
  return c;
}

static double SUFFIX(classify)(const struct loss_task *task, int64_t i, const struct SUFFIX(rows) * rows,
                               const struct SUFFIX(classification) * c)
{
  const struct sumix_loss_args *args = task->args;
  const REAL *weight = args->class_weight;
  const double log_sum = LOG(rows->sum_z);
  double value = 0;
  for (int side = 0; side < 2; side++) {
    const int64_t y = side == 0 ? args->y_a[i] : args->y_b[i];
    if (ignored(args, y)) continue;
    const double cross_entropy = log_sum + (double)(rows->max_z - rows->z[y]);
    if (task->cross_entropies != NULL)
      task->cross_entropies[2 * i + side] = cross_entropy;
    else
      value += (side == 0 ? c->own : c->other) * cross_entropy;
  }
  if (c->smooth != 0) {
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
  const double class_total = task->nothing_kept ? 1 : task->class_total;
  const double gamma = args->gamma / (task->nothing_kept ? 1 : task->regulariser_total);
  const double g_own = gamma * lam, g_other = gamma * (1 - lam);
  const REAL own_scale = (REAL)(-g_own / own->sum), other_scale = (REAL)(-g_other / other->sum);
  const REAL m_scale = (REAL)((c->own + c->other + c->smooth * task->weight_total) / class_total);
  REAL *restrict a = rows->a, *restrict b = rows->b;
  const REAL *restrict m = rows->m;
  REAL *restrict grad_z = (REAL *)args->grad_z + i * k;
  REAL *restrict grad_v = args->grad_v != NULL ? (REAL *)args->grad_v + i * k : NULL;  // the plain form has z for v

  /* The products are rounded here, before they are added to other rows: the sum of two rounded numbers has no order. */
  if (grad_v != NULL) {
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
  if (!ignored(args, y_a)) a[y_a] = (REAL)g_own * own->t_y * own->rest;
  if (!ignored(args, y_b)) b[y_b] = (REAL)g_other * other->t_y * other->rest;
  for (int side = 0; side < 2; side++) {
    const int64_t y = side == 0 ? y_a : y_b;
    if (ignored(args, y)) continue;
    grad_z[y] = m[y] * m_scale;
    if (grad_v != NULL)
      grad_v[y] = a[y] + b[y];
    else
      grad_z[y] += a[y] + b[y];
  }
  if (task->cross_entropies == NULL) {
    if (!ignored(args, y_a)) grad_z[y_a] -= (REAL)(c->own / class_total);
    if (!ignored(args, y_b)) grad_z[y_b] -= (REAL)(c->other / class_total);
  }
  if (c->smooth != 0) {
    const REAL *weight = args->class_weight;
    const REAL smooth = (REAL)(c->smooth / class_total);
    for (int64_t j = 0; j < k; j++) grad_z[j] -= smooth * (weight != NULL ? weight[j] : 1);
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
    const bool ignore_a = ignored(args, y_a), ignore_b = ignored(args, y_b);
    struct SUFFIX(evidence) own, other;
    SUFFIX(regulariser)(&rows, ignore_a ? 0 : y_a, ignore_b ? 0 : y_b, k, &own, &other);
    if (ignore_a) SUFFIX(drop)(&own, rows.a, k);
    if (ignore_b) SUFFIX(drop)(&other, rows.b, k);
    const double lam = ((const REAL *)args->lam)[i];
    parts[n + i] = (REAL)SUFFIX(classify)(task, i, &rows, &c);
    parts[2 * n + i] = (REAL)(lam * own.cross_entropy + (1 - lam) * other.cross_entropy);
    if (args->grad_z != NULL) SUFFIX(write_gradients)(task, i, &rows, &c, &own, &other);
  }
  free(scratch);
}
