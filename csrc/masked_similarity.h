/* What csrc/cpu/masked_similarity.c and csrc/cuda/masked_similarity.cu compute alike: of a mask's cells, and the weights
 * of the labels. */
#ifndef SUMIX_MASKED_SIMILARITY_H
#define SUMIX_MASKED_SIMILARITY_H

#include <stdint.h>

#include "args/masked_similarity.h"
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

/* What a mix shows of both images of a sample. */
struct sumix_visible {
  double own, partner;            // visible shares of their evidence
  double own_mass, partner_mass;  // sums of their evidence, for SUMIX_RULE_ABSOLUTE
  double area;                    // the mean of M
};

/* What follows for its labels. */
struct sumix_label_weights {
  double own, partner, rest;  // rest: of all classes, evenly
  double ratio;               // own / (own + partner)
};

/* A share as far as its evidence is trusted, and of the rest the area. */
static inline SUMIX_HD double sumix_gated(double gate, double share, double area)
{
  return gate * share + (1 - gate) * area;
}

/* What is visible of a sum, 0 where nothing is, whatever the sum. */
static inline SUMIX_HD double sumix_visible_mass(double share, double mass) { return share == 0 ? 0 : share * mass; }

/* lam: the ratio where nothing is visible. t: the weight of the area. */
static inline SUMIX_HD struct sumix_label_weights sumix_weigh_labels(enum sumix_rule rule,
                                                                     const struct sumix_visible *visible, double t,
                                                                     double lam)
{
  double own = visible->own, partner = visible->partner;
  if (rule == SUMIX_RULE_ABSOLUTE) {
    own = sumix_visible_mass(own, visible->own_mass);
    partner = sumix_visible_mass(partner, visible->partner_mass);
  }
  const double sum = own + partner, ratio = sum == 0 ? lam : own / sum;
  struct sumix_label_weights weights = {ratio, 1 - ratio, 0, ratio};
  if (rule == SUMIX_RULE_VISIBLE || rule == SUMIX_RULE_UNCERTAIN) {
    const double most = rule == SUMIX_RULE_VISIBLE || sum <= 1 ? 1 : sum;  // NaN, too, for both labels
    weights.own = own / most;
    weights.partner = partner / most;
    if (rule == SUMIX_RULE_UNCERTAIN) weights.rest = 1 - sum / most;
  }
  if (t > 0) {
    weights.own = (1 - t) * weights.own + t * visible->area;
    weights.partner = (1 - t) * weights.partner + t * (1 - visible->area);
    weights.rest *= 1 - t;
    const double both = weights.own + weights.partner;
    weights.ratio = both == 0 ? lam : weights.own / both;
  }
  return weights;
}

#endif
