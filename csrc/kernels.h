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

/* The box of CutMix: sides floor(height sqrt(share)), floor(width sqrt(share)) about the pixel at floor(centre * size),
 * half sides by integer division, clipped to the image. Spanning the height: side floor(width share), all rows. lam is
 * what is left of the image, 1 - area / (height width). */
struct sumix_cut_box_args {
  int64_t n, height, width;
  bool full_height;
  const double *share;   // (n), 0 to 1
  const double *centre;  // (n, 2): x, y, in [0, 1)
  int64_t *box;          // (n, 4)
  float *lam;            // (n)
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

/* X(name): the kernel sumix_<name>, which takes struct sumix_<name>_args. */
#define SUMIX_KERNELS(X)                                                                                               \
  X(uncertainty)                                                                                                       \
  X(uncertainty_backward)                                                                                              \
  X(semantic_distance)                                                                                                 \
  X(loss)                                                                                                              \
  X(loss_backward)                                                                                                     \
  X(masked_similarity)                                                                                                 \
  X(mix_box)                                                                                                           \
  X(mix_box_backward)                                                                                                  \
  X(mix_linear)                                                                                                        \
  X(mix_linear_backward)                                                                                               \
  X(cut_box)                                                                                                           \
  X(soft_labels)

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
