/* THE contract: every kernel's arguments, declared once. csrc/cpu defines each kernel once per instruction set.
 *
 * Pointers are to contiguous memory of the shape beside them, in the dtype of the struct unless a C type says
 * otherwise; outputs overlap nothing. "real" below is float, or double for SUMIX_FLOAT64: what half precision is
 * computed in. A kernel trusts shapes and dtypes; what it must check are the values inside tensors (labels, partners,
 * ratios, boxes). It allocates no tensor, and returns 0, or -1 with a message in status.
 */
#ifndef SUMIX_KERNELS_H
#define SUMIX_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"

enum sumix_dtype {
  SUMIX_FLOAT32,
  SUMIX_FLOAT64,
  SUMIX_FLOAT16,
  SUMIX_BFLOAT16,
  SUMIX_UINT8,
  SUMIX_INT8,
  SUMIX_INT16,
  SUMIX_INT32,
  SUMIX_INT64,
  SUMIX_OTHER,  // known by its size alone: copied, never computed with
};

/* u = q / ||q||_2 with q = softmax(x), row by row; and its gradient from u alone. */
struct sumix_uncertainty_args {
  enum sumix_dtype dtype;
  int64_t n, k;
  const void *x;  // (n, k)
  void *u;        // (n, k)
};
struct sumix_uncertainty_backward_args {
  enum sumix_dtype dtype;
  int64_t n, k;
  const void *u, *grad_u;  // (n, k)
  void *grad_x;            // (n, k)
};

/* alpha = scale * d / ||d||_2, d = softmax(sign * (p - m)), m = softmax(z), p = softmax(r) with p[i, masked[i]] = 0. */
struct sumix_semantic_distance_args {
  enum sumix_dtype dtype;
  int64_t n, k;
  const void *z, *r;      // (n, k)
  const int64_t *masked;  // (n): a class to forget, or -1
  double scale;
  bool published;  // sign -1 (the authors' code); else +1
  void *alpha;     // (n, k)
};

/* How many pixels of an image of `size` a mask is to keep for lam, floor or ceil of lam size, each with probability
 * 1/2, and the half width of its soft edge in ranks. */
struct sumix_sample_top_k_args {
  const int64_t *seed;  // one
  int64_t n, size;
  double max_soft;   // 0 to 1/2
  const float *lam;  // (n), 0 to 1
  int64_t *k;        // (n)
  int64_t *soft;     // (n): floor(min(max_soft, lam, 1 - lam) size), at most k and size - k
  float *exact_lam;  // (n): k / size
};

/* The k[i] largest pixels of image i become 1, the others 0, equal ones by index. With soft, the soft[i] ranks to
 * either side of the threshold ramp from 1 to 0. */
struct sumix_mask_top_k_args {
  int64_t n, size;      // size: pixels of an image, below 2^31
  const float *grey;    // (n, size)
  const int64_t *k;     // (n), 0 to size
  const int64_t *soft;  // (n), 0 to min(k, size - k), or NULL
  void *mask;           // (n, size) float
};

enum sumix_ratio { SUMIX_RATIO_AREA, SUMIX_RATIO_PUBLISHED, SUMIX_RATIO_SEMANTIC, SUMIX_NUM_RATIOS };
enum sumix_weighting { SUMIX_WEIGHTING_SAMPLE, SUMIX_WEIGHTING_BATCH, SUMIX_NUM_WEIGHTINGS };
enum sumix_reduction { SUMIX_REDUCTION_NONE, SUMIX_REDUCTION_MEAN, SUMIX_REDUCTION_SUM, SUMIX_NUM_REDUCTIONS };

/* The SUMix loss and its gradients. Plain form: v and u are NULL, and z and r stand in for them. */
struct sumix_loss_args {
  enum sumix_dtype dtype;
  enum sumix_ratio ratio;
  enum sumix_weighting weighting;
  enum sumix_reduction reduction;
  int64_t n, k;
  const void *z, *r;                     // (n, k): logits of the mixed and of the raw images
  const void *v, *u;                     // (n, k): uncertainty of the mixed and of the raw images, or NULL
  const int64_t *y_a, *y_b;              // (n)
  const int64_t *perm;                   // (n)
  const void *lam;                       // (n) real
  const void *class_weight;              // (k) real, or NULL
  const void *learned;                   // (n) real: lam~ found elsewhere, with SUMIX_RATIO_AREA; or NULL
  double gamma, scale, label_smoothing;  // scale below 0: n
  int64_t ignore_index;
  void *loss;   // () real, or (n) for SUMIX_REDUCTION_NONE
  void *parts;  // (3, n) real: lam~, classification term, regulariser
  /* (n, k) real, or NULL where no gradient is wanted. grad_v is NULL in the plain form, where its share goes to grad_z,
   * and grad_u's to the gradient of r. For SUMIX_REDUCTION_NONE grad_u holds sample i's own share and grad_partner the
   * share of u[perm[i]]; otherwise grad_u holds their sum and grad_partner is NULL. */
  void *grad_z, *grad_v, *grad_u, *grad_partner;
};

/* Scales what sumix_loss left by the incoming gradient: one scalar, or (n) where the loss was not reduced. */
struct sumix_loss_backward_args {
  enum sumix_dtype dtype;  // of the outputs
  bool per_sample;
  int64_t n, k;
  const void *grad_loss;                                // () or (n) real
  const int64_t *perm;                                  // (n)
  const void *grad_z, *grad_v, *grad_u, *grad_partner;  // (n, k) real; grad_v NULL in the plain form
  void *out_z, *out_v, *out_u;                          // (n, k) dtype; out_v NULL in the plain form
};

enum sumix_evidence { SUMIX_EVIDENCE_FEATURE, SUMIX_EVIDENCE_CAM, SUMIX_EVIDENCE_OBJECT, SUMIX_NUM_EVIDENCES };

/* How much of each image's evidence a mix leaves visible. M: what of each cell of the h x w map is kept of the own
 * image, 1 outside the box times the mask; lam everywhere without either. visible_a = sum M s / sum s, visible_b of the
 * partner's under 1 - M, ratio = visible_a / (visible_a + visible_b). */
struct sumix_masked_similarity_args {
  enum sumix_dtype dtype;
  enum sumix_evidence evidence;
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
  double min_contrast;                  // a map with no evidence above this times |g|^2 is flat
  void *visible_a, *visible_b, *ratio;  // (n) real
};

/* The layout of a batch for mixing: each sample is `planes` images of `height` x `width` pixels of `pixel` bytes.
 * NCHW: planes = C, one channel a pixel. channels_last: one plane, C channels a pixel. */
struct sumix_layout {
  int64_t n, planes, height, width, pixel;
};

/* out[i] = x[i], with box[i] = (x1, y1, x2, y2) (ends exclusive) filled from x[perm[i]]. */
struct sumix_mix_box_args {
  struct sumix_layout layout;
  const void *x;        // (n, planes, height, width) pixels
  const int64_t *box;   // (n, 4)
  const int64_t *perm;  // (n)
  void *out;            // as x
};
/* grad_x[i] = grad_out[i] outside box[i], plus grad_out[j] inside box[j] for every j with perm[j] = i. */
struct sumix_mix_box_backward_args {
  enum sumix_dtype dtype;
  struct sumix_layout layout;
  const void *grad_out;
  const int64_t *box, *perm;
  void *grad_x;
};

/* out[i] = lam[i] x[i] + (1 - lam[i]) x[perm[i]], rounded to nearest even for integers. A weight of exactly 0 takes
 * nothing from its image, not even NaN. */
struct sumix_mix_linear_args {
  enum sumix_dtype dtype;
  int64_t n, size;      // size: elements a sample
  const void *x;        // (n, size)
  const float *lam;     // (n)
  const int64_t *perm;  // (n)
  void *out;            // (n, size)
};
/* grad_x[i] = lam[i] grad_out[i] + sum of (1 - lam[j]) grad_out[j] over every j with perm[j] = i. */
struct sumix_mix_linear_backward_args {
  enum sumix_dtype dtype;
  int64_t n, size;
  const void *grad_out;
  const float *lam;
  const int64_t *perm;
  void *grad_x;
};

/* The weight of the own image, pixel by pixel. */
struct sumix_mask {
  const void *values;  // (n, height, width) or, if uniform, (n): float from 0 to 1, or if binary bytes that are 0 or 1
  bool binary, uniform;
};
/* out[i] = mask[i] x[i] + (1 - mask[i]) x[perm[i]], with weights of 0 and rounding as in mix_linear. */
struct sumix_mix_mask_args {
  enum sumix_dtype dtype;  // for a binary mask any
  struct sumix_layout layout;
  int64_t element;  // bytes
  const void *x;
  struct sumix_mask mask;
  const int64_t *perm;
  void *out;
};
/* grad_x[i] = mask[i] grad_out[i] + sum of (1 - mask[j]) grad_out[j] over every j with perm[j] = i. */
struct sumix_mix_mask_backward_args {
  enum sumix_dtype dtype;
  struct sumix_layout layout;
  const void *grad_out;
  struct sumix_mask mask;
  const int64_t *perm;
  void *grad_x;
};

/* out[i] = x[i], with box[i] filled from x[perm[i]] by resize[i]: 0 from the same box, otherwise from the whole of it,
 * resized to the box by 1 nearest, 2 nearest-exact, 3 bilinear, as torch.nn.functional.interpolate does. */
struct sumix_mix_resize_args {
  enum sumix_dtype dtype;  // for bilinear one that is computed with
  struct sumix_layout layout;
  int64_t element;  // bytes
  const void *x;
  const int64_t *box;     // (n, 4)
  const int64_t *resize;  // (n)
  const int64_t *perm;    // (n)
  void *out;
};
/* grad_x[i] = grad_out[i] outside box[i], plus the transpose of that for every j with perm[j] = i. */
struct sumix_mix_resize_backward_args {
  enum sumix_dtype dtype;
  struct sumix_layout layout;
  const void *grad_out;
  const int64_t *box, *resize, *perm;
  void *grad_x;
};
/* mix_resize, or with resize NULL mix_box, in place. */
struct sumix_mix_inplace_args {
  enum sumix_dtype dtype;
  struct sumix_layout layout;
  int64_t element;
  void *x;
  const int64_t *box, *resize, *perm;
};

/* out[i] = (mixed[i] / 255 - mean) / std, channel by channel, where mixed[i] is x[i] with its box filled as in
 * mix_resize, and of that, by the mask, the weighted mean with x[perm[i]]; none of it rounded to 8 bits in between. */
struct sumix_mix_normalize_args {
  enum sumix_dtype dtype;      // of out: float32, float16 or bfloat16
  struct sumix_layout layout;  // of x: a pixel of one channel, or of all of them
  int64_t channels;            // of an image
  const uint8_t *x;
  const int64_t *box, *resize;  // (n, 4), (n), or NULL: no box, no resizing
  struct sumix_mask mask;       // values NULL: no mask
  const int64_t *perm;          // (n)
  const float *mean, *std;      // (channels), for images from 0 to 1
  void *out;                    // as x
};

/* soft[i] = smoothing / k everywhere, plus (1 - smoothing) lam[i] at y_a[i] and (1 - smoothing) (1 - lam[i]) at y_b[i].
 */
struct sumix_soft_labels_args {
  int64_t n, k;
  const int64_t *y_a, *y_b;  // (n)
  const float *lam;          // (n)
  double smoothing;
  float *soft;  // (n, k)
};

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

/* Fine-grained static saliency of each image, and where it is highest. Images that are not uint8 are brought to 8 bits:
 * 255 (std x + mean), or where mean is NULL from each image's own minimum and maximum. */
struct sumix_saliency_args {
  enum sumix_dtype dtype;  // uint8 or floating point
  int64_t n, channels, height, width;
  bool channels_last;       // x is (n, height, width, channels)
  bool bgr;                 // blue is the first of three channels; else red
  const void *x;            // (n, channels, height, width), 1 or 3 channels
  const float *mean, *std;  // (channels), or NULL
  uint8_t *map;             // (n, height, width), or NULL
  int64_t *peak;            // (n, 2): x, y, the first in row-major order; or NULL
};

/* X(name): the kernel sumix_<name>, which takes struct sumix_<name>_args. */
#define SUMIX_KERNELS(X)                                                                                               \
  X(sample_lam)                                                                                                        \
  X(sample_perm)                                                                                                       \
  X(sample_box)                                                                                                        \
  X(cut_box)                                                                                                           \
  X(sample_uniform)                                                                                                    \
  X(sample_normal)                                                                                                     \
  X(sample_seed)                                                                                                       \
  X(uncertainty)                                                                                                       \
  X(uncertainty_backward)                                                                                              \
  X(semantic_distance)                                                                                                 \
  X(sample_top_k)                                                                                                      \
  X(mask_top_k)                                                                                                        \
  X(loss)                                                                                                              \
  X(loss_backward)                                                                                                     \
  X(masked_similarity)                                                                                                 \
  X(mix_box)                                                                                                           \
  X(mix_box_backward)                                                                                                  \
  X(mix_linear)                                                                                                        \
  X(mix_linear_backward)                                                                                               \
  X(soft_labels)                                                                                                       \
  X(saliency)                                                                                                          \
  X(mix_mask)                                                                                                          \
  X(mix_mask_backward)                                                                                                 \
  X(mix_resize)                                                                                                        \
  X(mix_resize_backward)                                                                                               \
  X(mix_inplace)                                                                                                       \
  X(mix_normalize)

/* The CPU kernels in use: those of the best instruction set that this processor has. */
struct sumix_cpu_kernels {
  const char *isa;
#define SUMIX_KERNEL_MEMBER(name) int (*name)(const struct sumix_##name##_args *args, struct sumix_status *status);
  SUMIX_KERNELS(SUMIX_KERNEL_MEMBER)
#undef SUMIX_KERNEL_MEMBER
};
extern struct sumix_cpu_kernels sumix_cpu;

/* Fills sumix_cpu. wanted: the name of an instruction set, or NULL for the best. Returns 0, or -1 if it is not to be
 * had. */
int sumix_cpu_choose(const char *wanted, struct sumix_status *status);

#endif
