/* What the CPU's and the CUDA kernels of sampling do alike, sample by sample: from random bits of csrc/random.h to
 * boxes, and to how far away partners of another class are. The same bits on both, so csrc/random.h's rules are this
 * file's. */
#ifndef SUMIX_SAMPLING_H
#define SUMIX_SAMPLING_H

#include "args/sample.h"
#include "random.h"

/* ---- Partners of another class: csrc/cpu/sample.c says how they are found ---- */

/* What a class is ordered by. */
static inline SUMIX_HD uint64_t sumix_class_key(uint64_t seed, uint64_t label)
{
  return sumix_half(sumix_philox(seed, label, 0, SUMIX_STREAM_CLASS), 0);
}

/* How many places on the partners are of n samples, `largest` of them in the largest class; 0 for n = 1. */
static inline SUMIX_HD int64_t sumix_class_shift(uint64_t seed, int64_t largest, int64_t n)
{
  if (2 * largest > n) return largest < n ? largest : n > 1;
  return largest + sumix_below(sumix_half(sumix_philox(seed, 0, 0, SUMIX_STREAM_SHIFT), 0), n - 2 * largest + 1);
}

/* ---- Boxes ---- */

struct sumix_span {
  int64_t from, to;
};

/* The pixels along a side of `size` that a box with this share of it covers about a centre, half its side each way. */
static inline SUMIX_HD struct sumix_span sumix_around(int64_t centre, double share, int64_t size)
{
  const int64_t half = (int64_t)((double)size * share) / 2;
  const struct sumix_span span = {centre > half ? centre - half : 0, centre + half < size ? centre + half : size};
  return span;
}

/* A side from floor(low size) to below floor(high size), anywhere where it fits. */
static inline SUMIX_HD struct sumix_span sumix_within(uint64_t side_bits, uint64_t start_bits, double low, double high,
                                                      int64_t size)
{
  const int64_t least = (int64_t)((double)size * low), choices = (int64_t)((double)size * high) - least;
  const int64_t side = least + sumix_below(side_bits, choices), from = sumix_below(start_bits, size - side + 1);
  const struct sumix_span span = {from, from + side};
  return span;
}

/* Returns what it leaves of the image. */
static inline SUMIX_HD float sumix_put_box(int64_t *box, struct sumix_span x, struct sumix_span y, int64_t height,
                                           int64_t width)
{
  box[0] = x.from, box[1] = y.from, box[2] = x.to, box[3] = y.to;
  const int64_t area = (x.to - x.from) * (y.to - y.from);
  return area > 0 ? (float)(1 - (double)area / ((double)height * (double)width)) : 1;
}

/* CutMix's box for this ratio, about a pixel. */
static inline SUMIX_HD float sumix_cut_box(float lam, int64_t x, int64_t y, int64_t height, int64_t width, int64_t *box)
{
  const double side = sqrt(1 - (double)lam);
  return sumix_put_box(box, sumix_around(x, side, width), sumix_around(y, side, height), height, width);
}

/* A sample's box, from its ratio and the words of draw 0 of SUMIX_STREAM_BOX; `more`: those of its draw 1 for MINMAX
 * and of its draw 2 for RESIZE. Returns what the box leaves of the image. */
static inline SUMIX_HD float sumix_draw_box(const struct sumix_sample_box_args *a, float lam, struct sumix_words place,
                                            struct sumix_words more, int64_t *box)
{
  const int64_t height = a->height, width = a->width;
  const uint64_t bits_x = sumix_half(place, 0), bits_y = sumix_half(place, 1);
  const int64_t x = sumix_below(bits_x, width), y = sumix_below(bits_y, height);
  if (a->kind == SUMIX_BOX_CUT) return sumix_cut_box(lam, x, y, height, width, box);
  struct sumix_span columns, rows;
  if (a->kind == SUMIX_BOX_SPAN) {
    columns = sumix_around(x, 1 - (double)lam, width);
    rows.from = 0, rows.to = height;
  } else if (a->kind == SUMIX_BOX_MINMAX) {
    columns = sumix_within(bits_x, sumix_half(more, 0), a->low, a->high, width);
    rows = sumix_within(bits_y, sumix_half(more, 1), a->low, a->high, height);
  } else {
    const double again = a->low + (a->high - a->low) * sumix_uniform_f64(sumix_half(more, 0));
    /* Without a branch, which would be mispredicted. */
    const double tau = ((a->alpha == 0) | (lam < a->low) | (lam > a->high)) ? again : lam;
    columns = sumix_around(x, tau, width), rows = sumix_around(y, tau, height);
  }
  return sumix_put_box(box, columns, rows, height, width);
}

#endif
