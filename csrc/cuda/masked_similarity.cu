/* Mask-aware feature similarity on CUDA: the formulas of csrc/cpu/masked_similarity.c, a block an image, two launches.
 *
 *   evidence   s_p = max(0, f_p . g - mean_q f_q . g), or max(0, w_y . f_p), at each place p of each image
 *   shares     visible_a = sum M s / sum s, visible_b = sum (1 - M) s' / sum s', gated, and the labels' weights
 *
 * Two launches, because an image's evidence serves two samples, its own and the one that it was pasted into: n h w
 * doubles in scratch, 0.1 MB for 256 maps of 7 x 7, instead of a second read of the map. Maps are read from device
 * memory once (evidence.cuh): n places d elements, 103 MB for 256 float32 maps of 2048 x 7 x 7.
 *
 * The second launch reads masks once (13 to 51 MB for 256 of 224 x 224; cells that share a pixel both read it), no more
 * lanes to a cell than it has columns, and of an object mask or a box nothing but the cells.
 *
 * Sums of places are formed in double, in one order for numerator and denominator, which does not depend on the grid.
 */
#include "../masked_similarity.h"
#include "evidence.cuh"

namespace
{

enum {
  SHARE_THREADS = 256,
  IN_SHARED = (int)SUMIX_MASKED_SIMILARITY_IN_SHARED  // places whose sums shared memory holds
};

__device__ inline const double *evidence_of(const struct sumix_masked_similarity_args &a, int64_t i)
{
  return (const double *)a.scratch + i * a.h * a.w;
}

/* The classifier's row for image i; NULL if it has no label. */
template <typename real> __device__ const real *class_of(const struct sumix_masked_similarity_args &a, int64_t i)
{
  assert(a.labels[i] >= -1 && a.labels[i] < a.k && "labels are out of range");
  return a.labels[i] < 0 ? NULL : (const real *)a.class_weight + a.labels[i] * a.d;
}

/* ---- Evidence ---- */

static inline SUMIX_HD struct sumix_map map_of(const struct sumix_masked_similarity_args &a)
{
  const struct sumix_map map = {a.features, a.stride, a.d, a.frames * a.h * a.w, a.dtype, a.channels_last};
  return map;
}

template <typename real> __device__ void set_evidence(const struct sumix_masked_similarity_args &a, int64_t i,
                                                      const real *sums, real squares, double *scratch)
{
  const int64_t cells = a.h * a.w;
  stand_out(sums, a.frames * cells, cells, a.evidence == SUMIX_EVIDENCE_CAM, squares, a.min_contrast,
            (double *)a.scratch + i * cells, scratch);
  __syncthreads();
}

__device__ inline void no_evidence(const struct sumix_masked_similarity_args &a, int64_t i)
{
  double *const evidence = (double *)a.scratch + i * a.h * a.w;
  for (int64_t cell = threadIdx.x; cell < a.h * a.w; cell += THREADS) evidence[cell] = 0;
}

/* Where the sums of an image's places go while they grow. */
template <typename real> __device__ real *sums_of(const struct sumix_masked_similarity_args &a, int64_t i)
{
  const int64_t places = a.frames * a.h * a.w;
  if (places <= IN_SHARED) return (real *)SUMIX_DYNAMIC_SHARED();
  return (real *)((double *)a.scratch + a.n * a.h * a.w) + i * places;
}

template <typename element, int held, int channels> __global__ void __launch_bounds__(THREADS, 1)
    masked_similarity_few_places(const struct sumix_masked_similarity_args a)
{
  typedef typename sumix_compute<element>::real real;
  __shared__ real sums[WARPS * held * LANES];
  __shared__ double scratch[SUMIX_WARP];
  const bool cam = a.evidence == SUMIX_EVIDENCE_CAM;
  for (int64_t i = blockIdx.x; i < a.n; i += gridDim.x) {
    const real *const weight = cam ? class_of<real>(a, i) : NULL;
    if (cam && weight == NULL) {
      no_evidence(a, i);
      continue;
    }
    const real squares = sum_few_places<held, channels, element>(map_of(a), i, weight, sums);
    set_evidence(a, i, sums, squares, scratch);
  }
}

template <typename element> __global__ void __launch_bounds__(THREADS, 1)
    masked_similarity_many_places(const struct sumix_masked_similarity_args a)
{
  typedef typename sumix_compute<element>::real real;
  __shared__ real g[CHUNK];
  __shared__ double scratch[SUMIX_WARP];
  const bool cam = a.evidence == SUMIX_EVIDENCE_CAM;
  for (int64_t i = blockIdx.x; i < a.n; i += gridDim.x) {
    const real *const weight = cam ? class_of<real>(a, i) : NULL;
    if (cam && weight == NULL) {
      no_evidence(a, i);
      continue;
    }
    real *const sums = sums_of<real>(a, i);
    const real squares = sum_many_places<element>(map_of(a), i, weight, g, sums);
    set_evidence(a, i, sums, squares, scratch);
  }
}

template <typename element, int width> __global__ void __launch_bounds__(THREADS, 1)
    masked_similarity_channels_last(const struct sumix_masked_similarity_args a)
{
  typedef typename sumix_compute<element>::real real;
  __shared__ sumix_vector<real, width> partial[WARPS * LANES];
  __shared__ double scratch[SUMIX_WARP];
  const bool cam = a.evidence == SUMIX_EVIDENCE_CAM;
  for (int64_t i = blockIdx.x; i < a.n; i += gridDim.x) {
    const real *const weight = cam ? class_of<real>(a, i) : NULL;
    if (cam && weight == NULL) {
      no_evidence(a, i);
      continue;
    }
    real *const sums = sums_of<real>(a, i);
    const real squares = sum_channels_last<width, element>(map_of(a), i, weight, partial, sums);
    set_evidence(a, i, sums, squares, scratch);
  }
}

/* ---- Shares ---- */

__device__ inline double mask_at(const struct sumix_masked_similarity_args &a, int64_t at)
{
  if (a.mask_dtype == SUMIX_UINT8) {
    const uint8_t value = ((const uint8_t *)a.mask)[at];
    assert(value <= 1 && "mask is not 0 or 1");
    return value;
  }
  const float value = ((const float *)a.mask)[at];
  assert(value >= 0 && value <= 1 && "mask is not within 0 to 1");
  return value;
}

/* A lane's part of M of cell (y, x) of sample i, outside the box: every `lanes`th of its columns. */
__device__ inline double mask_part(const struct sumix_masked_similarity_args &a, int64_t i, int64_t y, int64_t x,
                                   const int64_t *box, int lane, int lanes)
{
  const int64_t last_row = sumix_cell_end(y, a.h, a.height), last_column = sumix_cell_end(x, a.w, a.width);
  double sum = 0;
  for (int64_t c = sumix_cell_first(x, a.w, a.width) + lane; c < last_column; c += lanes) {
    const bool crosses = c >= box[0] && c < box[2];
    double down = 0;
#pragma unroll 4
    for (int64_t r = sumix_cell_first(y, a.h, a.height); r < last_row; r++)
      if (!crosses || r < box[1] || r >= box[3])
        down += sumix_cell_overlap(y, a.h, a.height, r, r + 1) * mask_at(a, (i * a.height + r) * a.width + c);
    sum += sumix_cell_overlap(x, a.w, a.width, c, c + 1) * down;
  }
  return sum;
}

template <typename element>
__device__ double evidence_at(const struct sumix_masked_similarity_args &a, int64_t i, int64_t cell)
{
  if (a.evidence != SUMIX_EVIDENCE_OBJECT) return evidence_of(a, i)[cell];
  const double s = sumix_to_real(((const element *)a.features)[i * a.stride + cell]);
  assert(!(s < 0) && "objects are below 0");
  return s;
}

template <typename real> __device__ double gate_of(const struct sumix_masked_similarity_args &a, int64_t i)
{
  if (a.gate == NULL) return 1;
  const double gate = ((const real *)a.gate)[i];
  assert(!(gate < 0 || gate > 1) && "gate is not within 0 to 1");  // NaN of maps that are not finite
  return gate;
}

/* lanes: that share a cell, a power of two. */
template <typename element> __global__ void __launch_bounds__(SHARE_THREADS, 1)
    masked_similarity_shares(const struct sumix_masked_similarity_args a, int lanes)
{
  typedef typename sumix_compute<element>::real real;
  __shared__ double scratch[SUMIX_WARP];
  const int64_t cells = a.h * a.w;
  const double area = (double)a.height * (double)a.width;
  const bool massive = a.rule == SUMIX_RULE_ABSOLUTE;  // asks for the sums of the evidence, whatever M is
  for (int64_t i = blockIdx.x; i < a.n; i += gridDim.x) {
    const int64_t partner = a.perm[i];
    const real lam = ((const real *)a.lam)[i];
    assert(partner >= 0 && partner < a.n && "perm is out of range");
    assert(lam >= 0 && lam <= 1 && "lam is not within 0 to 1");
    const double gate = gate_of<real>(a, i), partner_gate = gate_of<real>(a, partner);
    if (a.evidence == SUMIX_EVIDENCE_CAM) class_of<real>(a, i);
    int64_t box[4];
    for (int t = 0; t < 4; t++) box[t] = a.box != NULL ? a.box[4 * i + t] : 0;
    assert(0 <= box[0] && box[0] <= box[2] && box[2] <= a.width && 0 <= box[1] && box[1] <= box[3] &&
           box[3] <= a.height && "box is out of range");
    const int64_t resize = a.resize != NULL ? a.resize[i] : 0;
    assert(resize >= 0 && resize <= 3 && "resize is out of range");

    const bool pasted = box[0] < box[2] && box[1] < box[3], masked = a.mask != NULL && !a.mask_is_constant;
    if (!pasted) box[0] = box[1] = box[2] = box[3] = 0;
    double value = a.box != NULL ? 1 : lam;  // that is kept everywhere outside the box, unless a mask says it
    if (a.mask != NULL && !masked) value = mask_at(a, i);

    double least = INFINITY, most = -(double)INFINITY;
    double sums[6] = {0, 0, 0, 0, 0, 0};  // of M s, s, M; and for the partner of (1 - M) s', s', 1 - M
    for (int64_t first = 0; first < cells; first += SHARE_THREADS / lanes) {
      const int64_t cell = first + threadIdx.x / lanes, y = cell / a.w, x = cell % a.w;
      const int lane = threadIdx.x % lanes;
      double m = value;
      if (masked) {
        m = cell < cells ? mask_part(a, i, y, x, box, lane, lanes) : 0;
        for (int offset = lanes / 2; offset > 0; offset /= 2) m += __shfl_xor_sync(~0u, m, offset);
        m = sumix_cell_share(m / area);
      } else if (pasted) {
        m = sumix_cell_outside(y, x, a.h, a.w, a.height, a.width, box, value);
      } else if (a.evidence != SUMIX_EVIDENCE_OBJECT && !massive) {
        break;  // the map, if there is one, does not matter
      }
      if (cell >= cells || lane > 0) continue;
      const double own = evidence_at<element>(a, i, cell), other = evidence_at<element>(a, partner, cell);
      least = sumix_min()(m, least), most = sumix_max()(m, most);
      sums[0] += m * own, sums[1] += own, sums[2] += m;
      sums[3] += (1 - m) * other, sums[4] += other, sums[5] += 1 - m;
    }
    struct sumix_visible visible = {value, 1 - value, 0, 0, value};
    if (masked || pasted || massive) {
      least = sumix_block_reduce(least, sumix_min(), scratch);
      most = sumix_block_reduce(most, sumix_max(), scratch);
#pragma unroll
      for (int t = 0; t < 6; t++) sums[t] = sumix_block_reduce(sums[t], sumix_sum(), scratch);
      visible.own = visible.area = least, visible.partner = 1 - least;
      visible.own_mass = sums[1], visible.partner_mass = sums[4];
      if (least != most) {
        visible.area = sums[2] / (double)cells;
        visible.own = sums[1] == 0 ? visible.area : sums[0] / sums[1];
        visible.partner = sums[4] == 0 ? sums[5] / (double)cells : sums[3] / sums[4];
        if (a.gate != NULL) {
          visible.own = sumix_gated(gate, visible.own, visible.area);
          visible.partner = sumix_gated(partner_gate, visible.partner, 1 - visible.area);
        }
      }
    }
    if (pasted && resize != 0) visible.partner = 1;
    if (threadIdx.x > 0) continue;
    const struct sumix_label_weights weights = sumix_weigh_labels(a.rule, &visible, a.area_weight, lam);
    ((real *)a.visible_a)[i] = (real)visible.own;
    ((real *)a.visible_b)[i] = (real)visible.partner;
    ((real *)a.ratio)[i] = (real)weights.ratio;
    ((real *)a.weights)[3 * i] = (real)weights.own;
    ((real *)a.weights)[3 * i + 1] = (real)weights.partner;
    ((real *)a.weights)[3 * i + 2] = (real)weights.rest;
  }
}

/* ---- Launches ---- */

template <typename element> void evidence(const struct sumix_masked_similarity_args *a, void *stream)
{
  typedef typename sumix_compute<element>::real real;
  enum { WIDTH = 16 / sizeof(element) };
  const int64_t places = a->frames * a->h * a->w;
  const size_t in_shared = places <= IN_SHARED ? (size_t)places * sizeof(real) : 0;
  const unsigned grid = sumix_grid(a->n, 1);
  const struct sumix_map map = map_of(*a);
  const bool aligned = is_vectored<element>(&map);
  if (a->channels_last && aligned)
    SUMIX_LAUNCH((masked_similarity_channels_last<element, WIDTH>), grid, THREADS, in_shared, stream, *a);
  else if (a->channels_last)
    SUMIX_LAUNCH((masked_similarity_channels_last<element, 1>), grid, THREADS, in_shared, stream, *a);
  else if (places <= 2 * LANES)
    SUMIX_LAUNCH((masked_similarity_few_places<element, 2, 4>), grid, THREADS, 0, stream, *a);
  else if (places <= 8 * LANES)
    SUMIX_LAUNCH((masked_similarity_few_places<element, 8, 2>), grid, THREADS, 0, stream, *a);
  else
    SUMIX_LAUNCH(masked_similarity_many_places<element>, grid, THREADS, in_shared, stream, *a);
}

struct similarity {
  template <typename element> static void run(const struct sumix_masked_similarity_args *a, void *stream)
  {
    if (sumix_masked_similarity_scratch(a) > 0) evidence<element>(a, stream);
    const bool masked = a->mask != NULL && !a->mask_is_constant;
    const int64_t columns = sumix_cell_end(0, a->w, a->width);
    int lanes = 1;  // that share a cell
    while (masked && lanes < LANES && lanes < columns) lanes *= 2;
    SUMIX_LAUNCH(masked_similarity_shares<element>, sumix_grid(a->n, 1), SHARE_THREADS, 0, stream, *a, lanes);
  }
};

}  // namespace

extern "C" int sumix_masked_similarity_cuda(const struct sumix_masked_similarity_args *a, void *stream)
{
  if (a->n == 0) return 0;
  sumix_by_floating<similarity>(a->dtype, a, stream);
  return (int)cudaGetLastError();
}
