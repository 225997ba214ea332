#ifndef SUMIX_ARGS_SAMPLE_H
#define SUMIX_ARGS_SAMPLE_H

#include <stdint.h>

/* What is drawn for sample i depends on seed[0] and i; csrc/random.h says how. */
struct sumix_sample_lam_args {
  const int64_t *seed;  // one
  int64_t n;
  double alpha, p;  // lam is Beta(alpha, alpha), or 1 with probability 1 - p
  float *lam;       // (n)
};

enum sumix_partners {
  SUMIX_PARTNERS_ANY,              // a uniformly random permutation
  SUMIX_PARTNERS_NO_FIXED_POINTS,  // a uniformly random one of a single cycle
  SUMIX_PARTNERS_CROSS_CLASS,      // nobody of the own class, as far as possible
  SUMIX_NUM_PARTNERS
};
struct sumix_sample_perm_args {
  const int64_t *seed;  // one
  enum sumix_partners partners;
  int64_t n;
  const int64_t *labels;  // (n), any; read for CROSS_CLASS
  int64_t *perm;          // (n)
};

/* Boxes (x1, y1, x2, y2), ends exclusive, within images of height x width, and lam = 1 - area / (height width). With
 * probability 1 - p a box is (0, 0, 0, 0). Half sides are rounded down. */
enum sumix_box_kind {
  SUMIX_BOX_CUT,     // sides floor(size sqrt(1 - lam)), lam as sample_lam draws it, about any pixel, clipped
  SUMIX_BOX_SPAN,    // all rows of floor(width (1 - lam)) columns about any column, clipped
  SUMIX_BOX_MINMAX,  // sides from floor(size low) to below floor(size high), wherever the box fits
  SUMIX_BOX_RESIZE,  // sides floor(size tau) about any pixel, clipped; tau = lam, drawn again from low to high if
                     // outside or if alpha is 0
  SUMIX_NUM_BOX_KINDS
};
struct sumix_sample_box_args {
  const int64_t *seed;  // one
  enum sumix_box_kind kind;
  int64_t n, height, width;
  double alpha, p, low, high;
  int64_t *box;  // (n, 4)
  float *lam;    // (n)
};

/* The box of SUMIX_BOX_CUT about a given pixel, for a given lam; exact_lam is what is left of the image. */
struct sumix_cut_box_args {
  int64_t n, height, width;
  const float *lam;       // (n), 0 to 1
  const int64_t *centre;  // (n, 2): x, y
  int64_t *box;           // (n, 4)
  float *exact_lam;       // (n)
};

/* Uniform in [0, 1), or standard normal. */
struct sumix_sample_noise_args {
  const int64_t *seed;  // one
  int64_t n, size;
  float *out;  // (n, size)
};
struct sumix_sample_uniform_args {
  struct sumix_sample_noise_args noise;
};
struct sumix_sample_normal_args {
  struct sumix_sample_noise_args noise;
};

/* n seeds from one. */
struct sumix_sample_seed_args {
  const int64_t *seed;  // one
  int64_t n;
  int64_t *seeds;  // (n)
};

#endif
