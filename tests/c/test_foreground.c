/* The foreground kernel without torch, in buffers of their exact size: every type and both layouts of both maps at odd
 * shapes, against the formula in plain loops; flat maps and NaN; the same bits on one thread and on several. */
#include <math.h>
#include <string.h>

#include "../../csrc/half.h"
#include "no_torch.h"

static size_t size_of(enum sumix_dtype dtype) { return dtype == SUMIX_FLOAT64 ? 8 : dtype == SUMIX_FLOAT32 ? 4 : 2; }

static enum sumix_dtype real_of(enum sumix_dtype dtype)
{
  return dtype == SUMIX_FLOAT64 ? SUMIX_FLOAT64 : SUMIX_FLOAT32;
}

static void set(enum sumix_dtype dtype, void *x, int64_t i, double value)
{
  if (dtype == SUMIX_FLOAT64) ((double *)x)[i] = value;
  if (dtype == SUMIX_FLOAT32) ((float *)x)[i] = (float)value;
  if (dtype == SUMIX_FLOAT16) ((uint16_t *)x)[i] = sumix_half_of_float((float)value);
  if (dtype == SUMIX_BFLOAT16) ((uint16_t *)x)[i] = sumix_bfloat_of_float((float)value);
}

static double get(enum sumix_dtype dtype, const void *x, int64_t i)
{
  if (dtype == SUMIX_FLOAT64) return ((const double *)x)[i];
  if (dtype == SUMIX_FLOAT32) return (double)((const float *)x)[i];
  const uint16_t half = ((const uint16_t *)x)[i];
  return (double)(dtype == SUMIX_FLOAT16 ? sumix_float_of_half(half) : sumix_float_of_bfloat(half));
}

static double at(const struct sumix_map *map, int64_t i, int64_t c, int64_t p)
{
  return get(map->dtype, map->data, i * map->stride + (map->channels_last ? p * map->d + c : c * map->places + p));
}

/* ---- The formula ---- */

static double upsampled(const double *s, const struct sumix_foreground_args *a, int64_t y, int64_t x)
{
  double at[2] = {((double)y + 0.5) * (double)a->h / (double)a->fine_h - 0.5,
                  ((double)x + 0.5) * (double)a->w / (double)a->fine_w - 0.5};
  const int64_t sizes[2] = {a->h, a->w};
  int64_t first[2], second[2];
  for (int axis = 0; axis < 2; axis++) {
    at[axis] = at[axis] < 0 ? 0 : at[axis];
    first[axis] = (int64_t)at[axis];
    second[axis] = first[axis] + 1 < sizes[axis] ? first[axis] + 1 : first[axis];
    at[axis] -= (double)first[axis];
  }
  const double top = s[first[0] * a->w + first[1]] * (1 - at[1]) + s[first[0] * a->w + second[1]] * at[1];
  const double bottom = s[second[0] * a->w + first[1]] * (1 - at[1]) + s[second[0] * a->w + second[1]] * at[1];
  return top * (1 - at[0]) + bottom * at[0];
}

/* The evidence of image i at the finer places into s. Returns whether there is any. */
static bool begin(const struct sumix_foreground_args *a, int64_t i, double *s)
{
  const int64_t cells = a->coarse.places;
  double *const coarse = exactly((size_t)cells * 8), mean = 0, squares = 0, most = 0;
  for (int64_t p = 0; p < cells; p++) coarse[p] = 0;
  for (int64_t c = 0; c < a->coarse.d; c++) {
    double g = 0;
    for (int64_t p = 0; p < cells; p++) g += at(&a->coarse, i, c, p) / (double)cells;
    for (int64_t p = 0; p < cells; p++) coarse[p] += g * (at(&a->coarse, i, c, p) - g);
    squares += g * g;
  }
  for (int64_t p = 0; p < cells; p++) mean += coarse[p] / (double)cells;
  for (int64_t p = 0; p < cells; p++) {
    coarse[p] = coarse[p] > mean ? coarse[p] - mean : 0;
    most = coarse[p] > most ? coarse[p] : most;
  }
  const bool any = most > a->min_contrast * squares;
  for (int64_t y = 0; y < a->fine_h; y++)
    for (int64_t x = 0; x < a->fine_w; x++) s[y * a->fine_w + x] = any ? upsampled(coarse, a, y, x) : 0;
  free(coarse);
  return any;
}

static bool near(double got, double want, double scale, enum sumix_dtype dtype)
{
  return fabs(got - want) <= (dtype == SUMIX_FLOAT64 ? 1e-11 : 2e-5) * (scale + 1e-30);
}

/* One round over image i: s to s, and the means. */
static void go_round(const struct sumix_foreground_args *a, int64_t i, double *s, double *own, double *rest)
{
  const int64_t places = a->fine.places, d = a->fine.d;
  double most = 0, sum = 0;
  for (int64_t p = 0; p < places; p++) most = s[p] > most ? s[p] : most;
  for (int64_t p = 0; p < places; p++) sum += s[p] / most;
  for (int64_t c = 0; c < d; c++) {
    own[c] = rest[c] = 0;
    for (int64_t p = 0; p < places; p++) {
      own[c] += s[p] / most * at(&a->fine, i, c, p) / sum;
      rest[c] += (1 - s[p] / most) * at(&a->fine, i, c, p) / ((double)places - sum);
    }
  }
  for (int64_t p = 0; p < places; p++) {
    double more = 0;
    for (int64_t c = 0; c < d; c++) more += (at(&a->fine, i, c, p) - (own[c] + rest[c]) / 2) * (own[c] - rest[c]);
    s[p] = more > 0 ? more : 0;
  }
}

static double mean_of(const struct sumix_foreground_args *a, int64_t i, int64_t c)
{
  double mean = 0;
  for (int64_t p = 0; p < a->fine.places; p++) mean += at(&a->fine, i, c, p) / (double)a->fine.places;
  return mean;
}

static double centre_of(const struct sumix_foreground_args *a, int64_t c)
{
  if (a->mean != NULL) return get(real_of(a->fine.dtype), a->mean, c);
  double centre = 0;
  for (int64_t i = 0; i < a->n; i++) centre += mean_of(a, i, c) / (double)a->n;
  return centre;
}

static void check_against_the_formula(const struct sumix_foreground_args *a)
{
  const enum sumix_dtype real = real_of(a->fine.dtype);
  const int64_t places = a->fine.places, d = a->fine.d;
  double *const s = exactly((size_t)places * 8), *const own = exactly((size_t)d * 8),
                *const rest = exactly((size_t)d * 8);
  for (int64_t i = 0; i < a->n; i++) {
    const bool any = begin(a, i, s);
    double gate = 0, most = 0;
    for (int64_t t = 0; t < a->rounds && any; t++) {
      double apart = 0, spread = 0;
      go_round(a, i, s, own, rest);
      for (int64_t c = 0; c < d && t == 0; c++) {
        const double centre = centre_of(a, c);
        apart += (own[c] - rest[c]) * (own[c] - rest[c]);
        spread += (own[c] - centre) * (own[c] - centre) + (rest[c] - centre) * (rest[c] - centre);
      }
      if (t == 0) gate = fmin(1, fmax(0, (apart / spread - a->low) / (a->high - a->low)));
    }
    for (int64_t p = 0; p < places; p++) most = s[p] > most ? s[p] : most;
    for (int64_t p = 0; p < places; p++) CHECK(near(get(real, a->map, i * places + p), s[p], most, real));
    CHECK(near(get(real, a->gate, i), gate, 10, real));
    for (int64_t c = 0; c < d; c++) CHECK(near(get(real, a->means, i * d + c), mean_of(a, i, c), 1, real));
  }
  free(s);
  free(own);
  free(rest);
}

/* ---- Batches ---- */

/* `prefix`: tokens before the map. */
static struct sumix_map new_map(enum sumix_dtype dtype, bool last, int64_t n, int64_t d, int64_t places, int64_t prefix)
{
  const int64_t stride = d * (places + prefix);
  char *data = exactly((size_t)(n * stride) * size_of(dtype));
  for (int64_t i = 0; i < n * stride; i++) set(dtype, data, i, uniform());
  return (struct sumix_map){data + (size_t)(prefix * d) * size_of(dtype), stride, d, places, dtype, last};
}

static void free_map(const struct sumix_map *map)
{
  free((char *)map->data - (size_t)(map->stride - map->d * map->places) * size_of(map->dtype));
}

/* shape: n, the coarse map's d, h and w, the finer one's. */
static struct sumix_foreground_args new_batch(enum sumix_dtype dtype, bool last, bool fine_last, const int64_t shape[7])
{
  const int64_t n = shape[0], places = shape[5] * shape[6], d = shape[4];
  const size_t real = size_of(real_of(dtype));
  void *mean = exactly((size_t)d * real);
  for (int64_t c = 0; c < d; c++) set(real_of(dtype), mean, c, uniform() / 2);
  return (struct sumix_foreground_args){
      .n = n,
      .h = shape[2],
      .w = shape[3],
      .fine_h = shape[5],
      .fine_w = shape[6],
      .coarse = new_map(dtype, last, n, shape[1], shape[2] * shape[3], last ? 2 : 0),
      .fine = new_map(dtype, fine_last, n, d, places, fine_last ? 1 : 0),
      .rounds = 1,
      .mean = mean,
      .low = 0.01,
      .high = 0.5,
      .min_contrast = 1e-6,
      .map = exactly((size_t)(n * places) * real),
      .gate = exactly((size_t)n * real),
      .means = exactly((size_t)(n * d) * real),
  };
}

static void free_batch(const struct sumix_foreground_args *a, const void *mean)
{
  free_map(&a->coarse);
  free_map(&a->fine);
  free((void *)mean);
  free(a->map);
  free(a->gate);
  free(a->means);
}

/* Emulated threads take time, most of all under ThreadSanitizer: every how many of the cases are tested there. */
#if defined SUMIX_TEST_CUDA && defined __SANITIZE_THREAD__
enum { EVERY = 61 };
#elif defined SUMIX_TEST_CUDA
enum { EVERY = 3 };
#else
enum { EVERY = 1 };
#endif

static bool left_out(void)
{
  static int turn;
  return turn++ % EVERY != 0;
}

static void run_twice(const struct sumix_foreground_args *a)
{
  struct sumix_status status;
  const size_t real = size_of(real_of(a->fine.dtype));
  const size_t bytes[] = {(size_t)(a->n * a->fine.places) * real, (size_t)a->n * real,
                          (size_t)(a->n * a->fine.d) * real};
  void *const outputs[] = {a->map, a->gate, a->means};
  char *one[3];
  for (int t = 0; t < 3; t++) one[t] = exactly(bytes[t]);
  for (num_threads = 1; num_threads <= 4; num_threads += 3) {
    CHECK(sumix_foreground_cpu_baseline(a, &status) == 0);
    for (int t = 0; t < 3; t++) {
      if (num_threads == 1) memcpy(one[t], outputs[t], bytes[t]);
      CHECK(memcmp(one[t], outputs[t], bytes[t]) == 0);
    }
  }
  num_threads = 1;
  for (int t = 0; t < 3; t++) free(one[t]);
}

static void check_one(const struct sumix_foreground_args *a)
{
  if (left_out()) return;
  run_twice(a);
  check_against_the_formula(a);
}

/* With one round and two, a mean that is given and the batch's own. */
static void check_all(enum sumix_dtype dtype, bool last, bool fine_last, const int64_t shape[7])
{
  struct sumix_foreground_args a = new_batch(dtype, last, fine_last, shape);
  const void *const mean = a.mean;
  for (a.rounds = 1; a.rounds <= 2; a.rounds++) {
    a.mean = mean;
    check_one(&a);
    a.mean = NULL;
    check_one(&a);
  }
  free_batch(&a, mean);
}

/* Image 0 is flat, of image 1 the coarse map has NaN, of image 2 the finer one, and image 3 has one colour. */
static void check_special_images(enum sumix_dtype dtype, bool last)
{
  const int64_t shape[] = {5, 4, 2, 3, 7, 4, 5}, places = 20, d = 7;
  struct sumix_foreground_args a = new_batch(dtype, false, last, shape);
  const enum sumix_dtype real = real_of(dtype);
  const void *const mean = a.mean;
  for (int64_t i = 0; i < 24; i++) set(dtype, (void *)a.coarse.data, i, 0.75);
  set(dtype, (void *)a.coarse.data, 24 + 13, NAN);
  set(dtype, (void *)a.fine.data, 2 * a.fine.stride + 9, NAN);
  for (int64_t i = 0; i < places * d; i++) set(dtype, (void *)a.fine.data, 3 * a.fine.stride + i, 0.3);
  for (a.rounds = 1; a.rounds <= 2; a.rounds++) {
    if (left_out()) continue;
    run_twice(&a);
    for (int64_t i = 0; i < 5; i++) {
      const double gate = get(real, a.gate, i), s = get(real, a.map, i * places + 3);
      if (i == 1 || i == 2) CHECK(isnan(gate) && isnan(s));
      if (i == 0 || i == 3) CHECK(gate == 0 && s == 0);
      if (i == 4) CHECK(gate >= 0 && gate <= 1 && s >= 0);
      for (int64_t c = 0; c < d && i != 2; c++) CHECK(near(get(real, a.means, i * d + c), mean_of(&a, i, c), 1, real));
    }
  }
  free_batch(&a, mean);
}

int main(void)
{
  static const int64_t shapes[][7] = {{1, 1, 3, 2, 1, 3, 2},    {3, 17, 1, 3, 3, 17, 3}, {2, 33, 3, 3, 37, 7, 17},
                                      {5, 34, 7, 7, 70, 8, 9},  {0, 3, 2, 2, 4, 3, 3},   {3, 2, 1, 1, 16, 3, 1},
                                      {2, 16, 9, 8, 35, 17, 17}};
  for (int dtype = SUMIX_FLOAT32; dtype <= SUMIX_BFLOAT16; dtype++) {
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
      for (int layout = 0; layout < 4; layout++)
        check_all((enum sumix_dtype)dtype, layout % 2 == 1, layout / 2 == 1, shapes[s]);
    check_special_images((enum sumix_dtype)dtype, false);
    check_special_images((enum sumix_dtype)dtype, true);
  }
  puts("foreground: passed");
  return 0;
}
