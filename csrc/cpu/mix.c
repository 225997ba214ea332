/* Mixing each image of a batch with its partner, and the gradients.
 *
 *   mix_box      out[i] = x[i] with box[i] filled from x[perm[i]]                  (CutMix; Yun et al., ICCV 2019)
 *   mix_linear   out[i] = lam[i] x[i] + (1 - lam[i]) x[perm[i]]                    (Mixup; Zhang et al., ICLR 2018)
 *
 *   soft_labels  the targets that go with either
 *
 * x[perm] is never gathered. mix_box copies every byte of the result once: in memory order the result is an alternation
 * of spans from x[i] and spans from x[perm[i]], where what lies right of a box and what lies left of it in the next row
 * are one span, as are the rows between the boxes of two channels and the end of a sample with the start of the next.
 *
 * The gradients gather through the inverse lists of perm, so they need no atomics and add in one order, whatever the
 * partners are. Half precision is added up in float and rounded once.
 */
#include "mix.h"

/* ---- mix_box ---- */

enum {
  VECTOR = 32,       // bytes moved at once
  LONG_SPAN = 4096,  // bytes from which calling memcpy pays
};

/* Copies whole vectors, so up to VECTOR - 1 bytes too many: they are read and written in vain, and what is written is
 * overwritten by the spans that follow. A row of 32 floats is too short for a call to memcpy and its tail handling. */
static inline void copy_loosely(char *to, const char *from, int64_t bytes)
{
  typedef char vector __attribute__((vector_size(VECTOR), aligned(1), may_alias));
  for (int64_t at = 0; at < bytes; at += VECTOR) *(vector *)(to + at) = *(const vector *)(from + at);
}

static inline void copy_span(char *to, const char *from, int64_t bytes, bool loosely)
{
  if (loosely && bytes < LONG_SPAN)
    copy_loosely(to, from, bytes);
  else
    memcpy(to, from, (size_t)bytes);
}

/* Writes out from done to the end of the last box of sample i, and returns that end. */
static inline int64_t paste(const struct sumix_mix_box_args *args, int64_t i, int64_t done, bool loosely)
{
  const struct sumix_layout *l = &args->layout;
  const struct box b = box_of(args->box, i);
  const int64_t size = sample_size(l), row = l->width * l->pixel, to_partner = (args->perm[i] - i) * size;
  const bool full_rows = b.x1 == 0 && b.x2 == l->width;  // then the box of a plane is one span
  const int64_t spans = full_rows ? 1 : b.y2 - b.y1, bytes = (b.x2 - b.x1) * l->pixel * (full_rows ? b.y2 - b.y1 : 1);
  const char *const x = args->x;
  char *const out = args->out;
  for (int64_t plane = 0; plane < l->planes; plane++) {
    int64_t at = i * size + (plane * l->height + b.y1) * row + b.x1 * l->pixel;
    copy_span(out + done, x + done, at - done, loosely);
    copy_span(out + at, x + at + to_partner, bytes, loosely);
    for (int64_t span = 1; span < spans; span++) {
      copy_span(out + at + bytes, x + at + bytes, row - bytes, loosely);
      at += row;
      copy_span(out + at, x + at + to_partner, bytes, loosely);
    }
    done = at + bytes;
  }
  return done;
}

static void box_rows(int64_t begin, int64_t end, void *context)
{
  const struct sumix_mix_box_args *args = ((struct sumix_task *)context)->args;
  const int64_t n = args->layout.n, size = sample_size(&args->layout);
  int64_t done = begin * size;
  for (int64_t i = begin; i < end; i++) {
    if (is_empty(box_of(args->box, i)) || args->perm[i] == i) continue;
    /* Loosely only where a whole sample follows in memory, in what this thread writes and in what it reads. */
    if (i + 1 < end && args->perm[i] + 1 < n && size >= VECTOR)
      done = paste(args, i, done, true);
    else
      done = paste(args, i, done, false);
  }
  memcpy((char *)args->out + done, (const char *)args->x + done, (size_t)(end * size - done));
}

int SUMIX_KERNEL(mix_box)(const struct sumix_mix_box_args *a, struct sumix_status *status)
{
  SUMIX_TRY(check_boxes(a->box, &a->layout, status));
  SUMIX_TRY(sumix_check_partners(a->perm, a->layout.n, status));
  const int64_t size = sample_size(&a->layout);
  if (size == 0) return 0;
  return sumix_parallel_rows(a->layout.n, size / (int64_t)sizeof(float), box_rows, &(struct sumix_task){a, false},
                             status);
}

/* ---- What computes: once for float, which also serves halves and small integers, once for double ---- */

/* The commonest integers in registers from end to end: passing through scratch takes an eighth longer. */
static void mean_of_bytes(uint8_t *restrict out, const uint8_t *restrict a, const uint8_t *restrict b, int64_t k,
                          float lam)
{
#pragma omp simd
  for (int64_t j = 0; j < k; j++) out[j] = sumix_mean_uint8(lam, a[j], b[j]);
}

#define REAL float
#define SUFFIX(name) name##_f32
#include "mix_rows.h"
#undef REAL
#undef SUFFIX

#define REAL double
#define SUFFIX(name) name##_f64
#include "mix_rows.h"

int SUMIX_KERNEL(mix_box_backward)(const struct sumix_mix_box_backward_args *a, struct sumix_status *status)
{
  SUMIX_TRY(check_boxes(a->box, &a->layout, status));
  struct gradient_task task = {{a, false}, {0}};
  SUMIX_TRY(sumix_inverse_lists(a->perm, a->layout.n, &task.partners, status));
  const int64_t elements = sample_size(&a->layout) / element_size(a->dtype);
  int failed = 0;
  if (elements > 0)
    failed = sumix_parallel_rows(a->layout.n, 2 * elements, in_double(a->dtype) ? box_gradient_f64 : box_gradient_f32,
                                 &task, status);
  free(task.partners.first);
  if (task.task.failed) return sumix_out_of_memory(status);
  return failed;
}

int SUMIX_KERNEL(mix_linear)(const struct sumix_mix_linear_args *a, struct sumix_status *status)
{
  SUMIX_TRY(sumix_check_lam(a->lam, a->n, status));
  SUMIX_TRY(sumix_check_partners(a->perm, a->n, status));
  return sumix_parallel_rows(a->n * chunks(a->size), a->size < CHUNK ? a->size : CHUNK,
                             in_double(a->dtype) ? linear_f64 : linear_f32, &(struct sumix_task){a, false}, status);
}

int SUMIX_KERNEL(mix_linear_backward)(const struct sumix_mix_linear_backward_args *a, struct sumix_status *status)
{
  SUMIX_TRY(sumix_check_lam(a->lam, a->n, status));
  struct gradient_task task = {{a, false}, {0}};
  SUMIX_TRY(sumix_inverse_lists(a->perm, a->n, &task.partners, status));
  const int failed =
      sumix_parallel_rows(a->n * chunks(a->size), a->size < CHUNK ? a->size : CHUNK,
                          in_double(a->dtype) ? linear_gradient_f64 : linear_gradient_f32, &task, status);
  free(task.partners.first);
  return failed;
}

static void soft_rows(int64_t begin, int64_t end, void *context)
{
  const struct sumix_soft_labels_args *args = ((struct sumix_task *)context)->args;
  const float floor = (float)(args->smoothing / (double)args->k), kept = (float)(1 - args->smoothing);
  for (int64_t i = begin; i < end; i++) {
    float *const soft = args->soft + i * args->k;
    for (int64_t j = 0; j < args->k; j++) soft[j] = floor;
    soft[args->y_a[i]] += kept * args->lam[i];
    soft[args->y_b[i]] += kept * (1 - args->lam[i]);
  }
}

static int check_labels(const int64_t *y, const char *name, int64_t n, int64_t k, struct sumix_status *status)
{
  for (int64_t i = 0; i < n; i++)
    SUMIX_CHECK(y[i] >= 0 && y[i] < k, status, "%s[%lld] is %lld, expected 0 to %lld", name, (long long)i,
                (long long)y[i], (long long)k - 1);
  return 0;
}

int SUMIX_KERNEL(soft_labels)(const struct sumix_soft_labels_args *a, struct sumix_status *status)
{
  SUMIX_TRY(check_labels(a->y_a, "y_a", a->n, a->k, status));
  SUMIX_TRY(check_labels(a->y_b, "y_b", a->n, a->k, status));
  SUMIX_TRY(sumix_check_lam(a->lam, a->n, status));
  return sumix_parallel_rows(a->n, a->k, soft_rows, &(struct sumix_task){a, false}, status);
}
