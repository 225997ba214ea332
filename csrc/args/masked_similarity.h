#ifndef SUMIX_ARGS_MASKED_SIMILARITY_H
#define SUMIX_ARGS_MASKED_SIMILARITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../dtype.h"

enum sumix_evidence { SUMIX_EVIDENCE_FEATURE, SUMIX_EVIDENCE_CAM, SUMIX_EVIDENCE_OBJECT, SUMIX_NUM_EVIDENCES };
enum sumix_rule { SUMIX_RULE_RELATIVE, SUMIX_RULE_VISIBLE, SUMIX_RULE_ABSOLUTE, SUMIX_RULE_UNCERTAIN, SUMIX_NUM_RULES };

/* How much of each image's evidence a mix leaves visible. M: what of each cell of the h x w map is kept of the own
 * image, 1 outside the box times the mask; lam everywhere without either. visible_a = sum M s / sum s, visible_b of the
 * partner's under 1 - M; where the gate is not 1, the area moves in. The rule makes weights of the two labels of them,
 * and ratio is the own label's share of both. */
struct sumix_masked_similarity_args {
  enum sumix_dtype dtype;
  enum sumix_evidence evidence;
  enum sumix_rule rule;
  bool channels_last;  // a sample is (places, d), else (d, places), with places = frames * h * w
  int64_t n, d, frames, h, w, k;
  int64_t height, width;  // of the images, in pixels
  const void *features;   // n samples, `stride` elements from one to the next; objects: d = frames = 1
  int64_t stride;
  const void *class_weight;     // (k, d) real, for SUMIX_EVIDENCE_CAM
  const int64_t *labels;        // (n), -1 for none, for SUMIX_EVIDENCE_CAM
  const int64_t *perm;          // (n)
  const void *lam;              // (n) real
  const int64_t *box;           // (n, 4), or NULL
  const void *mask;             // (n, height, width), or (n, 1, 1) where it is constant, or NULL
  enum sumix_dtype mask_dtype;  // SUMIX_FLOAT32, or SUMIX_UINT8 of 0 and 1
  bool mask_is_constant;
  const int64_t *resize;                // (n): not 0 where the box shows the whole partner; or NULL
  const void *gate;                     // (n) real, how far each image's evidence is trusted, 0 to 1; or NULL: 1
  double min_contrast;                  // a map with no evidence above this times |g|^2 is flat
  double area_weight;                   // of the area in the weights of the labels, 0 to 1
  void *visible_a, *visible_b, *ratio;  // (n) real
  void *weights;                        // (n, 3) real: of the own label, the partner's, and all classes evenly
  void *scratch;                        // CUDA: sumix_masked_similarity_scratch(a) bytes
};

/* CUDA keeps the sums of an image's places in shared memory while they grow, if there are no more. */
enum { SUMIX_MASKED_SIMILARITY_IN_SHARED = 4000 };

/* Whether maps are looked at. Where the mix keeps the same everywhere, it is for the sums of the evidence alone. */
static inline bool sumix_masked_similarity_reads_maps(const struct sumix_masked_similarity_args *a)
{
  const bool uniform = a->box == NULL && (a->mask == NULL || a->mask_is_constant);
  return !uniform || a->rule == SUMIX_RULE_ABSOLUTE;
}

/* The evidence, (n, h, w) double, and the sums of places, (n, frames, h, w) real, that shared memory does not hold.
 * None where no map is looked at, or where objects are the evidence. */
static inline int64_t sumix_masked_similarity_scratch(const struct sumix_masked_similarity_args *a)
{
  const int64_t cells = a->h * a->w, places = a->frames * cells;
  if (!sumix_masked_similarity_reads_maps(a) || a->evidence == SUMIX_EVIDENCE_OBJECT) return 0;
  return 8 * a->n * (cells + (places > SUMIX_MASKED_SIMILARITY_IN_SHARED ? places : 0));
}

#endif
