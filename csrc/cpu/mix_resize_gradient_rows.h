/* The gradient in mix_resize.c, for one type: included once each with REAL and SUFFIX defined. */

/* Adds what one pasted plane passes on; `g`: the gradient of the plane that it was pasted into. */
static void SUFFIX(add_pasted)(struct resizer *r, const struct sumix_mix_resize_backward_args *args, struct box b,
                               int64_t g, REAL *restrict sum)
{
  const int64_t channels = r->channels, width = args->layout.width * channels, count = r->box_width * channels;
  for (int64_t y = 0; y < r->box_height; y++) {
    const REAL *restrict row =
        SUFFIX(load)(args->dtype, args->grad_out, g + (b.y1 + y) * width + b.x1 * channels, count, r->loaded);
    if (r->how != SUMIX_SAME_BOX) {
      SUFFIX(add_resized)(r, args->layout.height, row, y, sum);
      continue;
    }
    REAL *restrict to = sum + (b.y1 + y) * width + b.x1 * channels;
#pragma omp simd
    for (int64_t j = 0; j < count; j++) to[j] += row[j];
  }
}

static void SUFFIX(plane_gradients)(int64_t begin, int64_t end, void *context)
{
  struct gradient_task *task = context;
  const struct sumix_mix_resize_backward_args *args = task->task.args;
  const struct sumix_layout *l = &args->layout;
  const int64_t channels = l->pixel / element_size(args->dtype), width = l->width * channels, k = l->height * width;
  struct resizer r;
  REAL *const scratch = sumix_scratch(k, sizeof(REAL));
  if (!resizer_new(&r, args->dtype, l->width, channels) || scratch == NULL) {
    free(r.first), free(scratch);
    task->task.failed = true;
    return;
  }
  for (int64_t item = begin; item < end; item++) {
    const int64_t i = item / l->planes, plane = item % l->planes;
    REAL *sum = SUFFIX(store_place)(args->dtype, args->grad_x, item * k, scratch);
    const REAL *g = SUFFIX(load)(args->dtype, args->grad_out, item * k, k, sum);
    if (g != sum) memcpy(sum, g, (size_t)k * sizeof *sum);
    const struct box hole = box_of(args->box, i);
    for (int64_t y = hole.y1; y < hole.y2; y++)
      memset(sum + y * width + hole.x1 * channels, 0, (size_t)((hole.x2 - hole.x1) * channels) * sizeof *sum);
    for (int64_t p = task->partners.first[i]; p < task->partners.first[i + 1]; p++) {
      const int64_t sample = task->partners.samples[p];
      const struct box b = box_of(args->box, sample);
      if (is_empty(b)) continue;
      resizer_set(&r, (enum sumix_resize)args->resize[sample], b);
      SUFFIX(add_pasted)(&r, args, b, (sample * l->planes + plane) * k, sum);
    }
    SUFFIX(store)(args->dtype, args->grad_x, item * k, k, sum);
  }
  free(r.first), free(scratch);
}
