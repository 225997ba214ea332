#ifndef SUMIX_ARGS_FOREGROUND_H
#define SUMIX_ARGS_FOREGROUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "map.h"

/* Where each image's object is, by two means of the finer map, and whether one stands out. csrc/cpu/foreground.c has
 * the formulas. */
struct sumix_foreground_args {
  int64_t n, h, w, fine_h, fine_w;  // fine_h >= h, fine_w >= w
  struct sumix_map coarse, fine;    // of h * w and fine_h * fine_w places, and of one dtype
  int64_t rounds;                   // 1 to SUMIX_FOREGROUND_ROUNDS
  const void *mean;                 // (fine.d) real: mu; or NULL for the mean over the batch
  double low, high;                 // the gate opens from q = low to q = high > low
  double min_contrast;              // a coarse map with no evidence above this times |g|^2 is flat
  void *map;                        // (n, fine_h, fine_w) real
  void *gate;                       // (n) real
  void *means;                      // (n, fine.d) real: of the finer map over its places
  void *scratch;                    // CUDA: sumix_foreground_scratch(a) bytes
};

enum { SUMIX_FOREGROUND_ROUNDS = 100 };  // at most: more would take long, and change nothing

/* CUDA keeps the weights of an image's places in shared memory, if there are no more. */
enum { SUMIX_FOREGROUND_IN_SHARED = 4000 };

/* The coarse evidence, (n, h, w) double; weights (n, fine_h, fine_w) real that shared memory does not hold; and for a
 * second launch, if there is one, |a - b|^2, (n) double, and (a + b) / 2, (n, fine.d) real. */
static inline int64_t sumix_foreground_scratch(const struct sumix_foreground_args *a)
{
  const int64_t places = a->fine.places;
  const int64_t weights = places > SUMIX_FOREGROUND_IN_SHARED ? places : 0;
  return 8 * a->n * (a->coarse.places + weights + (a->mean == NULL ? 1 + a->fine.d : 0));
}

#endif
