/* Fine-grained static saliency: how much each pixel differs from its surroundings, at six sizes of them.
 *
 *   Montabone and Soto, "Human detection using a mobile platform and novel features derived from a visual saliency
 *   mechanism", Image and Vision Computing 28(3), 2010; in whole numbers as OpenCV's StaticSaliencyFineGrained has it
 *   for images of 8 bits, which is what SaliencyMix (Uddin et al., ICLR 2021, arXiv 2006.01791) takes its boxes'
 *   centres from.
 *
 * For an image of 8 bits, x (C, H, W), all divisions rounded towards 0:
 *
 *   grey     g = (9798 red + 19235 green + 3735 blue + 16384) / 32768; a single channel as it is
 *   smooth   twice: the 3 x 3 kernel [1 2 1] x [1 2 1], (sum + 8) / 16, mirrored at the borders without repeating them
 *   compare  for r in 12, 24, 28, 48, 56, 112: the window of rows y - r + 1 .. y + r and columns x - r + 1 .. x + r,
 *            cut to the image, has n pixels that sum to S. With N = n g[y, x] - S:
 *            on += N / (n - 1) where N > 0,  off += -N / (n - 1) where N < 0
 *   map      (255 on / max(on) + 255 off / max(off)) mod 256; 0 / 0 counts as 0
 *
 * S comes from an integral image T, S = T[y + r + 1, x + r + 1] - T[y + r + 1, x - r + 1] - T[y - r + 1, x + r + 1] +
 * T[y - r + 1, x - r + 1], whose rows are continued beyond the image on either side, with zeros and with their last
 * value: then a window that is cut off is no special case, and a row of the image at one r is one plain loop over four
 * streams. T is kept in a ring of the rows that the largest window spans, so that it stays in the cache whatever the
 * height. Its entries are modulo 2^32: a window's sum, at most 255 * 224^2, is exact, however large the image.
 *
 * The divisions are exact in float, and fast: beside the loads of the four streams they take no time. Everything that
 * is divided is below 2^24, and |N| <= 255 (n - 1), as S includes the pixel itself. A quotient that is an integer is
 * rounded to itself. Any other, between q and q + 1 <= 255, is at most q + 1 - 1 / (n - 1), and 1 / (n - 1) > 2^-16 for
 * n <= 224^2: it is further below q + 1 than the distance of floats there, and so not rounded up to it. The last
 * divisor, a maximum, serves a whole image: there the quotient is a product with 255 / max rounded upwards. Rounding is
 * monotone, so that no integer falls below itself, and as max <= 6 * 255 the gap of 1 / max below q + 1 is far wider
 * than the error. tests/c/test_saliency.c tries them all.
 *
 * Windows with r >= H and r >= W hold the whole image, whatever the pixel, and share one pass.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "../saliency.h"
#include "half.h"
#include "isa.h"
#include "parallel.h"

enum { WINDOWS = SUMIX_SALIENCY_WINDOWS };

#define REAL float
#define SUFFIX(name) name##_f32
#include "saliency_rows.h"
#undef REAL
#undef SUFFIX

#define REAL double
#define SUFFIX(name) name##_f64
#include "saliency_rows.h"

/* One thread's memory, and what is the same for all images of a batch. */
struct workspace {
  void *memory;
  int64_t height, width;
  int64_t windows;         // of the radii, those that are not the whole image
  int64_t reach;           // columns that T continues beyond the image: the largest such r, but no more than W
  int64_t ring;            // rows of T
  int64_t stride;          // of T
  uint32_t *integral;      // (ring, stride)
  uint32_t *column;        // (W): sums of the columns so far
  uint8_t *grey, *smooth;  // (H, W + 2): rows continued by a pixel on either side
  uint16_t *on, *off;      // (H, W)
  uint16_t *triples;       // (3, W): rows of the image smoothed along the row, in a ring
  float *count;            // (windows, W): columns of the window about each column
  float *centre;           // (W): a row of the image
  int32_t *above, *net;    // (W): a row of on, and of on - off
  uint8_t *row;            // (W): a row of the map; (C W): a row of levels
  void *shift, *scale;     // (C W) real: how a row becomes levels
  void *scratch;           // (C W) real
};

/* Places `count` values of `size` bytes at a multiple of 64 bytes in memory, or only counts them while that is NULL. */
static void *place(char *memory, int64_t *used, int64_t count, size_t size)
{
  void *const here = memory == NULL ? NULL : memory + *used;
  *used += (count * (int64_t)size + 63) / 64 * 64;
  return here;
}

static int64_t lay_out(struct workspace *w, const struct sumix_saliency_args *args, char *memory)
{
  const int64_t height = args->height, width = args->width, pixels = height * width, row = args->channels * width;
  const size_t real = args->dtype == SUMIX_FLOAT64 ? sizeof(double) : sizeof(float);
  int64_t used = 0;
  w->integral = place(memory, &used, w->ring * w->stride, sizeof *w->integral);
  w->column = place(memory, &used, width, sizeof *w->column);
  w->grey = place(memory, &used, height * (width + 2), 1);
  w->smooth = place(memory, &used, height * (width + 2), 1);
  w->on = place(memory, &used, pixels, sizeof *w->on);
  w->off = place(memory, &used, pixels, sizeof *w->off);
  w->triples = place(memory, &used, 3 * width, sizeof *w->triples);
  w->count = place(memory, &used, w->windows * width, sizeof *w->count);
  w->centre = place(memory, &used, width, sizeof *w->centre);
  w->above = place(memory, &used, width, sizeof *w->above);
  w->net = place(memory, &used, width, sizeof *w->net);
  w->row = place(memory, &used, row, 1);
  w->shift = place(memory, &used, row, real);
  w->scale = place(memory, &used, row, real);
  w->scratch = place(memory, &used, row, real);
  return used;
}

/* The part of a window of radius r about `at` that lies within a side. */
static inline int64_t from(int64_t at, int64_t r) { return at - r + 1 > 0 ? at - r + 1 : 0; }
static inline int64_t to(int64_t at, int64_t r, int64_t size) { return at + r + 1 < size ? at + r + 1 : size; }

static int prepare(struct workspace *w, const struct sumix_saliency_args *args)
{
  const int64_t height = args->height, width = args->width, longest = height > width ? height : width;
  *w = (struct workspace){.height = height, .width = width};
  while (w->windows < WINDOWS && sumix_saliency_radius(w->windows) < longest) w->windows++;
  const int64_t r = w->windows > 0 ? sumix_saliency_radius(w->windows - 1) : 1;
  w->reach = r < width ? r : width;
  w->ring = 2 * r + 1 < height + 1 ? 2 * r + 1 : height + 1;
  w->stride = width + 2 * w->reach;
  w->memory = sumix_scratch(lay_out(w, args, NULL), 1);
  if (w->memory == NULL) return -1;
  lay_out(w, args, w->memory);
  for (int64_t k = 0; k < w->windows; k++) {
    const int64_t radius = sumix_saliency_radius(k);
    for (int64_t x = 0; x < width; x++) w->count[k * width + x] = (float)(to(x, radius, width) - from(x, radius));
  }
  for (int64_t t = 0; t < w->ring; t++) memset(w->integral + t * w->stride, 0, (size_t)w->reach * sizeof *w->integral);
  return 0;
}

static inline uint8_t *image_row(const struct workspace *w, uint8_t *image, int64_t y)
{
  return image + y * (w->width + 2) + 1;
}

static inline void mirror_ends(uint8_t *row, int64_t width)
{
  row[-1] = row[sumix_saliency_mirror(-1, width)];
  row[width] = row[sumix_saliency_mirror(width, width)];
}

/* ---- Grey ---- */

static inline void weigh(const uint8_t *restrict first, const uint8_t *restrict second, const uint8_t *restrict third,
                         int64_t step, bool bgr, int64_t width, uint8_t *restrict grey)
{
#pragma omp simd
  for (int64_t x = 0; x < width; x++)
    grey[x] = sumix_saliency_grey(first[step * x], second[step * x], third[step * x], bgr);
}

static void make_grey(struct workspace *w, const struct sumix_saliency_args *args, int64_t i)
{
  const int64_t height = w->height, width = w->width, channels = args->channels;
  const bool bytes = args->dtype == SUMIX_UINT8, wide = args->dtype == SUMIX_FLOAT64;
  if (!bytes && wide) set_scale_f64(args, i, w->shift, w->scale, w->scratch);
  if (!bytes && !wide) set_scale_f32(args, i, w->shift, w->scale, w->scratch);
  for (int64_t y = 0; y < height; y++) {
    const uint8_t *levels = w->row;
    int64_t plane = width;
    if (!bytes && wide) row_levels_f64(args, i, y, w->shift, w->scale, w->scratch, w->row);
    if (!bytes && !wide) row_levels_f32(args, i, y, w->shift, w->scale, w->scratch, w->row);
    if (bytes) {
      plane = height * width;
      levels = (const uint8_t *)args->x + i * channels * plane + y * width * (args->channels_last ? channels : 1);
    }
    uint8_t *const grey = image_row(w, w->grey, y);
    if (channels == 1)
      memcpy(grey, levels, (size_t)width);
    else if (args->channels_last)
      weigh(levels, levels + 1, levels + 2, 3, args->bgr, width, grey);
    else
      weigh(levels, levels + plane, levels + 2 * plane, 1, args->bgr, width, grey);
    mirror_ends(grey, width);
  }
}

/* ---- Smooth ---- */

/* Along rows first: what is loaded there has been stored a whole pass ago. Sums of neighbours that are loaded soon
 * after they were stored, in other vectors, would have to wait for the stores. */
static void smooth(const struct workspace *w, uint8_t *image, uint8_t *result)
{
  const int64_t height = w->height, width = w->width;
  for (int64_t y = -1; y < height; y++) {
    if (y + 1 < height) {
      const uint8_t *restrict row = image_row(w, image, y + 1);
      uint16_t *restrict sum = w->triples + (y + 1) % 3 * width;
#pragma omp simd
      for (int64_t x = 0; x < width; x++) sum[x] = (uint16_t)(row[x - 1] + 2 * row[x] + row[x + 1]);
    }
    if (y < 0) continue;
    const uint16_t *restrict here = w->triples + y % 3 * width;
    const uint16_t *restrict over = w->triples + sumix_saliency_mirror(y - 1, height) % 3 * width;
    const uint16_t *restrict under = w->triples + sumix_saliency_mirror(y + 1, height) % 3 * width;
    uint8_t *restrict out = image_row(w, result, y);
#pragma omp simd
    for (int64_t x = 0; x < width; x++) out[x] = (uint8_t)((uint16_t)(over[x] + 2 * here[x] + under[x] + 8) >> 4);
    mirror_ends(out, width);
  }
}

/* ---- Compare ---- */

static inline uint32_t *integral_row(const struct workspace *w, int64_t t)
{
  return w->integral + t % w->ring * w->stride + w->reach - 1;
}

/* Row t >= 1 of the integral image, from the column sums of the rows above. */
static void integrate(const struct workspace *w, int64_t t)
{
  const int64_t width = w->width;
  const uint8_t *restrict grey = image_row(w, w->grey, t - 1);
  uint32_t *restrict column = w->column, *restrict row = integral_row(w, t), sum = 0;
#pragma omp simd
  for (int64_t x = 0; x < width; x++) column[x] += grey[x];
  for (int64_t x = 0; x < width; x++) row[x + 1] = sum += column[x];
  for (int64_t x = width + 1; x <= width + w->reach; x++) row[x] = sum;
}

/* Adds the quotients of one window to a row. */
static inline void compare(const uint32_t *restrict top, const uint32_t *restrict bottom, int64_t reach, float rows,
                           const float *restrict count, const float *restrict centre, int64_t width,
                           int32_t *restrict above, int32_t *restrict net)
{
  const uint32_t *restrict top_left = top - reach + 1, *restrict top_right = top + reach + 1;
  const uint32_t *restrict left = bottom - reach + 1, *restrict right = bottom + reach + 1;
#pragma omp simd
  for (int64_t x = 0; x < width; x++) {
    const float sum = (float)(int32_t)((right[x] - left[x]) - (top_right[x] - top_left[x])), n = rows * count[x];
    const int32_t quotient = sumix_saliency_quotient(n, centre[x], sum);
    above[x] += quotient > 0 ? quotient : 0;
    net[x] += quotient;
  }
}

/* The same for `times` windows that hold the whole image; these come first. */
static void compare_whole(const struct workspace *w, int64_t times, int32_t total)
{
  int32_t *restrict above = w->above, *restrict net = w->net;
  const float *restrict centre = w->centre;
  const float n = (float)(w->height * w->width), sum = (float)total;
  const int32_t factor = (int32_t)times;
#pragma omp simd
  for (int64_t x = 0; x < w->width; x++) {
    const int32_t quotient = sumix_saliency_quotient(n, centre[x], sum) * factor;
    above[x] = quotient > 0 ? quotient : 0;
    net[x] = quotient;
  }
}

static void compare_all(const struct workspace *w, int32_t *max_on, int32_t *max_off)
{
  const int64_t height = w->height, width = w->width, windows = w->windows;
  int32_t *restrict above = w->above, *restrict net = w->net;
  float *restrict centre = w->centre;
  int64_t ready = 0;
  int32_t most_on = 0, most_off = 0, total = 0;
  for (int64_t y = 0; y < height && windows < WINDOWS; y++)
    for (int64_t x = 0; x < width; x++) total += image_row(w, w->grey, y)[x];
  memset(w->column, 0, (size_t)width * sizeof *w->column);
  memset(integral_row(w, 0), 0, (size_t)(width + w->reach + 1) * sizeof *w->integral);
  for (int64_t y = 0; y < height; y++) {
    const uint8_t *restrict grey = image_row(w, w->grey, y);
    uint16_t *restrict on = w->on + y * width, *restrict off = w->off + y * width;
#pragma omp simd
    for (int64_t x = 0; x < width; x++) centre[x] = grey[x];
    /* Ahead of the smaller windows, so that the largest need not wait for the row's stores. */
    while (windows > 0 && ready < to(y, sumix_saliency_radius(windows - 1), height)) integrate(w, ++ready);
    if (windows < WINDOWS) {
      compare_whole(w, WINDOWS - windows, total);
    } else {
      memset(above, 0, (size_t)width * sizeof *above);
      memset(net, 0, (size_t)width * sizeof *net);
    }
    for (int64_t k = 0; k < windows; k++) {
      const int64_t r = sumix_saliency_radius(k), first = from(y, r), end = to(y, r, height);
      compare(integral_row(w, first), integral_row(w, end), r < width ? r : width, (float)(end - first),
              w->count + k * width, centre, width, above, net);
    }
#pragma omp simd reduction(max : most_on, most_off)
    for (int64_t x = 0; x < width; x++) {
      const int32_t below = above[x] - net[x];
      most_on = above[x] > most_on ? above[x] : most_on;
      most_off = below > most_off ? below : most_off;
      on[x] = (uint16_t)above[x];
      off[x] = (uint16_t)below;
    }
  }
  *max_on = most_on;
  *max_off = most_off;
}

/* ---- Map ---- */

/* Writes the map unless it is NULL, and the place of its first maximum unless that is NULL. */
static void finish(const struct workspace *w, int32_t max_on, int32_t max_off, uint8_t *map, int64_t *peak)
{
  const int64_t height = w->height, width = w->width;
  const float scale_on = sumix_ratio_upwards(255, max_on), scale_off = sumix_ratio_upwards(255, max_off);
  int32_t best = -1;
  for (int64_t y = 0; y < height; y++) {
    const uint16_t *restrict on = w->on + y * width, *restrict off = w->off + y * width;
    uint8_t *restrict row = map != NULL ? map + y * width : w->row;
    int32_t most = 0;
#pragma omp simd reduction(max : most)
    for (int64_t x = 0; x < width; x++) {
      const int32_t value = sumix_saliency_value(on[x], off[x], scale_on, scale_off);
      row[x] = (uint8_t)value;
      most = value > most ? value : most;
    }
    if (peak != NULL && most > best) {
      best = most;
      peak[0] = (const uint8_t *)memchr(row, most, (size_t)width) - row;
      peak[1] = y;
    }
  }
}

static void images(int64_t begin, int64_t end, void *context)
{
  struct sumix_task *task = context;
  const struct sumix_saliency_args *args = task->args;
  const int64_t pixels = args->height * args->width;
  struct workspace w;
  if (prepare(&w, args) != 0) {
    task->failed = true;
    return;
  }
  for (int64_t i = begin; i < end; i++) {
    int32_t max_on = 0, max_off = 0;
    make_grey(&w, args, i);
    smooth(&w, w.grey, w.smooth);
    smooth(&w, w.smooth, w.grey);
    compare_all(&w, &max_on, &max_off);
    finish(&w, max_on, max_off, args->map != NULL ? args->map + i * pixels : NULL,
           args->peak != NULL ? args->peak + 2 * i : NULL);
  }
  free(w.memory);
}

int SUMIX_KERNEL(saliency)(const struct sumix_saliency_args *a, struct sumix_status *status)
{
  for (int64_t c = 0; a->mean != NULL && c < a->channels; c++) {  // written so that NaN fails
    SUMIX_CHECK(fabsf(a->mean[c]) <= FLT_MAX, status, "mean[%lld] is %g, expected a finite number", (long long)c,
                (double)a->mean[c]);
    SUMIX_CHECK(a->std[c] > 0 && a->std[c] <= FLT_MAX, status, "std[%lld] is %g, expected a number above 0",
                (long long)c, (double)a->std[c]);
  }
  const int64_t pixels = a->height * a->width;
  if (pixels == 0) return 0;
  if (pixels == 1) {  // no surroundings, and n - 1 = 0
    if (a->map != NULL) memset(a->map, 0, (size_t)a->n);
    if (a->peak != NULL) memset(a->peak, 0, (size_t)(2 * a->n) * sizeof *a->peak);
    return 0;
  }
  struct sumix_task task = {a, false};
  SUMIX_TRY(sumix_parallel_rows(a->n, 16 * pixels, images, &task, status));
  if (task.failed) return sumix_out_of_memory(status);
  return 0;
}
