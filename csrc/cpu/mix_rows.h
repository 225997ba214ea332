/* What computes in mix.c, for one type: included once each with REAL and SUFFIX defined. */

static void SUFFIX(linear)(int64_t begin, int64_t end, void *context)
{
  const struct sumix_mix_linear_args *args = ((struct sumix_task *)context)->args;
  const int64_t per_sample = chunks(args->size), bytes = element_size(args->dtype);
  REAL scratch[3][CHUNK];
  for (int64_t item = begin; item < end; item++) {
    const int64_t i = item / per_sample, first = item % per_sample * CHUNK;
    const int64_t own = i * args->size + first, partner = args->perm[i] * args->size + first;
    const int64_t k = args->size - first < CHUNK ? args->size - first : CHUNK;
    const REAL lam = args->lam[i], rest = 1 - lam;
    if (lam == 1 || lam == 0) {  // a weight of 0 takes nothing, not even a NaN
      const char *const from = (const char *)args->x + (lam == 1 ? own : partner) * bytes;
      memcpy((char *)args->out + own * bytes, from, (size_t)(k * bytes));
      continue;
    }
    if (args->dtype == SUMIX_UINT8) {
      mean_of_bytes((uint8_t *)args->out + own, (const uint8_t *)args->x + own, (const uint8_t *)args->x + partner, k,
                    (float)lam);
      continue;
    }
    const REAL *a = SUFFIX(load)(args->dtype, args->x, own, k, scratch[0]);
    const REAL *b = SUFFIX(load)(args->dtype, args->x, partner, k, scratch[1]);
    REAL *restrict out = SUFFIX(store_place)(args->dtype, args->out, own, scratch[2]);
#pragma omp simd
    for (int64_t j = 0; j < k; j++) out[j] = lam * a[j] + rest * b[j];
    SUFFIX(store)(args->dtype, args->out, own, k, out);
  }
}

static void SUFFIX(linear_gradient)(int64_t begin, int64_t end, void *context)
{
  const struct gradient_task *task = context;
  const struct sumix_mix_linear_backward_args *args = task->task.args;
  const int64_t per_sample = chunks(args->size);
  REAL scratch[2][CHUNK];
  for (int64_t item = begin; item < end; item++) {
    const int64_t i = item / per_sample, first = item % per_sample * CHUNK, own = i * args->size + first;
    const int64_t k = args->size - first < CHUNK ? args->size - first : CHUNK;
    REAL *restrict sum = SUFFIX(store_place)(args->dtype, args->grad_x, own, scratch[0]);
    const REAL lam = args->lam[i];
    if (lam == 0) {
      memset(sum, 0, (size_t)k * sizeof *sum);
    } else {
      const REAL *g = SUFFIX(load)(args->dtype, args->grad_out, own, k, scratch[1]);
#pragma omp simd
      for (int64_t j = 0; j < k; j++) sum[j] = lam * g[j];
    }
    for (int64_t at = task->partners.first[i]; at < task->partners.first[i + 1]; at++) {
      const int64_t sample = task->partners.samples[at];
      const REAL rest = 1 - (REAL)args->lam[sample];
      if (rest == 0) continue;
      const REAL *g = SUFFIX(load)(args->dtype, args->grad_out, sample * args->size + first, k, scratch[1]);
#pragma omp simd
      for (int64_t j = 0; j < k; j++) sum[j] += rest * g[j];
    }
    SUFFIX(store)(args->dtype, args->grad_x, own, k, sum);
  }
}

/* In bands of rows of one plane: the image's own gradient, less its box, plus the boxes that it was pasted into. */
static void SUFFIX(box_gradient)(int64_t begin, int64_t end, void *context)
{
  struct gradient_task *task = context;
  const struct sumix_mix_box_backward_args *args = task->task.args;
  const struct sumix_layout *l = &args->layout;
  const int64_t channels = l->pixel / element_size(args->dtype), width = l->width * channels;
  const int64_t band = width < CHUNK ? CHUNK / width : 1;
  REAL *scratch = sumix_scratch((band + 1) * width, sizeof(REAL)), *segment = scratch + band * width;
  if (scratch == NULL) {
    task->task.failed = true;
    return;
  }
  for (int64_t i = begin; i < end; i++)
    for (int64_t plane = 0; plane < l->planes; plane++)
      for (int64_t top = 0; top < l->height; top += band) {
        const int64_t bottom = top + band < l->height ? top + band : l->height, k = (bottom - top) * width;
        const int64_t own = ((i * l->planes + plane) * l->height + top) * width;
        REAL *sum = SUFFIX(store_place)(args->dtype, args->grad_x, own, scratch);
        const REAL *g = SUFFIX(load)(args->dtype, args->grad_out, own, k, sum);
        if (g != sum) memcpy(sum, g, (size_t)k * sizeof *sum);

        const struct box hole = box_of(args->box, i);
        const int64_t last = hole.y2 < bottom ? hole.y2 : bottom;
        for (int64_t y = hole.y1 > top ? hole.y1 : top; y < last; y++)
          memset(sum + (y - top) * width + hole.x1 * channels, 0,
                 (size_t)((hole.x2 - hole.x1) * channels) * sizeof *sum);

        for (int64_t at = task->partners.first[i]; at < task->partners.first[i + 1]; at++) {
          const int64_t sample = task->partners.samples[at];
          const struct box b = box_of(args->box, sample);
          const int64_t left = b.x1 * channels, count = (b.x2 - b.x1) * channels, end_y = b.y2 < bottom ? b.y2 : bottom;
          for (int64_t y = b.y1 > top ? b.y1 : top; y < end_y; y++) {
            const int64_t offset = ((sample * l->planes + plane) * l->height + y) * width + left;
            const REAL *restrict pasted = SUFFIX(load)(args->dtype, args->grad_out, offset, count, segment);
            REAL *restrict to = sum + (y - top) * width + left;
#pragma omp simd
            for (int64_t j = 0; j < count; j++) to[j] += pasted[j];
          }
        }
        SUFFIX(store)(args->dtype, args->grad_x, own, k, sum);
      }
  free(scratch);
}
