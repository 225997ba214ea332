/* The rows of uncertainty.c for one type: included once each with REAL, SUFFIX and SQRT defined. */

static void SUFFIX(forward_rows)(int64_t begin, int64_t end, void *context)
{
  struct sumix_task *task = context;
  const struct sumix_uncertainty_args *args = task->args;
  const int64_t k = args->k;
  REAL *scratch = sumix_scratch(k, 2 * sizeof(REAL));
  if (scratch == NULL) task->failed = true;
  for (int64_t i = begin; i < end && scratch != NULL; i++) {
    const REAL *restrict x = SUFFIX(sumix_load)(args->dtype, args->x, i * k, k, scratch);
    REAL *restrict u = SUFFIX(sumix_store_place)(args->dtype, args->u, i * k, scratch + k);

    REAL max = x[0];
#pragma omp simd reduction(max : max)
    for (int64_t j = 1; j < k; j++) max = x[j] > max ? x[j] : max;

    REAL squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t j = 0; j < k; j++) {
      u[j] = SUFFIX(sumix_exp)(x[j] - max);
      squares += u[j] * u[j];
    }

    const REAL scale = 1 / SQRT(squares);  // squares >= 1: the maximum contributes 1
#pragma omp simd
    for (int64_t j = 0; j < k; j++) u[j] *= scale;
    SUFFIX(sumix_store)(args->dtype, args->u, i * k, k, u);
  }
  free(scratch);
}

static void SUFFIX(backward_rows)(int64_t begin, int64_t end, void *context)
{
  struct sumix_task *task = context;
  const struct sumix_uncertainty_backward_args *args = task->args;
  const int64_t k = args->k;
  REAL *scratch = sumix_scratch(k, 3 * sizeof(REAL));
  if (scratch == NULL) task->failed = true;
  for (int64_t i = begin; i < end && scratch != NULL; i++) {
    const REAL *restrict u = SUFFIX(sumix_load)(args->dtype, args->u, i * k, k, scratch);
    const REAL *restrict g = SUFFIX(sumix_load)(args->dtype, args->grad_u, i * k, k, scratch + k);
    REAL *restrict grad_x = SUFFIX(sumix_store_place)(args->dtype, args->grad_x, i * k, scratch + 2 * k);

    REAL dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t j = 0; j < k; j++) dot += g[j] * u[j];
#pragma omp simd
    for (int64_t j = 0; j < k; j++) grad_x[j] = u[j] * (g[j] - u[j] * dot);
    SUFFIX(sumix_store)(args->dtype, args->grad_x, i * k, k, grad_x);
  }
  free(scratch);
}

#undef REAL
#undef SUFFIX
#undef SQRT
