/* The k largest pixels of each image, as a mask: how FMix (Harris et al., arXiv 2002.12047) cuts its grey images.
 *
 *   sample_top_k   k[i] = floor or ceil of lam[i] size, each with probability 1/2                            lam (n)
 *   mask_top_k     mask[i, j] = 1 if pixel j is among the k[i] largest of grey[i], else 0    grey (n, size), k (n)
 *
 * and with a soft edge of s = soft[i] ranks to either side, the pixel of rank q = k - s .. k + s - 1 (rank 0 is the
 * largest) is 1 - (q - k + s) / (2 s - 1): a ramp from 1 to 0, both ends included. Its sum is s, so the mask's mean is
 * k / size with and without it.
 *
 * The order is total: by value, then by index, lower first. Pixels are compared as int32 keys in the order of the
 * values; -0 has the key of 0, and NaN one above infinity's, so nothing is undefined and every image has k largest.
 *
 * Nothing is sorted for the hard mask. What is needed is a key with k pixels at or above it, and counting the pixels at
 * or above a key takes a vector comparison and a subtraction for 8 (16) of them. A histogram over a digit of the keys
 * says more a pass, but takes one scalar increment a pixel: several times as long as all the counts together, since
 * the counts are few. The key to try next comes from the counts at the two ends of the interval that is left, by false
 * position over the values in its Illinois form (halving the residue of an end that is kept twice): 5 or 6 counts for
 * an FMix image of 32 x 32, 8 for one of 224 x 224. Interpolation knows no bound, so after MAX_GUESSES the key's bits
 * are found one by one, in at most 32 counts more. The search also ends where the interval is one key wide: then
 * more pixels are equal to it than may enter, and the first of them do.
 *
 * The keys lie in the output's own memory and become the mask in place: an image of 32 x 32 stays in the first-level
 * cache throughout. Two searches bound the soft edge; only its 2 s pixels are sorted, by radix, the lowest byte first,
 * which keeps the order of the indices.
 */
#include "../mask.h"
#include "checks.h"
#include "isa.h"
#include "parallel.h"

enum {
  MAX_GUESSES = 20,
  BLOCK = 1 << 20,  // pixels whose count fits the lanes of a vector of int32
  RADIX = 256,
  SAMPLE_COST = 64,  // in elements, for the share of work that a thread should have
};

static const uint32_t one = 0x3f800000u;  // 1.0f; 0.0f is 0

/* The value whose key this is. */
static inline float value_of(int32_t key)
{
  return sumix_float_of_bits(key < 0 ? 0x80000000u | (uint32_t)-key : (uint32_t)key);
}

/* An image's keys, and their least and greatest. */
struct image {
  int32_t *key;  // (size)
  int64_t size;
  int32_t least, greatest;
};

static struct image keys_of(const float *restrict grey, int32_t *restrict key, int64_t size)
{
  int32_t least = INT32_MAX, greatest = INT32_MIN;
#pragma omp simd reduction(min : least) reduction(max : greatest)
  for (int64_t j = 0; j < size; j++) {
    const int32_t at = sumix_key_of_bits(sumix_bits_of_float(grey[j]));
    key[j] = at;
    least = at < least ? at : least;
    greatest = at > greatest ? at : greatest;
  }
  return (struct image){key, size, least, greatest};
}

/* How many keys are at least this. */
static int64_t count_from(const struct image *image, int32_t least)
{
  int64_t total = 0;
  for (int64_t from = 0; from < image->size; from += BLOCK) {
    const int32_t *const key = image->key + from;
    const int32_t size = image->size - from < BLOCK ? (int32_t)(image->size - from) : BLOCK;
    int32_t count = 0;
    for (int32_t j = 0; j < size; j++) count += key[j] >= least;
    total += count;
  }
  return total;
}

/* The k largest: every key above `above`, and those equal to it up to the index `last`. */
struct cut {
  int32_t above, last;
};

static inline bool is_kept(struct cut cut, int32_t key, int32_t index)
{
  return (key > cut.above) | ((key == cut.above) & (index <= cut.last));
}

static struct cut find_cut(const struct image *image, int64_t k)
{
  if (k == 0) return (struct cut){image->greatest, -1};
  if (k == image->size) return (struct cut){image->least - 1, -1};  // no key is INT32_MIN
  /* More than k keys are at least `low`, fewer than k, namely `rest`, at least `high`. */
  int64_t low = image->least, high = (int64_t)image->greatest + 1, rest = 0;
  double excess = (double)(image->size - k), lack = (double)k;
  int kept = 0;  // the end that the last guess left in place: -1 low, 1 high
  for (int guesses = 0; high - low > 1; guesses++) {
    int64_t key = low + (high - low) / 2;
    const double from = value_of((int32_t)low), to = value_of((int32_t)(high - 1));
    const double guess = from + (to - from) * (excess / (excess + lack));
    if (guesses < MAX_GUESSES && guess >= from && guess <= to) {  // neither of which holds for NaN
      key = sumix_key_of_bits(sumix_bits_of_float((float)guess));
      key = key <= low ? low + 1 : key >= high ? high - 1 : key;
    }
    const int64_t count = count_from(image, (int32_t)key);
    if (count == k) return (struct cut){(int32_t)key - 1, -1};
    if (count > k) {
      low = key;
      excess = (double)(count - k);
      if (kept == 1) lack /= 2;
      kept = 1;
    } else {
      high = key;
      rest = count;
      lack = (double)(k - count);
      if (kept == -1) excess /= 2;
      kept = -1;
    }
  }
  int32_t last = -1;
  for (int64_t ties = k - rest; ties > 0; ties -= image->key[last] == low) last++;
  return (struct cut){(int32_t)low, last};
}

/* The keys become a hard mask. */
static void cut_hard(const struct image *image, struct cut cut)
{
  int32_t *const key = image->key;
  for (int32_t j = 0; j < image->size; j++) key[j] = is_kept(cut, key[j], j) ? (int32_t)one : 0;
}

/* What a pixel's key becomes on the way to a soft mask: how far it is below the greatest on the edge, or one of these,
 * which no difference of keys reaches. */
static const uint32_t outside = UINT32_MAX - 1, inside = UINT32_MAX;

struct pixel {
  uint32_t depth, index;
};

/* Sorts by depth, stable; returns where the result is: `pixel`, or `other`, as long. */
static struct pixel *sort_by_depth(struct pixel *pixel, struct pixel *other, int64_t n, uint32_t deepest)
{
  for (int shift = 0; shift < 32 && deepest >> shift != 0; shift += 8) {
    uint32_t place[RADIX + 1] = {0};
    for (int64_t j = 0; j < n; j++) place[(pixel[j].depth >> shift) % RADIX + 1]++;
    for (int digit = 1; digit < RADIX; digit++) place[digit] += place[digit - 1];
    for (int64_t j = 0; j < n; j++) other[place[(pixel[j].depth >> shift) % RADIX]++] = pixel[j];
    struct pixel *const sorted = other;
    other = pixel;
    pixel = sorted;
  }
  return pixel;
}

/* The keys become a mask that falls from 1 to 0 between two cuts, over `ranks` pixels. scratch: (2, ranks + 1) */
static void cut_soft(const struct image *image, struct cut inner, struct cut outer, int64_t ranks,
                     struct pixel *scratch)
{
  int32_t *const key = image->key;
  const uint32_t top = (uint32_t)inner.above;
  for (int32_t j = 0; j < image->size; j++) {
    const uint32_t depth = is_kept(outer, key[j], j) ? top - (uint32_t)key[j] : outside;
    key[j] = (int32_t)(is_kept(inner, key[j], j) ? inside : depth);
  }
  int64_t found = 0;
  for (int32_t j = 0; j < image->size; j++) {  // each is put down, and overwritten unless it counts: without a branch
    const uint32_t depth = (uint32_t)key[j];
    scratch[found] = (struct pixel){depth, (uint32_t)j};
    found += depth < outside;
    key[j] = depth == inside ? (int32_t)one : 0;
  }
  const struct pixel *const sorted = sort_by_depth(scratch, scratch + ranks + 1, ranks, top - (uint32_t)outer.above);
  for (int64_t rank = 0; rank < ranks; rank++) {
    key[sorted[rank].index] = (int32_t)sumix_bits_of_float(sumix_ramp(rank, ranks));
  }
}

static void top_k_rows(int64_t begin, int64_t end, void *context)
{
  struct sumix_task *const task = context;
  const struct sumix_mask_top_k_args *const args = task->args;
  const int64_t size = args->size;
  int64_t most = 0;  // ranks of a soft edge
  for (int64_t i = begin; args->soft != NULL && i < end; i++) most = args->soft[i] > most ? args->soft[i] : most;
  struct pixel *const scratch = most > 0 ? sumix_scratch(2 * (2 * most + 1), sizeof *scratch) : NULL;
  if (most > 0 && scratch == NULL) {
    task->failed = true;
    return;
  }
  for (int64_t i = begin; i < end; i++) {
    const struct image image = keys_of(args->grey + i * size, (int32_t *)args->mask + i * size, size);
    const int64_t k = args->k[i], soft = args->soft != NULL ? args->soft[i] : 0;
    if (soft == 0)
      cut_hard(&image, find_cut(&image, k));
    else
      cut_soft(&image, find_cut(&image, k - soft), find_cut(&image, k + soft), 2 * soft, scratch);
  }
  free(scratch);
}

int SUMIX_KERNEL(mask_top_k)(const struct sumix_mask_top_k_args *a, struct sumix_status *status)
{
  for (int64_t i = 0; i < a->n; i++) {
    const int64_t k = a->k[i];
    SUMIX_CHECK(k >= 0 && k <= a->size, status, "k[%lld] is %lld, expected 0 to %lld", (long long)i, (long long)k,
                (long long)a->size);
    if (a->soft == NULL) continue;
    const int64_t most = k < a->size - k ? k : a->size - k;
    SUMIX_CHECK(a->soft[i] >= 0 && a->soft[i] <= most, status,
                "soft[%lld] is %lld, expected 0 to %lld, the smaller of k and what k leaves", (long long)i,
                (long long)a->soft[i], (long long)most);
  }
  if (a->size == 0) return 0;
  struct sumix_task task = {a, false};
  SUMIX_TRY(sumix_parallel_rows(a->n, 2 * a->size, top_k_rows, &task, status));
  if (task.failed) return sumix_out_of_memory(status);
  return 0;
}

static void sample_rows(int64_t begin, int64_t end, void *context)
{
  const struct sumix_sample_top_k_args *const args = ((struct sumix_task *)context)->args;
  const uint64_t seed = (uint64_t)*args->seed;
  for (int64_t i = begin; i < end; i++) {
    const struct sumix_top_k drawn = sumix_draw_top_k(seed, i, args->lam[i], args->size, args->max_soft);
    args->k[i] = drawn.k;
    args->soft[i] = drawn.soft;
    args->exact_lam[i] = drawn.exact_lam;
  }
}

int SUMIX_KERNEL(sample_top_k)(const struct sumix_sample_top_k_args *a, struct sumix_status *status)
{
  SUMIX_TRY(sumix_check_lam(a->lam, a->n, status));
  return sumix_parallel_rows(a->n, SAMPLE_COST, sample_rows, &(struct sumix_task){a, false}, status);
}
