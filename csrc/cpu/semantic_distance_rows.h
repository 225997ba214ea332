/* The rows of semantic_distance.c for one type. */

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
