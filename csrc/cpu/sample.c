/* What a mixer draws: ratios, partners, boxes and noise, from one seed and each sample's number.
 *
 *   sample_lam      lam[i] from Beta(alpha, alpha), or 1 with probability 1 - p
 *   sample_perm     partners: any permutation, one cycle, or each sample with one of another class
 *   sample_box      boxes of CutMix, of its form for signals, of timm's cutmix_minmax, and of ResizeMix, each with the
 *                   exact share of the image that is left
 *   cut_box         CutMix's boxes about given pixels (SaliencyMix; Uddin et al., ICLR 2021)
 *   sample_uniform, sample_normal, sample_seed
 *
 * csrc/random.h has the generator and the distributions, csrc/sampling.h the boxes. A sample's numbers depend on the
 * seed and on its own number alone (a permutation's on the seed, the size and the labels), so they are equal for every
 * number of threads and on every processor and device. This file is compiled without contraction.
 *
 * A random permutation is an order by random keys, which any device can sort; ties, which 64 bits hardly have, go by
 * number. For partners of another class the samples are ordered by the random key of their class, then by their own, so
 * that the classes lie side by side, in random order, as on a ring; every sample's partner lies s places on. Let m be
 * the largest class's size. From m to n - m places on, nobody meets its own class, and s is uniform among those; if
 * there are none, m > n / 2, then m places lead as many as possible, all but 2 m - n of the largest class, to another
 * class. Where there is but one class, s = 1: nobody meets itself.
 */
#include <string.h>

#include "../sampling.h"
#include "checks.h"
#include "isa.h"
#include "parallel.h"
#include "philox.h"

static inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- Ratios ---- */

/* Of `count` samples from `first` on, at most a block. */
static void draw_beta(uint64_t seed, double alpha, int64_t first, int64_t count, float *restrict lam)
{
  struct sumix_block block;
  sumix_philox_block(seed, (uint64_t)first, 0, SUMIX_STREAM_LAM, true, count, &block);
  if (alpha == 1) {
#pragma omp simd
    for (int64_t j = 0; j < count; j++) lam[j] = (float)sumix_uniform_f64(sumix_half(sumix_words_of(&block, j), 0));
  } else {
#pragma omp simd
    for (int64_t j = 0; j < count; j++) lam[j] = (float)sumix_beta(sumix_words_of(&block, j), alpha);
  }
}

/* Whether to mix, a draw of its own, so that p changes no other number. */
static void draw_mixed(uint64_t seed, double p, int64_t first, int64_t count, bool *restrict mixed)
{
  struct sumix_block block;
  sumix_philox_block(seed, (uint64_t)first, 1, SUMIX_STREAM_LAM, true, count, &block);
  for (int64_t j = 0; j < count; j++) mixed[j] = sumix_uniform_f64(sumix_half(sumix_words_of(&block, j), 0)) < p;
}

static void lam_rows(int64_t begin, int64_t end, void *context)
{
  const struct sumix_sample_lam_args *a = ((struct sumix_task *)context)->args;
  const uint64_t seed = (uint64_t)*a->seed;
  bool mixed[SUMIX_BLOCK];
  for (int64_t first = begin; first < end; first += SUMIX_BLOCK) {
    const int64_t count = at_most(SUMIX_BLOCK, end - first);
    draw_beta(seed, a->alpha, first, count, a->lam + first);
    if (a->p == 1) continue;
    draw_mixed(seed, a->p, first, count, mixed);
    for (int64_t j = 0; j < count; j++)
      if (!mixed[j]) a->lam[first + j] = 1;
  }
}

enum { LAM_COST = 32, BOX_COST = 64 };  // in elements, for the share of work that a thread should have

int SUMIX_KERNEL(sample_lam)(const struct sumix_sample_lam_args *a, struct sumix_status *status)
{
  return sumix_parallel_rows(a->n, LAM_COST, lam_rows, &(struct sumix_task){a, false}, status);
}

/* ---- Partners ---- */

struct item {
  uint64_t key;
  int64_t index;
};

/* By the bits of the key from `bit` on, keeping the order of equals: digit by digit, from the last. No branch depends
 * on a random key, which would be mispredicted half the time: that takes longer than all the rest. Returns where the
 * result is: in `items` or in `spare`, which has room for n too. */
static struct item *sort_by_digits(struct item *items, struct item *spare, int64_t n, int bit)
{
  for (; bit < 64 && n > 1; bit += 8) {
    int64_t places[256] = {0}, place = 0;
    for (int64_t i = 0; i < n; i++) places[items[i].key >> bit & 255]++;
    if (places[items[0].key >> bit & 255] == n) continue;
    for (int digit = 0; digit < 256; digit++) {
      const int64_t count = places[digit];
      places[digit] = place;
      place += count;
    }
    for (int64_t i = 0; i < n; i++) spare[places[items[i].key >> bit & 255]++] = items[i];
    struct item *const sorted = spare;
    spare = items;
    items = sorted;
  }
  return items;
}

/* The same by random keys: by their upper halves, in which hardly any two are equal, and what are by insertion. */
static struct item *sort_by_random(struct item *items, struct item *spare, int64_t n)
{
  items = sort_by_digits(items, spare, n, 32);
  for (int64_t i = 1; i < n; i++) {
    const struct item moved = items[i];
    int64_t j = i;
    for (; j > 0 && moved.key < items[j - 1].key; j--) items[j] = items[j - 1];
    items[j] = moved;
  }
  return items;
}

/* Brings sorted samples into the order of their classes; returns where they are. */
static struct item *sort_by_class(const struct sumix_sample_perm_args *a, struct item *items, struct item *spare)
{
  for (int64_t i = 0; i < a->n; i++) items[i].key = (uint64_t)a->labels[items[i].index];
  struct item *const grouped = sort_by_digits(items, spare, a->n, 0);
  for (int64_t i = 0; i < a->n; i++) grouped[i].key = sumix_class_key((uint64_t)*a->seed, grouped[i].key);
  return sort_by_random(grouped, grouped == items ? spare : items, a->n);
}

/* How many samples the largest class has, once the classes lie side by side. */
static int64_t largest_class(const struct sumix_sample_perm_args *a, const struct item *order)
{
  int64_t largest = 0;
  for (int64_t i = 0, first = 0; i < a->n; i++) {
    if (a->labels[order[i].index] != a->labels[order[first].index]) first = i;
    if (i - first + 1 > largest) largest = i - first + 1;
  }
  return largest;
}

int SUMIX_KERNEL(sample_perm)(const struct sumix_sample_perm_args *a, struct sumix_status *status)
{
  struct sumix_block block;
  struct item *const memory = sumix_scratch(2 * a->n, sizeof *memory);
  if (memory == NULL) return sumix_out_of_memory(status);
  for (int64_t first = 0; first < a->n; first += SUMIX_BLOCK) {
    const int64_t count = at_most(SUMIX_BLOCK, a->n - first);
    sumix_philox_block((uint64_t)*a->seed, (uint64_t)first, 0, SUMIX_STREAM_PERM, true, count, &block);
    for (int64_t j = 0; j < count; j++)
      memory[first + j] = (struct item){sumix_half(sumix_words_of(&block, j), 0), first + j};
  }
  struct item *order = sort_by_random(memory, memory + a->n, a->n);
  int64_t shift = a->n > 1;
  if (a->partners == SUMIX_PARTNERS_CROSS_CLASS) {
    order = sort_by_class(a, order, order == memory ? memory + a->n : memory);
    shift = sumix_class_shift((uint64_t)*a->seed, largest_class(a, order), a->n);
  }
  if (a->partners == SUMIX_PARTNERS_ANY) {
    for (int64_t i = 0; i < a->n; i++) a->perm[i] = order[i].index;
  } else {
    for (int64_t i = 0, to = shift; i < a->n; i++, to = to + 1 < a->n ? to + 1 : 0)
      a->perm[order[i].index] = order[to].index;
  }
  free(memory);
  return 0;
}

/* ---- Boxes ---- */

/* The boxes of `count` samples from `first` on, at most a block. `lam` holds their ratios. */
static void draw_boxes(const struct sumix_sample_box_args *a, int64_t first, int64_t count, float *lam, int64_t *box)
{
  const uint64_t seed = (uint64_t)*a->seed, sample = (uint64_t)first;
  struct sumix_block places, more;
  sumix_philox_block(seed, sample, 0, SUMIX_STREAM_BOX, true, count, &places);
  if (a->kind == SUMIX_BOX_MINMAX) sumix_philox_block(seed, sample, 1, SUMIX_STREAM_BOX, true, count, &more);
  if (a->kind == SUMIX_BOX_RESIZE) sumix_philox_block(seed, sample, 2, SUMIX_STREAM_BOX, true, count, &more);
  const struct sumix_block *const others = a->kind == SUMIX_BOX_MINMAX || a->kind == SUMIX_BOX_RESIZE ? &more : &places;
  const struct sumix_sample_box_args own = *a;  // no store in the loop changes it, so far as a compiler can see
  for (int64_t j = 0; j < count; j++)
    lam[j] = sumix_draw_box(&own, lam[j], sumix_words_of(&places, j), sumix_words_of(others, j), box + 4 * j);
}

static void box_rows(int64_t begin, int64_t end, void *context)
{
  const struct sumix_sample_box_args *a = ((struct sumix_task *)context)->args;
  const uint64_t seed = (uint64_t)*a->seed;
  bool mixed[SUMIX_BLOCK];
  for (int64_t first = begin; first < end; first += SUMIX_BLOCK) {
    const int64_t count = at_most(SUMIX_BLOCK, end - first);
    float *const lam = a->lam + first;
    int64_t *const box = a->box + 4 * first;
    if (a->alpha > 0 && a->kind != SUMIX_BOX_MINMAX)
      draw_beta(seed, a->alpha, first, count, lam);
    else
      memset(lam, 0, (size_t)count * sizeof *lam);
    draw_boxes(a, first, count, lam, box);
    if (a->p == 1) continue;
    draw_mixed(seed, a->p, first, count, mixed);
    for (int64_t j = 0; j < count; j++)
      if (!mixed[j]) lam[j] = 1, memset(box + 4 * j, 0, 4 * sizeof *box);
  }
}

int SUMIX_KERNEL(sample_box)(const struct sumix_sample_box_args *a, struct sumix_status *status)
{
  return sumix_parallel_rows(a->n, BOX_COST, box_rows, &(struct sumix_task){a, false}, status);
}

int SUMIX_KERNEL(cut_box)(const struct sumix_cut_box_args *a, struct sumix_status *status)
{
  SUMIX_TRY(sumix_check_lam(a->lam, a->n, status));
  for (int64_t i = 0; i < a->n; i++) {
    const int64_t x = a->centre[2 * i], y = a->centre[2 * i + 1];
    SUMIX_CHECK(x >= 0 && x < a->width && y >= 0 && y < a->height, status,
                "centre[%lld] is (%lld, %lld), expected x from 0 to %lld and y from 0 to %lld", (long long)i,
                (long long)x, (long long)y, (long long)a->width - 1, (long long)a->height - 1);
    a->exact_lam[i] = sumix_cut_box(a->lam[i], x, y, a->height, a->width, a->box + 4 * i);
  }
  return 0;
}

/* ---- Noise: (n, size), in draws of four elements; a block of a sample's draws is one item of work ---- */

static inline int64_t blocks(int64_t size) { return (size + 4 * SUMIX_BLOCK - 1) / (4 * SUMIX_BLOCK); }

/* Writes the elements of a block, as far as there are any, from item `item` of the work on. */
static void put_block(const struct sumix_sample_noise_args *a, int64_t item, float made[4][SUMIX_BLOCK])
{
  const int64_t per_sample = blocks(a->size), first = item % per_sample * (4 * SUMIX_BLOCK);
  float *const out = a->out + item / per_sample * a->size + first;
  const int64_t count = at_most(4 * SUMIX_BLOCK, a->size - first);
  for (int64_t j = 0; j < count / 4; j++)
    for (int k = 0; k < 4; k++) out[4 * j + k] = made[k][j];
  for (int64_t at = count / 4 * 4; at < count; at++) out[at] = made[at % 4][at / 4];
}

/* The words of an item; returns how many draws it has. */
static int64_t draw_block(const struct sumix_sample_noise_args *a, int64_t item, enum sumix_stream stream,
                          struct sumix_block *block)
{
  const int64_t per_sample = blocks(a->size), draw = item % per_sample * SUMIX_BLOCK;
  const int64_t draws = at_most(SUMIX_BLOCK, (a->size + 3) / 4 - draw);
  sumix_philox_block((uint64_t)*a->seed, (uint64_t)(item / per_sample), (uint32_t)draw, stream, false, draws, block);
  return draws;
}

static void uniform_rows(int64_t begin, int64_t end, void *context)
{
  const struct sumix_sample_noise_args *a = ((struct sumix_task *)context)->args;
  struct sumix_block block;
  float made[4][SUMIX_BLOCK];
  for (int64_t item = begin; item < end; item++) {
    const int64_t draws = draw_block(a, item, SUMIX_STREAM_UNIFORM, &block);
    for (int k = 0; k < 4; k++)
      for (int64_t j = 0; j < draws; j++) made[k][j] = sumix_uniform_f32(block.w[k][j]);
    put_block(a, item, made);
  }
}

static void normal_rows(int64_t begin, int64_t end, void *context)
{
  const struct sumix_sample_noise_args *a = ((struct sumix_task *)context)->args;
  struct sumix_block block;
  float made[4][SUMIX_BLOCK];
  for (int64_t item = begin; item < end; item++) {
    const int64_t draws = draw_block(a, item, SUMIX_STREAM_NORMAL, &block);
    for (int k = 0; k < 4; k += 2) {
#pragma omp simd
      for (int64_t j = 0; j < draws; j++) sumix_normals(block.w[k][j], block.w[k + 1][j], &made[k][j], &made[k + 1][j]);
    }
    put_block(a, item, made);
  }
}

static int noise(const struct sumix_sample_noise_args *a, ParallelFunc rows, struct sumix_status *status)
{
  return sumix_parallel_rows(a->n * blocks(a->size), 4 * SUMIX_BLOCK, rows, &(struct sumix_task){a, false}, status);
}

int SUMIX_KERNEL(sample_uniform)(const struct sumix_sample_uniform_args *a, struct sumix_status *status)
{
  return noise(&a->noise, uniform_rows, status);
}

int SUMIX_KERNEL(sample_normal)(const struct sumix_sample_normal_args *a, struct sumix_status *status)
{
  return noise(&a->noise, normal_rows, status);
}

int SUMIX_KERNEL(sample_seed)(const struct sumix_sample_seed_args *a, struct sumix_status *status)
{
  (void)status;
  for (int64_t i = 0; i < a->n; i++) {
    const uint64_t bits = sumix_half(sumix_philox((uint64_t)*a->seed, (uint64_t)i, 0, SUMIX_STREAM_SEED), 0);
    memcpy(&a->seeds[i], &bits, sizeof bits);
  }
  return 0;
}
