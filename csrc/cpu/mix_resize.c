/* Pasting the whole partner, resized, into a box of each image, and the gradient.
 *
 *   out[i] = x[i] with box[i] filled from resize(x[perm[i]], size of the box)     (ResizeMix; Qin et al., 2012.11101)
 *
 * mix_resize.h says which pixels those are; resize[i] chooses among same box (no resizing, as mix_box), nearest,
 * nearest-exact and bilinear, sample by sample. A plane is copied, and its box overwritten while it is in the cache:
 * most of a box's cost is in resizing.
 *
 * The gradient of an image is its own outside of its box, plus the transpose of the resizing for each box that it was
 * pasted into. One thread adds all of them, through the inverse lists of perm, in one order, to a plane of float or
 * double that is rounded once: no atomics, and the same bits on any number of threads.
 */
#include "mix_resize.h"

static inline bool pastes(const int64_t *box, const int64_t *resize, const int64_t *perm, int64_t i)
{
  return !is_empty(box_of(box, i)) && (perm[i] != i || resize[i] != SUMIX_SAME_BOX);
}

/* Over planes: one large video also occupies every thread. */
static void planes(int64_t begin, int64_t end, void *context)
{
  struct sumix_task *task = context;
  const struct sumix_mix_resize_args *args = task->args;
  const struct sumix_layout *l = &args->layout;
  const int64_t row = l->width * l->pixel, bytes = l->height * row;
  struct resizer r;
  if (!resizer_new(&r, args->dtype, l->width, l->pixel / args->element)) {
    task->failed = true;
    return;
  }
  int64_t set_for = -1;
  for (int64_t item = begin; item < end; item++) {
    const int64_t i = item / l->planes, plane = item % l->planes;
    const struct box b = box_of(args->box, i);
    char *const out = (char *)args->out + item * bytes;
    memcpy(out, (const char *)args->x + item * bytes, (size_t)bytes);
    if (!pastes(args->box, args->resize, args->perm, i)) continue;
    if (set_for != i) resizer_set(&r, (enum sumix_resize)args->resize[i], b);
    set_for = i;
    const char *const partner = (const char *)args->x + (args->perm[i] * l->planes + plane) * bytes;
    fill_box(&r, l, args->dtype, b, partner, out + b.y1 * row + b.x1 * l->pixel, row);
  }
  free(r.first);
}

int SUMIX_KERNEL(mix_resize)(const struct sumix_mix_resize_args *a, struct sumix_status *status)
{
  const struct sumix_layout *l = &a->layout;
  SUMIX_TRY(check_boxes(a->box, l, status));
  SUMIX_TRY(check_resize(a->resize, l->n, a->dtype, status));
  SUMIX_TRY(sumix_check_partners(a->perm, l->n, status));
  if (sample_size(l) == 0) return 0;
  struct sumix_task task = {a, false};
  SUMIX_TRY(sumix_parallel_rows(l->n * l->planes, l->height * l->width * l->pixel / a->element, planes, &task, status));
  return task.failed ? sumix_out_of_memory(status) : 0;
}

#define REAL float
#define SUFFIX(name) name##_f32
#include "mix_resize_gradient_rows.h"
#undef REAL
#undef SUFFIX

#define REAL double
#define SUFFIX(name) name##_f64
#include "mix_resize_gradient_rows.h"

int SUMIX_KERNEL(mix_resize_backward)(const struct sumix_mix_resize_backward_args *a, struct sumix_status *status)
{
  const struct sumix_layout *l = &a->layout;
  SUMIX_TRY(check_boxes(a->box, l, status));
  SUMIX_TRY(check_resize(a->resize, l->n, a->dtype, status));
  struct gradient_task task = {{a, false}, {0}};
  SUMIX_TRY(sumix_inverse_lists(a->perm, l->n, &task.partners, status));
  int failed = 0;
  if (sample_size(l) > 0)
    failed = sumix_parallel_rows(l->n * l->planes, 2 * l->height * l->width * l->pixel / element_size(a->dtype),
                                 in_double(a->dtype) ? plane_gradients_f64 : plane_gradients_f32, &task, status);
  free(task.partners.first);
  if (task.task.failed) return sumix_out_of_memory(status);
  return failed;
}
