#ifndef SUMIX_ARGS_EVIDENCE_MASK_H
#define SUMIX_ARGS_EVIDENCE_MASK_H

#include <stdbool.h>
#include <stdint.h>

/* Masks of the places at which each map, enlarged to the size of the images, exceeds a share of its maximum. */
struct sumix_evidence_mask_args {
  int64_t n, h, w;        // of the maps
  int64_t height, width;  // of the images, in pixels
  bool hard;              // whether the edge is hard; the mask is then bytes
  float threshold;        // share of a map's maximum, 0 to 1
  float soft;             // width of a soft edge, as a share of the maximum too
  const float *evidence;  // (n, h, w), not negative
  const uint8_t *paste;   // (n), 0 or 1: whether sample i shows anything through its mask
  void *mask;             // (n, height, width): the weight of the own image: uint8_t 0 or 1, or float 0 to 1
  float *lam;             // (n): its mean
};

#endif
