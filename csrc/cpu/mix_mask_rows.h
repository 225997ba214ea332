/* What computes in mix_mask.c, for one type: included once each with REAL and SUFFIX defined. */

static void SUFFIX(means)(int64_t begin, int64_t end, void *context)
{
  struct sumix_task *task = context;
  const struct sumix_mix_mask_args *args = task->args;
  const int64_t element = args->element, size = sample_size(&args->layout) / element;
  const struct mask mask = mask_of(&args->mask, &args->layout, element);
  const int64_t plane_size = mask.pixels * mask.channels, per_sample = chunks_of(&mask);
  float spread[CHUNK];
  REAL scratch[3][CHUNK];
  for (int64_t item = begin; item < end; item++) {
    const int64_t i = item / per_sample, first = item % per_sample * mask.chunk,
                  k = smaller(plane_size - first, mask.chunk);
    const enum weights weights = judge(&mask, i, first, k);
    if (weights == WEIGHTS_WRONG) {
      task->failed = true;
      return;
    }
    const float *restrict w = weights == WEIGHTS_MIXED ? float_weights(&mask, i, first, k, spread) : NULL;
    for (int64_t plane = 0; plane < args->layout.planes; plane++) {
      const int64_t at = plane * plane_size + first, own = i * size + at, partner = args->perm[i] * size + at;
      if (weights != WEIGHTS_MIXED) {
        const int64_t from = weights == WEIGHTS_OWN ? own : partner;
        memcpy((char *)args->out + own * element, (const char *)args->x + from * element, (size_t)(k * element));
        continue;
      }
      if (args->dtype == SUMIX_UINT8) {
        mean_of_bytes((uint8_t *)args->out + own, (const uint8_t *)args->x + own, (const uint8_t *)args->x + partner, k,
                      w);
        continue;
      }
      const REAL *a = SUFFIX(load)(args->dtype, args->x, own, k, scratch[0]);
      const REAL *b = SUFFIX(load)(args->dtype, args->x, partner, k, scratch[1]);
      REAL *restrict out = SUFFIX(store_place)(args->dtype, args->out, own, scratch[2]);
#pragma omp simd
      for (int64_t j = 0; j < k; j++) {
        const REAL weight = w[j], mean = weight * a[j] + (1 - weight) * b[j];
        out[j] = weight == 1 ? a[j] : weight == 0 ? b[j] : mean;
      }
      SUFFIX(store)(args->dtype, args->out, own, k, out);
      if (args->dtype == SUMIX_INT64) {  // which double does not hold: what is taken as it is, is taken from x
        const int64_t *const x = args->x;
        int64_t *const exact = args->out;
        for (int64_t j = 0; j < k; j++)
          if (w[j] == 1 || w[j] == 0) exact[own + j] = x[(w[j] == 1 ? own : partner) + j];
      }
    }
  }
}

static void SUFFIX(mask_gradient)(int64_t begin, int64_t end, void *context)
{
  struct gradient_task *task = context;
  const struct sumix_mix_mask_backward_args *args = task->task.args;
  const int64_t element = element_size(args->dtype), size = sample_size(&args->layout) / element;
  const struct mask mask = mask_of(&args->mask, &args->layout, element);
  const int64_t plane_size = mask.pixels * mask.channels, per_sample = chunks_of(&mask);
  float spread[CHUNK];
  REAL scratch[2][CHUNK];
  for (int64_t item = begin; item < end; item++) {
    const int64_t i = item / per_sample, first = item % per_sample * mask.chunk,
                  k = smaller(plane_size - first, mask.chunk);
    for (int64_t plane = 0; plane < args->layout.planes; plane++) {
      const int64_t at = plane * plane_size + first, own = i * size + at;
      REAL *restrict sum = SUFFIX(store_place)(args->dtype, args->grad_x, own, scratch[0]);
      enum weights weights = judge(&mask, i, first, k);
      if (weights == WEIGHTS_PARTNER) {
        memset(sum, 0, (size_t)k * sizeof *sum);
      } else if (weights != WEIGHTS_WRONG) {
        const REAL *g = SUFFIX(load)(args->dtype, args->grad_out, own, k, scratch[1]);
        const float *restrict w = float_weights(&mask, i, first, k, spread);
#pragma omp simd
        for (int64_t j = 0; j < k; j++) sum[j] = w[j] == 0 ? 0 : w[j] * g[j];
      }
      for (int64_t p = task->partners.first[i]; weights != WEIGHTS_WRONG && p < task->partners.first[i + 1]; p++) {
        const int64_t sample = task->partners.samples[p];
        weights = judge(&mask, sample, first, k);
        if (weights == WEIGHTS_OWN || weights == WEIGHTS_WRONG) continue;
        const REAL *g = SUFFIX(load)(args->dtype, args->grad_out, sample * size + at, k, scratch[1]);
        const float *restrict w = float_weights(&mask, sample, first, k, spread);
#pragma omp simd
        for (int64_t j = 0; j < k; j++) sum[j] += w[j] == 1 ? 0 : (1 - (REAL)w[j]) * g[j];
      }
      if (weights == WEIGHTS_WRONG) {
        task->task.failed = true;
        return;
      }
      SUFFIX(store)(args->dtype, args->grad_x, own, k, sum);
    }
  }
}
