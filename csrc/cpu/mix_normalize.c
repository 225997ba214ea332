/* Mixing 8-bit images and normalising the result in one pass, as the last step of an input pipeline.
 *
 *   out[i] = (mixed[i] / 255 - mean) / std
 *
 * with mixed[i] by a box, a resized partner, a mask or a ratio, in float32: step by step it would be rounded to 8 bits
 * after mixing and read and written four times over. Here a band of rows that stays in the first-level cache is widened
 * to floats, mixed there and multiplied out: mixed * (1 / (255 std)) - mean / std, both constants from double. Only 8-bit
 * pixels are read from memory and only the result is written.
 */
#include "mix_mask.h"
#include "mix_resize.h"

/* A thread's rows. */
struct rows {
  float *mixed, *partner, *spread, *narrow;  // (band, width, channels) floats: what the names say; results as floats
  float *scale, *offset;                     // (width, channels), for pixels of several channels
  uint8_t *bytes;                            // (width, channels): a resized row
  int64_t band;                              // rows computed at once
};

/* One allocation, to be freed by free(rows->mixed). */
static bool rows_new(struct rows *rows, int64_t width)
{
  rows->band = width < CHUNK ? CHUNK / width : 1;
  const int64_t floats = (rows->band * width + 15) / 16 * 16;
  float *const memory = sumix_scratch(4 * floats + 3 * (width + 15) / 16 * 16 + 48, sizeof(float));
  const int64_t row = (width + 15) / 16 * 16;
  rows->mixed = memory;
  if (memory == NULL) return false;
  rows->partner = memory + floats;
  rows->spread = memory + 2 * floats;
  rows->narrow = memory + 3 * floats;
  rows->scale = memory + 4 * floats;
  rows->offset = rows->scale + row;
  rows->bytes = (uint8_t *)(rows->offset + row);
  return true;
}

static float scale_of(const struct sumix_mix_normalize_args *args, int64_t c)
{
  return (float)(1 / (255.0 * (double)args->std[c]));
}

static float offset_of(const struct sumix_mix_normalize_args *args, int64_t c)
{
  return (float)(-(double)args->mean[c] / (double)args->std[c]);
}

/* Fills the rows of a box that lie within top .. bottom. */
static void fill_band(const struct sumix_mix_normalize_args *args, struct resizer *r, struct box b,
                      const uint8_t *partner, int64_t top, int64_t bottom, const struct rows *rows)
{
  const struct sumix_layout *l = &args->layout;
  const int64_t channels = l->pixel, width = l->width * channels, count = r->box_width * channels;
  const int64_t end = smaller(b.y2, bottom);
  for (int64_t y = larger(b.y1, top); y < end; y++) {
    float *const out = rows->mixed + (y - top) * width + b.x1 * channels;
    if (r->how == RESIZE_SAME_BOX) {
      load_f32(SUMIX_UINT8, partner, y * width + b.x1 * channels, count, out);
    } else if (r->how == RESIZE_BILINEAR) {
      bilinear_row_f32(r, SUMIX_UINT8, l->height, partner, y - b.y1, out);
    } else {
      const int64_t from = nearest_source(r->how, y - b.y1, l->height, r->box_height);
      gather_pixels((char *)rows->bytes, (const char *)partner + from * width, r->first, r->box_width, channels);
      load_f32(SUMIX_UINT8, rows->bytes, 0, count, out);
    }
  }
}

static void multiply_out(float *out, const float *mixed, int64_t k, float scale, float offset)
{
#pragma omp simd
  for (int64_t j = 0; j < k; j++) out[j] = mixed[j] * scale + offset;
}

static void multiply_out_channels(float *out, const float *mixed, int64_t k, const struct rows *rows, int64_t width)
{
  for (int64_t row = 0; row < k; row += width) {
#pragma omp simd
    for (int64_t j = 0; j < width; j++) out[row + j] = mixed[row + j] * rows->scale[j] + rows->offset[j];
  }
}

static void planes(int64_t begin, int64_t end, void *context)
{
  struct sumix_task *task = context;
  const struct sumix_mix_normalize_args *args = task->args;
  const struct sumix_layout *l = &args->layout;
  const int64_t channels = l->pixel, width = l->width * channels, size = l->height * width;
  const struct mask mask = mask_of(&args->mask, l, 1);
  struct resizer r;
  struct rows rows;
  const bool resizer = resizer_new(&r, SUMIX_UINT8, l->width, channels);
  if (!rows_new(&rows, width) || !resizer) {
    free(r.first), free(rows.mixed);
    task->failed = true;
    return;
  }
  for (int64_t j = 0; j < width; j++) {
    rows.scale[j] = scale_of(args, j % channels);
    rows.offset[j] = offset_of(args, j % channels);
  }
  int64_t set_for = -1;
  for (int64_t item = begin; item < end; item++) {
    const int64_t i = item / l->planes, plane = item % l->planes;
    const struct box b = args->box != NULL ? box_of(args->box, i) : (struct box){0, 0, 0, 0};
    const uint8_t *const partner = args->x + (args->perm[i] * l->planes + plane) * size;
    if (!is_empty(b) && set_for != i)
      resizer_set(&r, args->resize != NULL ? (enum resize)args->resize[i] : RESIZE_SAME_BOX, b);
    set_for = i;
    resizer_begin_plane(&r);
    for (int64_t top = 0; top < l->height; top += rows.band) {
      const int64_t bottom = smaller(top + rows.band, l->height), first = top * width, k = (bottom - top) * width;
      const enum weights weights = mask.values != NULL ? judge(&mask, i, first, k) : WEIGHTS_OWN;
      if (weights == WEIGHTS_WRONG) {
        task->failed = true;
        break;
      }
      load_f32(SUMIX_UINT8, weights == WEIGHTS_PARTNER ? partner : args->x + item * size, first, k, rows.mixed);
      if (!is_empty(b) && weights != WEIGHTS_PARTNER) fill_band(args, &r, b, partner, top, bottom, &rows);
      if (weights == WEIGHTS_MIXED) {
        const float *restrict w = float_weights(&mask, i, first, k, rows.spread);
        const float *restrict other = load_f32(SUMIX_UINT8, partner, first, k, rows.partner);
        float *restrict mixed = rows.mixed;
#pragma omp simd
        for (int64_t j = 0; j < k; j++) mixed[j] = w[j] * mixed[j] + (1 - w[j]) * other[j];
      }
      float *const out = store_place_f32(args->dtype, args->out, item * size + first, rows.narrow);
      if (channels == 1)
        multiply_out(out, rows.mixed, k, scale_of(args, plane), offset_of(args, plane));
      else
        multiply_out_channels(out, rows.mixed, k, &rows, width);
      store_f32(args->dtype, args->out, item * size + first, k, out);
    }
  }
  free(r.first), free(rows.mixed);
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
