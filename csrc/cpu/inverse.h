/* Who is pasted where: for each image, the samples that took it as their partner, as lists by counting sort. Gradients
 * gather through it row by row, without a race and in the order of the samples, whatever the partners are. */
#ifndef SUMIX_CPU_INVERSE_H
#define SUMIX_CPU_INVERSE_H

#include "checks.h"
#include "parallel.h"

struct sumix_inverse {
  int64_t *first;    // (n + 1): samples[first[j]] .. samples[first[j + 1]] took image j. Free this one.
  int64_t *samples;  // (n)
};

static inline int sumix_inverse_lists(const int64_t *perm, int64_t n, struct sumix_inverse *inverse,
                                      struct sumix_status *status)
{
  SUMIX_TRY(sumix_check_partners(perm, n, status));
  inverse->first = calloc((size_t)(2 * n + 2), sizeof *inverse->first);
  if (inverse->first == NULL) return sumix_out_of_memory(status);
  /* Counts two places on; after the sums first[j + 1] is where list j starts, and filling it moves that to its end. */
  int64_t *const first = inverse->first;
  inverse->samples = first + n + 2;
  for (int64_t i = 0; i < n; i++) first[perm[i] + 2]++;
  for (int64_t j = 2; j <= n + 1; j++) first[j] += first[j - 1];
  for (int64_t i = 0; i < n; i++) inverse->samples[first[perm[i] + 1]++] = i;
  return 0;
}

#endif
