/* The box mixers in place: x[i] with box[i] filled from what x[perm[i]] was before.
 *
 * An image may be a partner and be pasted into at once, in cycles or worse (perm need not be a permutation). So what
 * the boxes will hold is first put aside, all of it, then pasted: twice the boxes' bytes are moved, against a whole
 * batch for the result of the mixers that are not in place, and none of it is fresh memory beyond the boxes' own.
 */
#include "mix_resize.h"

struct inplace_task {
  struct sumix_task task;
  int64_t *starts;  // (n): where the sample's boxes begin among what was put aside, plane after plane
  char *aside;
};

static enum sumix_resize resize_of(const struct sumix_mix_inplace_args *args, int64_t i)
{
  return args->resize == NULL ? SUMIX_SAME_BOX : (enum sumix_resize)args->resize[i];
}

/* Bytes that sample i takes from its partner. */
static int64_t box_bytes(const struct sumix_mix_inplace_args *args, int64_t i)
{
  const struct box b = box_of(args->box, i);
  if (args->perm[i] == i && resize_of(args, i) == SUMIX_SAME_BOX) return 0;
  return args->layout.planes * (b.y2 - b.y1) * (b.x2 - b.x1) * args->layout.pixel;
}

static void put_aside(int64_t begin, int64_t end, void *context)
{
  struct inplace_task *task = context;
  const struct sumix_mix_inplace_args *args = task->task.args;
  const struct sumix_layout *l = &args->layout;
  const int64_t plane_bytes = l->height * l->width * l->pixel;
  struct resizer r;
  if (!resizer_new(&r, args->dtype, l->width, l->pixel / args->element)) {
    task->task.failed = true;
    return;
  }
  for (int64_t i = begin; i < end; i++) {
    const struct box b = box_of(args->box, i);
    if (box_bytes(args, i) == 0) continue;
    const int64_t row = (b.x2 - b.x1) * l->pixel;
    resizer_set(&r, resize_of(args, i), b);
    for (int64_t plane = 0; plane < l->planes; plane++)
      fill_box(&r, l, args->dtype, b, (const char *)args->x + (args->perm[i] * l->planes + plane) * plane_bytes,
               task->aside + task->starts[i] + plane * (b.y2 - b.y1) * row, row);
  }
  free(r.first);
}

static void paste(int64_t begin, int64_t end, void *context)
{
  const struct inplace_task *task = context;
  const struct sumix_mix_inplace_args *args = task->task.args;
  const struct sumix_layout *l = &args->layout;
  const int64_t row = l->width * l->pixel;
  for (int64_t i = begin; i < end; i++) {
    const struct box b = box_of(args->box, i);
    if (box_bytes(args, i) == 0) continue;
    const int64_t bytes = (b.x2 - b.x1) * l->pixel;
    const char *from = task->aside + task->starts[i];
    for (int64_t plane = 0; plane < l->planes; plane++) {
      char *to = (char *)args->x + ((i * l->planes + plane) * l->height + b.y1) * row + b.x1 * l->pixel;
      for (int64_t y = b.y1; y < b.y2; y++, to += row, from += bytes) memcpy(to, from, (size_t)bytes);
    }
  }
}

int SUMIX_KERNEL(mix_inplace)(const struct sumix_mix_inplace_args *a, struct sumix_status *status)
{
  const int64_t n = a->layout.n;
  SUMIX_TRY(check_boxes(a->box, &a->layout, status));
  if (a->resize != NULL) SUMIX_TRY(check_resize(a->resize, n, a->dtype, status));
  SUMIX_TRY(sumix_check_partners(a->perm, n, status));
  struct inplace_task task = {{a, false}, sumix_scratch(n, sizeof(int64_t)), NULL};
  if (task.starts == NULL) return sumix_out_of_memory(status);
  int64_t bytes = 0;
  for (int64_t i = 0; i < n; i++) {
    task.starts[i] = bytes;
    bytes += (box_bytes(a, i) + 63) / 64 * 64;
  }
  int failed = 0;
  if (bytes > 0) {
    const int64_t elements = 1 + bytes / a->element / n;
    task.aside = sumix_scratch(bytes, 1);
    if (task.aside == NULL)
      task.task.failed = true;
    else
      failed = sumix_parallel_rows(n, elements, put_aside, &task, status);
    if (!failed && !task.task.failed) failed = sumix_parallel_rows(n, elements, paste, &task, status);
  }
  free(task.aside), free(task.starts);
  return task.task.failed ? sumix_out_of_memory(status) : failed;
}
