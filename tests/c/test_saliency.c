/* The saliency kernel without torch, in buffers of their exact size: every dtype and layout at odd sizes against loops
 * over whole windows in 64 bits, the same bits on one thread and on several, hostile values, and the divisions that the
 * kernel does in float, all of them.
 *
 *   cc -std=c11 -D_GNU_SOURCE -g -O1 -fopenmp-simd -Wall -Wextra -Werror -fsanitize=address,undefined \
 *      -fno-sanitize-recover=all tests/c/test_saliency.c csrc/cpu/[a-z]*.c -lm -lpthread -o test_saliency
 *   ./test_saliency
 */
#include <math.h>
#include <string.h>

#include "../../csrc/cpu/half.h"
#include "no_torch.h"

static struct sumix_status status;

/* Emulated threads take time, most of all under ThreadSanitizer: every how many of the cases are tested there. */
#if defined SUMIX_TEST_CUDA && defined __SANITIZE_THREAD__
enum { EVERY = 29, EVERY_LARGER = 6 };
#elif defined SUMIX_TEST_CUDA
enum { EVERY = 3, EVERY_LARGER = 1 };
#else
enum { EVERY = 1, EVERY_LARGER = 1 };
#endif

static int64_t below(int64_t end) { return (int64_t)(uniform() * (double)end); }

static const size_t sizes[] = {4, 8, 2, 2, 1};

static double get(enum sumix_dtype dtype, const void *x, int64_t k)
{
  switch (dtype) {
    case SUMIX_FLOAT32: return ((const float *)x)[k];
    case SUMIX_FLOAT64: return ((const double *)x)[k];
    case SUMIX_FLOAT16: return sumix_float_of_half(((const uint16_t *)x)[k]);
    case SUMIX_BFLOAT16: return sumix_float_of_bfloat(((const uint16_t *)x)[k]);
    default: return ((const uint8_t *)x)[k];
  }
}

static void put(enum sumix_dtype dtype, void *x, int64_t k, double value)
{
  switch (dtype) {
    case SUMIX_FLOAT32: ((float *)x)[k] = (float)value; return;
    case SUMIX_FLOAT64: ((double *)x)[k] = value; return;
    case SUMIX_FLOAT16: ((uint16_t *)x)[k] = sumix_half_of_float((float)value); return;
    case SUMIX_BFLOAT16: ((uint16_t *)x)[k] = sumix_bfloat_of_float((float)value); return;
    default: ((uint8_t *)x)[k] = (uint8_t)value;
  }
}

/* The place of channel c of pixel p of image i. */
static int64_t place_of(const struct sumix_saliency_args *a, int64_t i, int64_t c, int64_t p)
{
  const int64_t pixels = a->height * a->width;
  return a->channels_last ? (i * pixels + p) * a->channels + c : (i * a->channels + c) * pixels + p;
}

/* ---- What is expected, one pixel and one window at a time ---- */

static int64_t reflect(int64_t at, int64_t size)
{
  if (size == 1) return 0;
  return at < 0 ? -at : at >= size ? 2 * size - 2 - at : at;
}

static void smooth(const int64_t *image, int64_t *result, int64_t height, int64_t width)
{
  for (int64_t y = 0; y < height; y++)
    for (int64_t x = 0; x < width; x++) {
      int64_t sum = 8;
      for (int64_t dy = -1; dy <= 1; dy++)
        for (int64_t dx = -1; dx <= 1; dx++)
          sum += (2 - llabs(dy)) * (2 - llabs(dx)) * image[reflect(y + dy, height) * width + reflect(x + dx, width)];
      result[y * width + x] = sum / 16;
    }
}

static int64_t clamped(int64_t at, int64_t size) { return at < 0 ? 0 : at > size ? size : at; }

/* `levels` (channels, pixels) of one image to its map. */
static void expected_map(const struct sumix_saliency_args *a, const uint8_t *levels, uint8_t *map)
{
  static const int64_t radii[] = {12, 24, 28, 48, 56, 112};
  static const int64_t rgb[] = {9798, 19235, 3735};
  const int64_t height = a->height, width = a->width, pixels = height * width;
  int64_t *g = exactly((size_t)pixels * sizeof *g), *h = exactly((size_t)pixels * sizeof *h);
  int64_t *on = exactly((size_t)pixels * sizeof *on), *off = exactly((size_t)pixels * sizeof *off);
  int64_t max_on = 0, max_off = 0;
  for (int64_t p = 0; p < pixels; p++) {
    g[p] = levels[p];
    if (a->channels == 3) {
      g[p] = 16384;
      for (int64_t c = 0; c < 3; c++) g[p] += rgb[a->bgr ? 2 - c : c] * levels[c * pixels + p];
      g[p] /= 32768;
    }
  }
  smooth(g, h, height, width);
  smooth(h, g, height, width);
  for (int64_t y = 0; y < height; y++)
    for (int64_t x = 0; x < width; x++) {
      const int64_t p = y * width + x;
      on[p] = off[p] = 0;
      for (int k = 0; k < 6; k++) {
        const int64_t r = radii[k], top = clamped(y - r + 1, height), bottom = clamped(y + r + 1, height);
        const int64_t left = clamped(x - r + 1, width), right = clamped(x + r + 1, width);
        const int64_t n = (bottom - top) * (right - left);
        int64_t difference = n * g[p];
        for (int64_t v = top; v < bottom; v++)
          for (int64_t u = left; u < right; u++) difference -= g[v * width + u];
        if (difference > 0) on[p] += difference / (n - 1);
        if (difference < 0) off[p] += -difference / (n - 1);
      }
      if (on[p] > max_on) max_on = on[p];
      if (off[p] > max_off) max_off = off[p];
    }
  for (int64_t p = 0; p < pixels; p++)
    map[p] = (uint8_t)((max_on ? 255 * on[p] / max_on : 0) + (max_off ? 255 * off[p] / max_off : 0));
  free(g), free(h), free(on), free(off);
}

/* ---- The kernel against it ---- */

/* The level that a value stands for, with room for the rounding of either side: -1 if that is too close to tell. */
static int64_t level_of(double value, double shift, double scale)
{
  const double level = (value + shift) * scale, bounded = level > 0 ? level < 255 ? level : 255 : 0;
  return fabs(bounded - floor(bounded) - 0.5) < 1e-3 ? -1 : (int64_t)(bounded + 0.5);
}

static void test_images(enum sumix_dtype dtype, bool scaled, int64_t channels, bool channels_last, int64_t height,
                        int64_t width)
{
  static const float mean[] = {0.485f, 0.456f, 0.406f}, std[] = {0.229f, 0.224f, 0.225f};
  const int64_t n = 3, pixels = height * width, size = n * channels * pixels;
  void *x = exactly((size_t)size * sizes[dtype]);
  uint8_t *levels = exactly((size_t)size), *map = exactly((size_t)(n * pixels)), *want = exactly((size_t)(n * pixels));
  int64_t *peak = exactly((size_t)(2 * n) * sizeof *peak);
  struct sumix_saliency_args args = {.dtype = dtype, .n = n, .channels = channels, .height = height, .width = width};
  args.channels_last = channels_last, args.bgr = below(2) == 1, args.x = x;
  if (scaled) args.mean = mean, args.std = std;

  for (int64_t i = 0; i < n; i++) {
    double low = INFINITY, high = -INFINITY;
    for (int64_t c = 0; c < channels; c++)
      for (int64_t p = 0; p < pixels; p++) {
        const int64_t at = place_of(&args, i, c, p);
        put(dtype, x, at, dtype == SUMIX_UINT8 ? (double)below(256) : 6 * uniform() - 3);
        low = fmin(low, get(dtype, x, at)), high = fmax(high, get(dtype, x, at));
      }
    for (int64_t c = 0; c < channels; c++)
      for (int64_t p = 0; p < pixels; p++) {
        const int64_t at = place_of(&args, i, c, p);
        const double shift = scaled ? (double)mean[c] / std[c] : -low,
                     scale = 255 * (scaled ? std[c] : 1 / (high - low));
        if (dtype != SUMIX_UINT8 && level_of(get(dtype, x, at), shift, scale) < 0)
          put(dtype, x, at, scaled ? 0 : low);  // whose levels are no ties
        const int64_t level =
            dtype == SUMIX_UINT8 ? (int64_t)get(dtype, x, at) : level_of(get(dtype, x, at), shift, scale);
        levels[(i * channels + c) * pixels + p] = (uint8_t)level;
      }
    expected_map(&args, levels + i * channels * pixels, want + i * pixels);
  }
  for (num_threads = 1; num_threads <= 3; num_threads += 2) {
    args.map = map, args.peak = NULL;
    CHECK(sumix_saliency_cpu_baseline(&args, &status) == 0);
    CHECK(memcmp(map, want, (size_t)(n * pixels)) == 0);
    args.map = NULL, args.peak = peak;
    CHECK(sumix_saliency_cpu_baseline(&args, &status) == 0);
    for (int64_t i = 0; i < n; i++) {
      int64_t first = 0;
      for (int64_t p = 0; p < pixels; p++)
        if (want[i * pixels + p] > want[i * pixels + first]) first = p;
      CHECK(peak[2 * i] == first % width && peak[2 * i + 1] == first / width);
    }
  }
  free(x), free(levels), free(map), free(want), free(peak);
}

/* Whatever the floats are, the map is what it is for some levels: no trap, no access out of bounds. */
static void test_hostile(enum sumix_dtype dtype)
{
  static const double values[] = {NAN, INFINITY, -INFINITY, 1e308, -1e308, 3e38, 1e-310, 0, 1};
  enum { HEIGHT = 13, WIDTH = 17, SIZE = 3 * HEIGHT * WIDTH, KINDS = sizeof values / sizeof *values };
  const float mean[] = {0, 3e38f, -3e38f}, std[] = {1e-38f, 3e38f, 1};
  void *x = exactly(SIZE * sizes[dtype]);
  uint8_t *map = exactly(HEIGHT * WIDTH);
  struct sumix_saliency_args args = {.dtype = dtype, .n = 1, .channels = 3, .height = HEIGHT, .width = WIDTH};
  args.x = x, args.map = map;
  for (int kind = EVERY_LARGER > 1 ? KINDS : 0; kind <= KINDS; kind++)
    for (int scaled = 0; scaled < 2; scaled++) {
      for (int64_t k = 0; k < SIZE; k++) put(dtype, x, k, values[kind < KINDS ? kind : below(KINDS)]);
      args.mean = scaled ? mean : NULL, args.std = scaled ? std : NULL;
      CHECK(sumix_saliency_cpu_baseline(&args, &status) == 0);
      for (int64_t p = 0; p < HEIGHT * WIDTH && kind < KINDS; p++) CHECK(map[p] == 0);  // constant
    }
  free(x), free(map);
}

static void test_refusals(void)
{
  const float wrong_mean[] = {0, NAN, 0}, mean[] = {0, 0, 0}, std[] = {1, 1, 1};
  const float wrong_std[][3] = {{0, 1, 1}, {1, -1, 1}, {1, 1, NAN}, {1, 1, INFINITY}};
  const float x[3] = {0};
  uint8_t map = 1;
  struct sumix_saliency_args args = {.n = 1, .channels = 3, .height = 1, .width = 1, .x = x, .map = &map};
  args.mean = wrong_mean, args.std = std;
  CHECK(sumix_saliency_cpu_baseline(&args, &status) != 0 && blames(&status, "mean[1]"));
  args.mean = mean;
  for (int k = 0; k < 4; k++) {
    args.std = wrong_std[k];
    CHECK(sumix_saliency_cpu_baseline(&args, &status) != 0 && blames(&status, "std["));
  }
  args.std = std;
  CHECK(sumix_saliency_cpu_baseline(&args, &status) == 0 && map == 0);
}

/* N / (n - 1) in float, and 255 a / max as a product: at every quotient, and just below it. */
static void test_divisions(void)
{
  for (int32_t others = 1; others < 224 * 224; others++)
    for (int32_t q = 1; q <= 255; q++) {
      CHECK((int32_t)((float)(q * others) / (float)others) == q);
      CHECK((int32_t)((float)(q * others - 1) / (float)others) == q - 1);
    }
  for (int32_t max = 1; max <= 6 * 255; max++) {
    const float scale = sumix_ratio_upwards(255, max);
    for (int32_t part = 0; part <= max; part++) CHECK((int32_t)((float)part * scale) == 255 * part / max);
  }
}

int main(void)
{
  static const int64_t shapes[][2] = {{1, 1}, {1, 2}, {2, 1}, {1, 30}, {30, 1}, {3, 2}, {12, 12}, {13, 5}, {25, 29}};
  int turn = 0;
  for (enum sumix_dtype dtype = SUMIX_FLOAT32; dtype <= SUMIX_UINT8; dtype++)
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
      for (int kind = 0; kind < 8; kind++) {
        const bool scaled = kind & 1, colour = kind & 2, last = kind & 4;
        if ((last && !colour) || (scaled && dtype == SUMIX_UINT8) || turn++ % EVERY != 0) continue;
        test_images(dtype, scaled, colour ? 3 : 1, last, shapes[s][0], shapes[s][1]);
      }
  /* The last four are too large for the shared memory of a CUDA block. */
  static const struct {
    enum sumix_dtype dtype;
    bool scaled, last;
    int64_t channels, height, width;
  } larger[] = {
      {SUMIX_UINT8, false, false, 3, 60, 33},   {SUMIX_UINT8, false, false, 1, 3, 251},
      {SUMIX_UINT8, false, false, 1, 251, 2},   {SUMIX_UINT8, false, true, 3, 6, 1023},
      {SUMIX_FLOAT16, true, false, 3, 330, 21}, {SUMIX_FLOAT32, false, false, 1, 35, 186},
      {SUMIX_FLOAT64, false, true, 3, 68, 73},
  };
  for (size_t s = 0; s < sizeof larger / sizeof *larger; s += EVERY_LARGER)
    test_images(larger[s].dtype, larger[s].scaled, larger[s].channels, larger[s].last, larger[s].height,
                larger[s].width);
  for (enum sumix_dtype dtype = SUMIX_FLOAT32; dtype <= SUMIX_BFLOAT16; dtype++) test_hostile(dtype);
  test_refusals();
  test_divisions();
  puts("saliency: passed");
  return 0;
}
