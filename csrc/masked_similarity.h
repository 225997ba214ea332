/* What of a mask's cells csrc/cpu/masked_similarity.c and csrc/cuda/masked_similarity.cu compute alike. */
#ifndef SUMIX_MASKED_SIMILARITY_H
#define SUMIX_MASKED_SIMILARITY_H

#include <stdint.h>

#include "maths.h"

/* How much of cell `at` of `cells`, which divide `size` pixels evenly, the pixels from..to cover, in units of 1 / cells
 * pixel: at most size. */
static inline SUMIX_HD double sumix_cell_overlap(int64_t at, int64_t cells, int64_t size, int64_t from, int64_t to)
{
  const int64_t begin = from * cells > at * size ? from * cells : at * size;
  const int64_t end = to * cells < (at + 1) * size ? to * cells : (at + 1) * size;
  return end > begin ? (double)(end - begin) : 0;
}

/* The first pixel that cell `at` touches, and the first one after it that it does not. */
static inline SUMIX_HD int64_t sumix_cell_first(int64_t at, int64_t cells, int64_t size) { return at * size / cells; }
static inline SUMIX_HD int64_t sumix_cell_end(int64_t at, int64_t cells, int64_t size)
{
  return ((at + 1) * size + cells - 1) / cells;
}

/* What cell (y, x) of h x w keeps of `value` outside a box of x1, y1, x2, y2 in height x width pixels. */
static inline SUMIX_HD double sumix_cell_outside(int64_t y, int64_t x, int64_t h, int64_t w, int64_t height,
                                                 int64_t width, const int64_t *box, double value)
{
  const double rows = sumix_cell_overlap(y, h, height, box[1], box[3]);
  const double columns = sumix_cell_overlap(x, w, width, box[0], box[2]);
  return value * (1 - rows * columns / ((double)height * (double)width));
}

/* A share of a cell, which rounding may have left a little outside 0 to 1. */
static inline SUMIX_HD double sumix_cell_share(double share) { return share < 0 ? 0 : share < 1 ? share : 1; }

#endif
