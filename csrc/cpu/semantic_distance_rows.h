/* The rows of semantic_distance.c for one type. */

/* In place, q to e = exp(p - m) with p = q * to_p (to_p < 0 turns the sign of p, the caller that of m): the numerator
 * of softmax(p - m), whose denominator cancels against the norm. Both are probabilities, so |p - m| <= 1 and no maximum
 * is needed. Returns ||e||_2, at least exp(-1). */
static REAL SUFFIX(distance)(REAL *restrict q, const REAL *restrict m, REAL to_p, REAL sign, int64_t k)
{
  REAL squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t j = 0; j < k; j++) {
    q[j] = SUFFIX(sumix_exp_unit)(q[j] * to_p - sign * m[j]);
    squares += q[j] * q[j];
  }
  return SQRT(squares);
}

static void SUFFIX(distance_rows)(int64_t begin, int64_t end, void *context)
{
  struct sumix_task *task = context;
  const struct sumix_semantic_distance_args *args = task->args;
  const int64_t k = args->k;
  const REAL sign = args->published ? -1 : 1;
  REAL *scratch = sumix_scratch(k, 3 * sizeof(REAL));
  if (scratch == NULL) task->failed = true;
  for (int64_t i = begin; i < end && scratch != NULL; i++) {
    REAL *restrict m = scratch, *widened = scratch + 2 * k, max;
    REAL sum = SUFFIX(exps)(SUFFIX(sumix_load)(args->dtype, args->z, i * k, k, widened), k, m, &max);
    for (int64_t j = 0; j < k; j++) m[j] /= sum;

    REAL *restrict e = SUFFIX(sumix_store_place)(args->dtype, args->alpha, i * k, scratch + k);
    sum = SUFFIX(exps)(SUFFIX(sumix_load)(args->dtype, args->r, i * k, k, widened), k, e, &max);
    if (args->masked[i] >= 0) e[args->masked[i]] = 0;
    const REAL norm = SUFFIX(distance)(e, m, sign / sum, sign, k), scale = (REAL)args->scale / norm;
    for (int64_t j = 0; j < k; j++) e[j] *= scale;
    SUFFIX(sumix_store)(args->dtype, args->alpha, i * k, k, e);
  }
  free(scratch);
}
