/* The rows of the loss's backward for one type: what forward left, times the incoming gradient. */

static void SUFFIX(scale_row)(const struct sumix_loss_backward_args *args, const void *from, void *to, int64_t i,
                              REAL g, REAL *scratch)
{
  const int64_t k = args->k;
  const REAL *restrict grad = (const REAL *)from + i * k;
  REAL *restrict out = SUFFIX(sumix_store_place)(args->dtype, to, i * k, scratch);
#pragma omp simd
  for (int64_t j = 0; j < k; j++) out[j] = grad[j] * g;
  SUFFIX(sumix_store)(args->dtype, to, i * k, k, out);
}

/* Row i of the raw uncertainty: its own share, and that of every sample it was pasted into. */
static void SUFFIX(gather_row)(const struct backward_task *task, int64_t i, REAL *scratch)
{
  const struct sumix_loss_backward_args *args = task->args;
  const int64_t k = args->k;
  const REAL *restrict g = args->grad_loss, *restrict own = (const REAL *)args->grad_u + i * k;
  REAL *restrict out = SUFFIX(sumix_store_place)(args->dtype, args->out_u, i * k, scratch);
  for (int64_t j = 0; j < k; j++) out[j] = own[j] * g[i];
  for (int64_t s = task->inverse.first[i]; s < task->inverse.first[i + 1]; s++) {
    const int64_t sample = task->inverse.samples[s];
    const REAL *restrict partner = (const REAL *)args->grad_partner + sample * k;
    for (int64_t j = 0; j < k; j++) out[j] += partner[j] * g[sample];
  }
  SUFFIX(sumix_store)(args->dtype, args->out_u, i * k, k, out);
}

static void SUFFIX(backward_rows)(int64_t begin, int64_t end, void *context)
{
  struct backward_task *task = context;
  const struct sumix_loss_backward_args *args = task->args;
  REAL *scratch = sumix_scratch(args->k, sizeof(REAL));
  if (scratch == NULL) task->failed = true;
  for (int64_t i = begin; i < end && scratch != NULL; i++) {
    const REAL g = ((const REAL *)args->grad_loss)[args->per_sample ? i : 0];
    SUFFIX(scale_row)(args, args->grad_z, args->out_z, i, g, scratch);
    if (args->grad_v != NULL) SUFFIX(scale_row)(args, args->grad_v, args->out_v, i, g, scratch);
    if (args->per_sample)
      SUFFIX(gather_row)(task, i, scratch);
    else
      SUFFIX(scale_row)(args, args->grad_u, args->out_u, i, g, scratch);
  }
  free(scratch);
}
