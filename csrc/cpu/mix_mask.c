/* Mixing each image with its partner by a mask, the weight of the own image pixel by pixel, and the gradient.
 *
 *   out[i] = mask[i] x[i] + (1 - mask[i]) x[perm[i]]       (FMix; Harris et al., arXiv 2002.12047; and its kin)
 *
 * x is (n, planes, height, width) of pixels of one or more channels, the mask (n, height, width): floats from 0 to 1,
 * or bytes that are 0 or 1; or one weight a sample. A weight of exactly 0 takes nothing from its image, not even NaN.
 * So a mask of bytes is no arithmetic but a choice, and serves every dtype.
 *
 * A chunk of a mask is judged once and then applied to all planes: where it is 1 or 0 all over, as most of a mask with
 * large areas is, one image is copied and the other not read. Values out of range are found in the same pass, and
 * looked for by their place only then. Where a pixel holds several channels, the weights are first spread over them.
 *
 * The gradient gathers through the inverse lists of perm: no atomics, and one order of addition.
 */
#include "mix_mask.h"

/* The weights of elements first .. first + k as bytes. */
static const uint8_t *byte_weights(const struct mask *mask, int64_t i, int64_t first, int64_t k,
                                   uint8_t *restrict spread)
{
  const uint8_t *const values = (const uint8_t *)mask->values + i * mask->pixels;
  const int64_t channels = mask->channels, pixel = first / channels;
  if (channels == 1) return values + first;
  if (channels == 3 && first % 3 == 0) {  // of colours, at a stride that the compiler knows
    for (int64_t j = 0; j < k / 3; j++) spread[3 * j] = spread[3 * j + 1] = spread[3 * j + 2] = values[pixel + j];
    return spread;
  }
  for (int64_t j = 0, at = pixel; j < k; at++) {
    const int64_t end = smaller((at + 1) * channels - first, k);
    for (; j < end; j++) spread[j] = values[at];
  }
  return spread;
}

/* ---- A choice, for masks of bytes: elements of `lane` bytes ---- */

/* Both are read before one is taken: with a read that depends on the mask, nothing is vectorised. */
static void choose_8(uint8_t *restrict out, const uint8_t *a, const uint8_t *b, const uint8_t *own, int64_t k)
{
  for (int64_t j = 0; j < k; j++) {
    const uint8_t mine = a[j], other = b[j];
    out[j] = own[j] ? mine : other;
  }
}

static void choose_16(uint16_t *restrict out, const uint16_t *a, const uint16_t *b, const uint8_t *own, int64_t k)
{
  for (int64_t j = 0; j < k; j++) {
    const uint16_t mine = a[j], other = b[j];
    out[j] = own[j] ? mine : other;
  }
}

static void choose_32(uint32_t *restrict out, const uint32_t *a, const uint32_t *b, const uint8_t *own, int64_t k)
{
  for (int64_t j = 0; j < k; j++) {
    const uint32_t mine = a[j], other = b[j];
    out[j] = own[j] ? mine : other;
  }
}

static void choose_64(uint64_t *restrict out, const uint64_t *a, const uint64_t *b, const uint8_t *own, int64_t k)
{
  for (int64_t j = 0; j < k; j++) {
    const uint64_t mine = a[j], other = b[j];
    out[j] = own[j] ? mine : other;
  }
}

/* The widest type that a pixel is made of: an element, or half a complex128. */
static inline int64_t lane_of(int64_t element) { return element < 8 ? element : 8; }

static void choice(int64_t begin, int64_t end, void *context)
{
  const struct sumix_mix_mask_args *args = ((struct sumix_task *)context)->args;
  const int64_t lane = lane_of(args->element), size = sample_size(&args->layout) / lane;
  const struct mask mask = mask_of(&args->mask, &args->layout, lane);
  const int64_t plane_size = mask.pixels * mask.channels, per_sample = chunks_of(&mask);
  uint8_t spread[CHUNK];
  for (int64_t item = begin; item < end; item++) {
    const int64_t i = item / per_sample, first = item % per_sample * mask.chunk,
                  k = smaller(plane_size - first, mask.chunk);
    const enum weights weights = judge(&mask, i, first, k);
    const uint8_t *own = weights == WEIGHTS_MIXED ? byte_weights(&mask, i, first, k, spread) : NULL;
    for (int64_t plane = 0; plane < args->layout.planes; plane++) {
      const int64_t at = (plane * plane_size + first) * lane, bytes = size * lane;
      const char *const a = (const char *)args->x + i * bytes + at;
      const char *const b = (const char *)args->x + args->perm[i] * bytes + at;
      char *const out = (char *)args->out + i * bytes + at;
      if (weights != WEIGHTS_MIXED) {
        memcpy(out, weights == WEIGHTS_OWN ? a : b, (size_t)(k * lane));
        continue;
      }
      switch (lane) {
        case 1: choose_8((uint8_t *)out, (const uint8_t *)a, (const uint8_t *)b, own, k); break;
        case 2: choose_16((uint16_t *)out, (const uint16_t *)a, (const uint16_t *)b, own, k); break;
        case 4: choose_32((uint32_t *)out, (const uint32_t *)a, (const uint32_t *)b, own, k); break;
        default: choose_64((uint64_t *)out, (const uint64_t *)a, (const uint64_t *)b, own, k);
      }
    }
  }
}

/* ---- Means, once for float and once for double ---- */

/* As in mix.c; a byte has no NaN, so a weight of 0 takes nothing by itself. */
static void mean_of_bytes(uint8_t *restrict out, const uint8_t *restrict a, const uint8_t *restrict b, int64_t k,
                          const float *restrict w)
{
#pragma omp simd
  for (int64_t j = 0; j < k; j++) out[j] = sumix_mean_uint8(w[j], a[j], b[j]);
}

#define REAL float
#define SUFFIX(name) name##_f32
#include "mix_mask_rows.h"
#undef REAL
#undef SUFFIX

#define REAL double
#define SUFFIX(name) name##_f64
#include "mix_mask_rows.h"

static int over_chunks(const struct sumix_mask *mask, const struct sumix_layout *l, int64_t lane, ParallelFunc rows,
                       void *task, struct sumix_status *status)
{
  const struct mask m = mask_of(mask, l, lane);
  if (l->planes == 0) return 0;  // there may be any number of pixels in none
  return sumix_parallel_rows(l->n * chunks_of(&m), l->planes * smaller(m.pixels * m.channels, m.chunk), rows, task,
                             status);
}

int SUMIX_KERNEL(mix_mask)(const struct sumix_mix_mask_args *a, struct sumix_status *status)
{
  SUMIX_TRY(sumix_check_partners(a->perm, a->layout.n, status));
  struct sumix_task task = {a, false};
  if (a->mask.binary) return over_chunks(&a->mask, &a->layout, lane_of(a->element), choice, &task, status);
  SUMIX_TRY(over_chunks(&a->mask, &a->layout, a->element, in_double(a->dtype) ? means_f64 : means_f32, &task, status));
  return task.failed ? find_wrong_weight(&a->mask, &a->layout, status) : 0;
}

int SUMIX_KERNEL(mix_mask_backward)(const struct sumix_mix_mask_backward_args *a, struct sumix_status *status)
{
  struct gradient_task task = {{a, false}, {0}};
  SUMIX_TRY(sumix_inverse_lists(a->perm, a->layout.n, &task.partners, status));
  const int failed = over_chunks(&a->mask, &a->layout, element_size(a->dtype),
                                 in_double(a->dtype) ? mask_gradient_f64 : mask_gradient_f32, &task, status);
  free(task.partners.first);
  if (task.task.failed) return find_wrong_weight(&a->mask, &a->layout, status);
  return failed;
}
