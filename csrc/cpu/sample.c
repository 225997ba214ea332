/* What a mixer draws: ratios, partners, boxes and noise, from one seed and each sample's number.
 *
 *   sample_lam      lam[i] from Beta(alpha, alpha), or 1 with probability 1 - p
 *   sample_perm     partners: any permutation, one cycle, or each sample with one of another class
 *   sample_box      boxes of CutMix, of its form for signals, of timm's cutmix_minmax, and of ResizeMix, each with the
 *                   exact share of the image that is left
 *   cut_box         CutMix's boxes about given pixels (SaliencyMix; Uddin et al., ICLR 2021)
 *   sample_uniform, sample_normal, sample_seed
 *
 * csrc/random.h has the generator and the distributions. A sample's numbers depend on the seed and on its own number
 * alone (a permutation's on the seed, the size and the labels), so they are equal for every number of threads and on
 * every processor and device. This file is compiled without contraction.
 *
 * A random permutation is an order by random keys, which any device can sort; ties, which 64 bits hardly have, go by
 * number. For partners of another class the samples are ordered by the random key of their class, then by their own, so
 * that the classes lie side by side, in random order, as on a ring; every sample's partner lies s places on. Let m be
 * the largest class's size. From m to n - m places on, nobody meets its own class, and s is uniform among those; if
 * there are none, m > n / 2, then m places lead as many as possible, all but 2 m - n of the largest class, to another
 * class.
 */
#include <math.h>
#include <string.h>

#include "../random.h"
#include "isa.h"
#include "parallel.h"

enum { CHUNK = 128 };  // samples, or draws of four elements, made at once

static inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- Ratios ---- */

/* Of the samples from `first` on. */
static void draw_beta(uint64_t seed, double alpha, int64_t first, int64_t count, float *restrict lam)
{
  if (alpha == 1) {
#pragma omp simd
    for (int64_t j = 0; j < count; j++) {
      const struct sumix_words words = sumix_philox(seed, (uint64_t)(first + j), 0, SUMIX_STREAM_LAM);
      lam[j] = (float)sumix_uniform_f64(sumix_half(words, 0));
    }
  } else {
#pragma omp simd
    for (int64_t j = 0; j < count; j++)
      lam[j] = (float)sumix_beta(sumix_philox(seed, (uint64_t)(first + j), 0, SUMIX_STREAM_LAM), alpha);
  }
}

/* Whether sample i is to be mixed: a draw of its own, so that p changes no other number. */
static inline bool is_mixed(uint64_t seed, double p, int64_t i)
{
  const struct sumix_words words = sumix_philox(seed, (uint64_t)i, 1, SUMIX_STREAM_LAM);
  return sumix_uniform_f64(sumix_half(words, 0)) < p;
}

static void lam_rows(int64_t begin, int64_t end, void *context)
{
  const struct sumix_sample_lam_args *a = ((struct sumix_task *)context)->args;
  const uint64_t seed = (uint64_t)*a->seed;
  draw_beta(seed, a->alpha, begin, end - begin, a->lam + begin);
  if (a->p == 1) return;
#pragma omp simd
  for (int64_t i = begin; i < end; i++) a->lam[i] = is_mixed(seed, a->p, i) ? a->lam[i] : 1;
}

enum { LAM_COST = 32, BOX_COST = 64 };  // in elements, for the share of work that a thread should have

int SUMIX_KERNEL(sample_lam)(const struct sumix_sample_lam_args *a, struct sumix_status *status)
{
  return sumix_parallel_rows(a->n, LAM_COST, lam_rows, &(struct sumix_task){a, false}, status);
}

/* ---- Partners ---- */

struct item {
  uint64_t key;
  int64_t tie, index;
};

static inline bool before(const struct item *a, const struct item *b)
{
  return a->key < b->key || (a->key == b->key && a->tie < b->tie);
}

enum { RUN = 8 };  // items that are sorted by insertion, before runs are merged

static void insert_sort(struct item *items, int64_t n)
{
  for (int64_t i = 1; i < n; i++) {
    const struct item moved = items[i];
    int64_t j = i;
    for (; j > 0 && before(&moved, &items[j - 1]); j--) items[j] = items[j - 1];
    items[j] = moved;
  }
}

/* Stable. Returns where the sorted items are: in `items` or in `spare`, which has room for n too. */
static struct item *sort(struct item *items, struct item *spare, int64_t n)
{
  for (int64_t i = 0; i < n; i += RUN) insert_sort(items + i, at_most(RUN, n - i));
  for (int64_t run = RUN; run < n; run *= 2) {
    for (int64_t first = 0; first < n; first += 2 * run) {
      int64_t a = first, b = at_most(first + run, n), to = first;
      const int64_t a_end = b, b_end = at_most(first + 2 * run, n);
      while (a < a_end && b < b_end) {
        const bool take_b = before(&items[b], &items[a]);
        spare[to++] = items[take_b ? b : a];
        b += take_b;
        a += !take_b;
      }
      memcpy(spare + to, items + a, (size_t)(a_end - a) * sizeof *items);
      to += a_end - a;
      memcpy(spare + to, items + b, (size_t)(b_end - b) * sizeof *items);
    }
    struct item *const sorted = spare;
    spare = items;
    items = sorted;
  }
  return items;
}

/* Brings sorted samples into the order of their classes. Returns where they are, as sort does, and the shift. */
static struct item *sort_by_class(const struct sumix_sample_perm_args *a, struct item *items, struct item *spare,
                                  int64_t *shift)
{
  const uint64_t seed = (uint64_t)*a->seed;
  for (int64_t i = 0; i < a->n; i++) {
    const int64_t label = a->labels[items[i].index];
    items[i].key = sumix_half(sumix_philox(seed, (uint64_t)label, 0, SUMIX_STREAM_CLASS), 0);
    items[i].tie = label;
  }
  items = sort(items, spare, a->n);
  int64_t largest = 0;
  for (int64_t i = 0, first = 0; i < a->n; i++) {
    if (items[i].tie != items[first].tie) first = i;
    if (i - first + 1 > largest) largest = i - first + 1;
  }
  *shift = largest < a->n ? largest : 1;
  if (2 * largest <= a->n)
    *shift += sumix_below(sumix_half(sumix_philox(seed, 0, 0, SUMIX_STREAM_SHIFT), 0), a->n - 2 * largest + 1);
  return items;
}

int SUMIX_KERNEL(sample_perm)(const struct sumix_sample_perm_args *a, struct sumix_status *status)
{
  if (a->n == 0) return 0;
  struct item *const memory = sumix_scratch(2 * a->n, sizeof *memory);
  if (memory == NULL) return sumix_out_of_memory(status);
  for (int64_t i = 0; i < a->n; i++) {
    const struct sumix_words words = sumix_philox((uint64_t)*a->seed, (uint64_t)i, 0, SUMIX_STREAM_PERM);
    memory[i] = (struct item){sumix_half(words, 0), i, i};
  }
  const struct item *order = sort(memory, memory + a->n, a->n);
  int64_t shift = 1;
  if (a->partners == SUMIX_PARTNERS_CROSS_CLASS)
    order = sort_by_class(a, (struct item *)order, order == memory ? memory + a->n : memory, &shift);
  if (a->partners == SUMIX_PARTNERS_ANY)
    for (int64_t i = 0; i < a->n; i++) a->perm[i] = order[i].index;
  else
    for (int64_t i = 0; i < a->n; i++) a->perm[order[i].index] = order[(i + shift) % a->n].index;
  free(memory);
  return 0;
}

/* ---- Boxes ---- */

struct span {
  int64_t from, to;
};

/* The pixels along a side of `size` that a box reaches from a centre, half its side each way. */
static inline struct span around(int64_t centre, int64_t half, int64_t size)
{
  return (struct span){centre > half ? centre - half : 0, at_most(centre + half, size)};
}

static float put_box(int64_t *box, struct span x, struct span y, int64_t height, int64_t width)
{
  box[0] = x.from, box[1] = y.from, box[2] = x.to, box[3] = y.to;
  const int64_t area = (x.to - x.from) * (y.to - y.from);
  return area > 0 ? (float)(1 - (double)area / ((double)height * (double)width)) : 1;
}

static float cut_around(int64_t *box, float lam, int64_t x, int64_t y, int64_t height, int64_t width)
{
  const double side = sqrt(1 - (double)lam);
  return put_box(box, around(x, (int64_t)((double)width * side) / 2, width),
                 around(y, (int64_t)((double)height * side) / 2, height), height, width);
}

/* A side from floor(low size) to below floor(high size), and where it starts. */
static struct span inside(uint64_t side_bits, uint64_t start_bits, double low, double high, int64_t size)
{
  const int64_t least = (int64_t)((double)size * low), choices = (int64_t)((double)size * high) - least;
  const int64_t side = least + sumix_below(side_bits, choices), from = sumix_below(start_bits, size - side + 1);
  return (struct span){from, from + side};
}

static float sample_one_box(const struct sumix_sample_box_args *a, int64_t i, float lam, int64_t *box)
{
  const uint64_t seed = (uint64_t)*a->seed;
  const struct sumix_words first = sumix_philox(seed, (uint64_t)i, 0, SUMIX_STREAM_BOX);
  const int64_t x = sumix_below(sumix_half(first, 0), a->width), y = sumix_below(sumix_half(first, 1), a->height);
  switch (a->kind) {
    case SUMIX_BOX_CUT: return cut_around(box, lam, x, y, a->height, a->width);
    case SUMIX_BOX_SPAN: {
      const int64_t half = (int64_t)((double)a->width * (1 - (double)lam)) / 2;
      return put_box(box, around(x, half, a->width), (struct span){0, a->height}, a->height, a->width);
    }
    case SUMIX_BOX_MINMAX: {
      const struct sumix_words corner = sumix_philox(seed, (uint64_t)i, 1, SUMIX_STREAM_BOX);
      return put_box(box, inside(sumix_half(first, 0), sumix_half(corner, 0), a->low, a->high, a->width),
                     inside(sumix_half(first, 1), sumix_half(corner, 1), a->low, a->high, a->height), a->height,
                     a->width);
    }
    default: break;
  }
  double tau = lam;  // in double, as everything that a side is rounded down from
  if (a->alpha == 0 || tau < a->low || tau > a->high) {
    const struct sumix_words again = sumix_philox(seed, (uint64_t)i, 2, SUMIX_STREAM_BOX);
    tau = a->low + (a->high - a->low) * sumix_uniform_f64(sumix_half(again, 0));
  }
  return put_box(box, around(x, (int64_t)(tau * (double)a->width) / 2, a->width),
                 around(y, (int64_t)(tau * (double)a->height) / 2, a->height), a->height, a->width);
}

static void box_rows(int64_t begin, int64_t end, void *context)
{
  const struct sumix_sample_box_args *a = ((struct sumix_task *)context)->args;
  const uint64_t seed = (uint64_t)*a->seed;
  if (a->kind != SUMIX_BOX_MINMAX && a->alpha > 0) draw_beta(seed, a->alpha, begin, end - begin, a->lam + begin);
  for (int64_t i = begin; i < end; i++) {
    int64_t *const box = a->box + 4 * i;
    if (a->p == 1 || is_mixed(seed, a->p, i)) {
      a->lam[i] = sample_one_box(a, i, a->lam[i], box);
    } else {
      memset(box, 0, 4 * sizeof *box);
      a->lam[i] = 1;
    }
  }
}

int SUMIX_KERNEL(sample_box)(const struct sumix_sample_box_args *a, struct sumix_status *status)
{
  return sumix_parallel_rows(a->n, BOX_COST, box_rows, &(struct sumix_task){a, false}, status);
}

int SUMIX_KERNEL(cut_box)(const struct sumix_cut_box_args *a, struct sumix_status *status)
{
  for (int64_t i = 0; i < a->n; i++) {
    const int64_t x = a->centre[2 * i], y = a->centre[2 * i + 1];
    SUMIX_CHECK(a->lam[i] >= 0 && a->lam[i] <= 1, status, "lam[%lld] is %g, expected 0 to 1", (long long)i,
                (double)a->lam[i]);
    SUMIX_CHECK(x >= 0 && x < a->width && y >= 0 && y < a->height, status,
                "centre[%lld] is (%lld, %lld), expected x from 0 to %lld and y from 0 to %lld", (long long)i,
                (long long)x, (long long)y, (long long)a->width - 1, (long long)a->height - 1);
    a->exact_lam[i] = cut_around(a->box + 4 * i, a->lam[i], x, y, a->height, a->width);
  }
  return 0;
}

/* ---- Noise: (n, size), in draws of four elements; a chunk of a sample's draws is one item of work ---- */

static inline int64_t chunks(int64_t size) { return (size + 4 * CHUNK - 1) / (4 * CHUNK); }

static void uniform_rows(int64_t begin, int64_t end, void *context)
{
  const struct sumix_sample_noise_args *a = ((struct sumix_task *)context)->args;
  const int64_t per_sample = chunks(a->size);
  float made[4 * CHUNK];
  for (int64_t item = begin; item < end; item++) {
    const int64_t i = item / per_sample, draw = item % per_sample * CHUNK,
                  count = at_most(4 * CHUNK, a->size - 4 * draw);
#pragma omp simd
    for (int64_t j = 0; j < CHUNK; j++) {
      const struct sumix_words words =
          sumix_philox((uint64_t)*a->seed, (uint64_t)i, (uint32_t)(draw + j), SUMIX_STREAM_UNIFORM);
      for (int k = 0; k < 4; k++) made[4 * j + k] = sumix_uniform_f32(words.w[k]);
    }
    memcpy(a->out + i * a->size + 4 * draw, made, (size_t)count * sizeof *made);
  }
}

static void normal_rows(int64_t begin, int64_t end, void *context)
{
  const struct sumix_sample_noise_args *a = ((struct sumix_task *)context)->args;
  const int64_t per_sample = chunks(a->size);
  float made[4 * CHUNK];
  for (int64_t item = begin; item < end; item++) {
    const int64_t i = item / per_sample, draw = item % per_sample * CHUNK,
                  count = at_most(4 * CHUNK, a->size - 4 * draw);
#pragma omp simd
    for (int64_t j = 0; j < CHUNK; j++) {
      const struct sumix_words words =
          sumix_philox((uint64_t)*a->seed, (uint64_t)i, (uint32_t)(draw + j), SUMIX_STREAM_NORMAL);
      sumix_normals(words.w[0], words.w[1], &made[4 * j], &made[4 * j + 1]);
      sumix_normals(words.w[2], words.w[3], &made[4 * j + 2], &made[4 * j + 3]);
    }
    memcpy(a->out + i * a->size + 4 * draw, made, (size_t)count * sizeof *made);
  }
}

static int noise(const struct sumix_sample_noise_args *a, ParallelFunc rows, struct sumix_status *status)
{
  return sumix_parallel_rows(a->n * chunks(a->size), 4 * CHUNK, rows, &(struct sumix_task){a, false}, status);
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
