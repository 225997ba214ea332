/* Foreground evidence by two means: where in its image each object is, from two feature maps of a network.
 *
 * The last map of the raw image, f (d, h, w), has told object from background, but its cells are coarse. The map of the
 * stage before, F (d', H, W), usually of twice the sides, shows outlines and does not know what is the object. So the
 * last map says roughly where the object is, and the finer one settles where it ends:
 *
 *   s_p = max(0, f_p . g - mean_q f_q . g)         with g the mean of f; upsampled bilinearly to H x W
 *   `rounds` times, with w = s / max s:
 *     a = sum w F / sum w                          the mean feature of the object
 *     b = sum (1 - w) F / sum (1 - w)              and of the rest
 *     s_p = max(0, (F_p - (a + b) / 2) . (a - b))  nearer to the object's mean than to the other one
 *
 * Every image has something that stands out. Whether that is an object, the means of the first round say: with mu the
 * mean of F over all images,
 *
 *   q = |a - b|^2 / (|a - mu|^2 + |b - mu|^2)      0 if both means coincide
 *   gate = (q - low) / (high - low), within 0 to 1
 *
 * where |a - mu|^2 + |b - mu|^2 = 2 |(a + b) / 2 - mu|^2 + |a - b|^2 / 2, a sum of what is not negative. Flat maps f, in
 * the sense of csrc/cpu/masked_similarity.c, have no evidence and gate 0.
 *
 * Each round reads F from memory once. Where channels are outermost (NCHW) that takes one pass, because channel c needs
 * its own means alone; where they are innermost (channels_last, tokens) a second pass, over the same sample in the
 * cache, projects. Sums are of differences from the first place's value: the two means of a map that is large and nearly
 * flat differ by little, which those sums keep and sums of F itself would not. Both are added up; a difference of the
 * sum over all and one of them would cancel.
 *
 * An image is one thread's work, so that the number of threads changes nothing. mu takes the images in their order.
 */
#include "../foreground.h"
#include "half.h"
#include "isa.h"
#include "parallel.h"
#include "real.h"

enum { BLOCK = 32 };  // channels or places that are widened at a time

struct foreground_task {
  const struct sumix_foreground_args *args;
  double *apart;   // (n): |a - b|^2 of the first round
  void *middle;    // (n, fine.d) real: (a + b) / 2 of the first round
  double *centre;  // (fine.d): mu
  atomic_bool failed;
};

#define REAL float
#define SUFFIX(name) name##_f32
#include "evidence_rows.h"
#include "foreground_rows.h"
#undef REAL
#undef SUFFIX

#define REAL double
#define SUFFIX(name) name##_f64
#include "evidence_rows.h"
#include "foreground_rows.h"

/* mu of channels begin..end. */
static void centre_channels(int64_t begin, int64_t end, void *context)
{
  const struct foreground_task *task = context;
  const struct sumix_foreground_args *a = task->args;
  const enum sumix_dtype dtype = a->fine.dtype;
  const int64_t d = a->fine.d;
  for (int64_t c = begin; c < end; c++) task->centre[c] = a->mean != NULL ? real_at(dtype, a->mean, c) : 0;
  if (a->mean != NULL) return;
  for (int64_t i = 0; i < a->n; i++)
    for (int64_t c = begin; c < end; c++) task->centre[c] += real_at(dtype, a->means, i * d + c);
  for (int64_t c = begin; c < end; c++) task->centre[c] /= (double)a->n;
}

static void gate_rows(int64_t begin, int64_t end, void *context)
{
  const struct foreground_task *task = context;
  const struct sumix_foreground_args *a = task->args;
  const enum sumix_dtype dtype = a->fine.dtype;
  for (int64_t i = begin; i < end; i++) {
    double off = 0;
#pragma omp simd reduction(+ : off)
    for (int64_t c = 0; c < a->fine.d; c++) {
      const double from = real_at(dtype, task->middle, i * a->fine.d + c) - task->centre[c];
      off += from * from;
    }
    set_real(dtype, a->gate, i, sumix_gate(task->apart[i], off, a->low, a->high));
  }
}

static int run(struct foreground_task *task, struct sumix_status *status)
{
  const struct sumix_foreground_args *a = task->args;
  const bool wide = a->fine.dtype == SUMIX_FLOAT64;
  const int64_t d = a->fine.d, elements = a->coarse.d * a->coarse.places + d * a->fine.places * a->rounds;
  task->apart = sumix_scratch(a->n, sizeof *task->apart);
  task->middle = sumix_scratch(a->n * d, wide ? sizeof(double) : sizeof(float));
  task->centre = sumix_scratch(d, sizeof *task->centre);
  if (task->apart == NULL || task->middle == NULL || task->centre == NULL) return sumix_out_of_memory(status);
  SUMIX_TRY(sumix_parallel_rows(a->n, elements, wide ? foreground_rows_f64 : foreground_rows_f32, task, status));
  if (task->failed) return sumix_out_of_memory(status);
  SUMIX_TRY(sumix_parallel_rows(d, a->n, centre_channels, task, status));
  return sumix_parallel_rows(a->n, d, gate_rows, task, status);
}

int SUMIX_KERNEL(foreground)(const struct sumix_foreground_args *a, struct sumix_status *status)
{
  if (a->n == 0) return 0;
  struct foreground_task task = {.args = a};
  const int failed = run(&task, status);
  free(task.apart);
  free(task.middle);
  free(task.centre);
  return failed;
}
