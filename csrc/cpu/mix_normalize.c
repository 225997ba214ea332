/* Mixing 8-bit images and normalising the result in one pass, as the last step of an input pipeline.
 *
 *   out[i] = (mixed[i] / 255 - mean) / std
 *
 * with mixed[i] by a box, a resized partner, a mask or a ratio, in float32: step by step it would be rounded to 8 bits
 * after mixing and read and written four times over. Here 8-bit pixels are read and the result is written, and in
 * between there are registers, or a band of rows that stays in the first-level cache: as the normalisation is linear,
 * pixels are normalised first, by scale = 1 / (255 std) and offset = -mean / std (from double), and then averaged.
 */
#include "mix_mask.h"
#include "mix_resize.h"

/* What a thread works with: a band of rows, (band, width) elements, and per element of a row scale and offset. */
struct work {
  const struct sumix_mix_normalize_args *args;
  struct resizer resizer;
  struct mask mask;
  int64_t channels, width, band;  // elements of a pixel and of a row, rows at once
  float *spread, *result;         // (band, width): weights, and the result before it is narrowed
  float *scale, *offset;          // (width) for pixels of several channels, otherwise the one of the plane
  uint8_t *bytes;                 // (width): a resized row
  void *memory;
};

static void set_constants(struct work *work, int64_t plane)
{
  const struct sumix_mix_normalize_args *args = work->args;
  const bool planar = work->channels == 1;
  for (int64_t j = 0; j < (planar ? 1 : work->width); j++) {
    const int64_t c = planar ? plane : j % work->channels;
    work->scale[j] = (float)(1 / (255.0 * (double)args->std[c]));
    work->offset[j] = (float)(-(double)args->mean[c] / (double)args->std[c]);
  }
}

static bool work_new(struct work *work, const struct sumix_mix_normalize_args *args)
{
  const struct sumix_layout *l = &args->layout;
  const int64_t width = l->width * l->pixel, band = width < CHUNK ? CHUNK / width : 1;
  float *const floats = sumix_scratch((2 * band + 3) * width, sizeof(float));
  *work = (struct work){.args = args, .channels = l->pixel, .width = width, .band = band, .memory = floats};
  if (!resizer_new(&work->resizer, SUMIX_UINT8, l->width, l->pixel) || floats == NULL) return false;
  work->mask = mask_of(&args->mask, l, 1);
  work->spread = floats;
  work->result = floats + band * width;
  work->scale = floats + 2 * band * width;
  work->offset = work->scale + width;
  work->bytes = (uint8_t *)(work->offset + width);
  return true;
}

static void work_free(struct work *work) { free(work->resizer.first), free(work->memory); }

/* Pixels from x on in a row, or where the constants are those of a plane, in any number of rows. */
static void normalize_bytes(const struct work *work, const uint8_t *restrict from, int64_t k, int64_t x,
                            float *restrict out)
{
  const float *restrict scale = work->scale, *restrict offset = work->offset;
  if (work->channels == 1) {
    const float one_scale = *scale, one_offset = *offset;
#pragma omp simd
    for (int64_t j = 0; j < k; j++) out[j] = (float)from[j] * one_scale + one_offset;
  } else {
#pragma omp simd
    for (int64_t j = 0; j < k; j++) out[j] = (float)from[j] * scale[x + j] + offset[x + j];
  }
}

static void normalize_floats(const struct work *work, int64_t k, int64_t x, float *restrict out)
{
  const float *restrict scale = work->scale, *restrict offset = work->offset;
  if (work->channels == 1) {
    const float one_scale = *scale, one_offset = *offset;
#pragma omp simd
    for (int64_t j = 0; j < k; j++) out[j] = out[j] * one_scale + one_offset;
  } else {
#pragma omp simd
    for (int64_t j = 0; j < k; j++) out[j] = out[j] * scale[x + j] + offset[x + j];
  }
}

/* Row y of the box, from the partner's plane. */
static void box_row(struct work *work, struct box b, const uint8_t *partner, int64_t y, float *out)
{
  struct resizer *r = &work->resizer;
  const int64_t left = b.x1 * work->channels, count = r->box_width * work->channels;
  if (r->how == SUMIX_SAME_BOX) {
    normalize_bytes(work, partner + y * work->width + left, count, left, out);
  } else if (r->how == SUMIX_BILINEAR) {
    bilinear_row_f32(r, SUMIX_UINT8, work->args->layout.height, partner, y - b.y1, out);
    normalize_floats(work, count, left, out);
  } else {
    const int64_t from = nearest_row(r, y - b.y1, work->args->layout.height);
    gather_pixels((char *)work->bytes, (const char *)partner + from * work->width, r->first, r->box_width,
                  work->channels);
    normalize_bytes(work, work->bytes, count, left, out);
  }
}

/* Rows top .. bottom of the image with its box filled. The image's own pixels there are written first, because whole
 * rows in one loop are faster than the parts left and right of a box. */
static void pasted_rows(struct work *work, struct box b, const uint8_t *own, const uint8_t *partner, int64_t top,
                        int64_t bottom, float *out)
{
  const int64_t width = work->width, rows = work->channels == 1 ? bottom - top : 1;  // at once
  for (int64_t y = top; y < bottom; y += rows)
    normalize_bytes(work, own + y * width, rows * width, 0, out + (y - top) * width);
  if (is_empty(b)) return;
  for (int64_t y = larger(b.y1, top); y < smaller(b.y2, bottom); y++)
    box_row(work, b, partner, y, out + (y - top) * width + b.x1 * work->channels);
}

static inline float mean_of(float w, float pasted, uint8_t partner, float scale, float offset)
{
  return w * pasted + (1 - w) * ((float)partner * scale + offset);
}

/* Normalising is linear, so the mean may be taken of normalised pixels: of `pasted`, in place, and the partner's. */
static void blend(const struct work *work, const uint8_t *restrict partner, const float *restrict w, int64_t k,
                  float *restrict pasted)
{
  const float *restrict scale = work->scale, *restrict offset = work->offset;
  if (work->channels == 1) {
    const float one_scale = *scale, one_offset = *offset;
#pragma omp simd
    for (int64_t j = 0; j < k; j++) pasted[j] = mean_of(w[j], pasted[j], partner[j], one_scale, one_offset);
    return;
  }
  for (int64_t row = 0; row < k; row += work->width) {
#pragma omp simd
    for (int64_t j = 0; j < work->width; j++)
      pasted[row + j] = mean_of(w[row + j], pasted[row + j], partner[row + j], scale[j], offset[j]);
  }
}

/* The same for rows without a box, in one pass. */
static void blend_bytes(const struct work *work, const uint8_t *restrict own, const uint8_t *restrict partner,
                        const float *restrict w, int64_t k, float *restrict out)
{
  const float *restrict scale = work->scale, *restrict offset = work->offset;
  if (work->channels == 1) {
    const float one_scale = *scale, one_offset = *offset;
#pragma omp simd
    for (int64_t j = 0; j < k; j++)
      out[j] = mean_of(w[j], (float)own[j] * one_scale + one_offset, partner[j], one_scale, one_offset);
    return;
  }
  for (int64_t row = 0; row < k; row += work->width) {
#pragma omp simd
    for (int64_t j = 0; j < work->width; j++)
      out[row + j] =
          mean_of(w[row + j], (float)own[row + j] * scale[j] + offset[j], partner[row + j], scale[j], offset[j]);
  }
}

static void planes(int64_t begin, int64_t end, void *context)
{
  struct sumix_task *task = context;
  const struct sumix_mix_normalize_args *args = task->args;
  const struct sumix_layout *l = &args->layout;
  struct work work;
  if (!work_new(&work, args)) {
    work_free(&work);
    task->failed = true;
    return;
  }
  const int64_t width = work.width, size = l->height * width;
  int64_t set_for = -1;
  for (int64_t item = begin; item < end && !task->failed; item++) {
    const int64_t i = item / l->planes, plane = item % l->planes;
    const struct box none = {0, 0, 0, 0}, b = args->box != NULL ? box_of(args->box, i) : none;
    const uint8_t *const own = args->x + item * size, *const partner =
                                                          args->x + (args->perm[i] * l->planes + plane) * size;
    if (!is_empty(b) && set_for != i)
      resizer_set(&work.resizer, args->resize != NULL ? (enum sumix_resize)args->resize[i] : SUMIX_SAME_BOX, b);
    set_for = i;
    resizer_begin_plane(&work.resizer);
    if (work.channels == 1 || item == begin) set_constants(&work, plane);
    for (int64_t top = 0; top < l->height; top += work.band) {
      const int64_t bottom = smaller(top + work.band, l->height), first = top * width, k = (bottom - top) * width;
      const enum weights weights = args->mask.values != NULL ? judge(&work.mask, i, first, k) : WEIGHTS_OWN;
      float *const out = store_place_f32(args->dtype, args->out, item * size + first, work.result);
      if (weights == WEIGHTS_WRONG) {
        task->failed = true;
        break;
      }
      const float *const w = weights == WEIGHTS_MIXED ? float_weights(&work.mask, i, first, k, work.spread) : NULL;
      const bool boxed = !is_empty(b) && b.y1 < bottom && top < b.y2;
      if (weights == WEIGHTS_MIXED && !boxed) {
        blend_bytes(&work, own + first, partner + first, w, k, out);
      } else {
        const bool other = weights == WEIGHTS_PARTNER;
        pasted_rows(&work, other ? none : b, other ? partner : own, partner, top, bottom, out);
        if (weights == WEIGHTS_MIXED) blend(&work, partner + first, w, k, out);
      }
      store_f32(args->dtype, args->out, item * size + first, k, out);
    }
  }
  work_free(&work);
}

int SUMIX_KERNEL(mix_normalize)(const struct sumix_mix_normalize_args *a, struct sumix_status *status)
{
  const struct sumix_layout *l = &a->layout;
  for (int64_t c = 0; c < a->channels; c++) {
    SUMIX_CHECK(isfinite(a->mean[c]), status, "mean[%lld] is %g, expected a number", (long long)c, (double)a->mean[c]);
    SUMIX_CHECK(a->std[c] > 0 && isfinite(a->std[c]), status, "std[%lld] is %g, expected a number above 0",
                (long long)c, (double)a->std[c]);
  }
  if (a->box != NULL) SUMIX_TRY(check_boxes(a->box, l, status));
  if (a->resize != NULL) SUMIX_TRY(check_resize(a->resize, l->n, SUMIX_UINT8, status));
  SUMIX_TRY(sumix_check_partners(a->perm, l->n, status));
  if (sample_size(l) == 0) return 0;
  struct sumix_task task = {a, false};
  SUMIX_TRY(sumix_parallel_rows(l->n * l->planes, l->height * l->width * l->pixel, planes, &task, status));
  if (!task.failed) return 0;
  return a->mask.values != NULL ? find_wrong_weight(&a->mask, l, status) : sumix_out_of_memory(status);
}
