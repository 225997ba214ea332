/* Foreground evidence by two means on CUDA: the formulas of csrc/cpu/foreground.c, a block an image, in one launch.
 *
 *   s from the last map (evidence.cuh), upsampled to the places of the finer one; then each round, with w = s / max s
 *     a = sum w F / sum w, b = sum (1 - w) F / sum (1 - w), s_p = max(0, (F_p - (a + b) / 2) . (a - b))
 *
 * A round reads F from device memory once: n places d elements, 205 MB for 256 float32 maps of 1024 x 14 x 14, beside
 * the 103 MB of the last maps. A channel's two means are needed by its own products alone, so up to 256 places (128
 * of float64) of a channel that is outermost stay in a warp's registers in between. All others come from the L1 or L2 cache the second
 * time, as in evidence.cuh. The weights of up to 4000 places lie in shared memory; s grows in the result.
 *
 * The gate needs mu, the mean over all images where none is given: then a second launch, of a block for 16 images.
 * Each of its blocks reads all means, n d reals, 1 MB for 256 images of 1024 channels, from the L2 cache, which costs
 * less than a third launch or a fence between blocks would.
 *
 * Sums have an order that does not depend on the grid.
 */
#include "../foreground.h"
#include "evidence.cuh"

namespace
{

enum {
  IN_SHARED = (int)SUMIX_FOREGROUND_IN_SHARED,  // places whose weights shared memory holds
  COARSE = 2 * (int)LANES,                      // places of a coarse map's channel that a warp holds
  GATE_CHANNELS = 4 * (int)LANES                // of mu at a time
};

/* ---- Where things lie in scratch ---- */

__device__ inline double *evidence_of(const struct sumix_foreground_args &a, int64_t i)
{
  return (double *)a.scratch + i * a.coarse.places;
}

template <typename real> __device__ real *weights_of(const struct sumix_foreground_args &a, int64_t i)
{
  if (a.fine.places <= IN_SHARED) return (real *)SUMIX_DYNAMIC_SHARED();
  return (real *)((double *)a.scratch + a.n * a.coarse.places) + i * a.fine.places;
}

/* (n): |a - b|^2; behind it (n, d): (a + b) / 2. */
__device__ inline double *apart_of(const struct sumix_foreground_args &a)
{
  const int64_t weights = a.fine.places <= IN_SHARED ? 0 : a.fine.places;
  return (double *)a.scratch + a.n * (a.coarse.places + weights);
}

/* ---- A round ---- */

/* What a thread knows of its image's round: 1 / sum w, 1 / sum (1 - w), 1 / places; and what it has added up of
 * |a - b|^2 and |(a + b) / 2 - mu|^2. */
template <typename real> struct image_round {
  real own, rest, all;
  bool first;
  double apart, off;
};

/* a - b, and (a + b) / 2, which may be relative to an origin. */
template <typename real> struct two_means {
  real apart, middle;
};

/* From a channel's sums, by both weights, of differences from an origin. */
template <typename real>
__device__ struct two_means<real> means_of(const struct image_round<real> &round, real own, real rest)
{
  const real object = own * round.own, other = rest * round.rest;
  const struct two_means<real> means = {object - other, (object + other) / 2};
  return means;
}

/* What the first round keeps of channel c, by one thread. sum: of differences over all places. */
template <typename real> __device__ void keep(const struct sumix_foreground_args &a, int64_t i, int64_t c,
                                              struct image_round<real> *round, const struct two_means<real> &means,
                                              real origin, real sum)
{
  if (!round->first) return;
  const real middle = origin + means.middle;
  ((real *)a.means)[i * a.fine.d + c] = origin + sum * round->all;
  round->apart += (double)means.apart * (double)means.apart;
  if (a.mean == NULL) {
    ((real *)(apart_of(a) + a.n))[i * a.fine.d + c] = middle;
  } else {
    const double from = (double)middle - (double)((const real *)a.mean)[c];
    round->off += from * from;
  }
}

/* Where channels are outermost, for up to MOST places: a warp a channel, which it holds, two at a time. */
template <typename element_type> struct few_places {
  typedef element_type element;
  typedef typename sumix_compute<element>::real real;
  enum { CHANNELS = 2, HELD = 32 / sizeof(real), MOST = HELD * (int)LANES, WORK = MOST * (int)WARPS };

  __device__ static void run(const struct sumix_foreground_args &a, int64_t i, const real *weight, real *sums, real *s,
                             struct image_round<real> *round)
  {
    const int64_t d = a.fine.d;
    const int places = (int)a.fine.places, warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const element *const map = (const element *)a.fine.data + i * a.fine.stride;
    real w[HELD], sum[HELD];
    for (int k = 0; k < HELD; k++) {
      w[k] = k * LANES + lane < places ? weight[k * LANES + lane] : 0;
      sum[k] = 0;
    }
    for (int64_t first = warp * CHANNELS; first < d; first += (int)WARPS * CHANNELS) {
      real x[CHANNELS][HELD];
#pragma unroll
      for (int c = 0; c < CHANNELS; c++)
#pragma unroll
        for (int k = 0; k < HELD; k++) {
          const int p = k * LANES + lane;
          x[c][k] = first + c < d && p < places ? sumix_to_real(map[(first + c) * places + p]) : 0;
        }
#pragma unroll
      for (int c = 0; c < CHANNELS; c++) {
        const real origin = __shfl_sync(~0u, x[c][0], 0);
        real own = 0, rest = 0;
#pragma unroll
        for (int k = 0; k < HELD; k++) {
          x[c][k] = k * LANES + lane < places ? x[c][k] - origin : 0;
          own += w[k] * x[c][k];
          rest += (1 - w[k]) * x[c][k];
        }
        own = sumix_warp_reduce(own, sumix_sum());
        rest = sumix_warp_reduce(rest, sumix_sum());
        const struct two_means<real> means = means_of(*round, own, rest);
#pragma unroll
        for (int k = 0; k < HELD; k++) sum[k] += means.apart * (x[c][k] - means.middle);
        if (lane == 0 && first + c < d) keep(a, i, first + c, round, means, origin, own + rest);
      }
    }
    for (int k = 0; k < HELD; k++) sums[(warp * HELD + k) * LANES + lane] = sum[k];
    add_warps(sums, MOST, places);
    for (int p = threadIdx.x; p < places; p += THREADS) s[p] = sums[p];
  }
};

/* The same for any number of places: the means of a chunk of channels, a warp a channel; then their products, a thread
 * a place, from the cache. */
template <typename element_type> struct many_places {
  typedef element_type element;
  typedef typename sumix_compute<element>::real real;
  enum { WORK = 2 * CHUNK };

  __device__ static void run(const struct sumix_foreground_args &a, int64_t i, const real *weight, real *apart, real *s,
                             struct image_round<real> *round)
  {
    const int64_t places = a.fine.places;
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const element *const map = (const element *)a.fine.data + i * a.fine.stride;
    real *const middle = apart + CHUNK;
    for (int64_t p = threadIdx.x; p < places; p += THREADS) s[p] = 0;
    for (int64_t first = 0; first < a.fine.d; first += CHUNK) {
      const int count = a.fine.d - first < CHUNK ? (int)(a.fine.d - first) : (int)CHUNK;
      for (int c = warp; c < count; c += WARPS) {
        const element *const channel = map + (first + c) * places;
        const real origin = sumix_to_real(channel[0]);
        real own = 0, rest = 0;
#pragma unroll 4
        for (int64_t p = lane; p < places; p += LANES) {
          const real x = sumix_to_real(channel[p]) - origin, w = weight[p];
          own += w * x;
          rest += (1 - w) * x;
        }
        own = sumix_warp_reduce(own, sumix_sum());
        rest = sumix_warp_reduce(rest, sumix_sum());
        if (lane > 0) continue;
        const struct two_means<real> means = means_of(*round, own, rest);
        keep(a, i, first + c, round, means, origin, own + rest);
        apart[c] = means.apart;
        middle[c] = origin + means.middle;
      }
      __syncthreads();
      for (int64_t p = threadIdx.x; p < places; p += THREADS) {
        real sum = s[p];
#pragma unroll 4
        for (int c = 0; c < count; c++) sum += apart[c] * (sumix_to_real(map[(first + c) * places + p]) - middle[c]);
        s[p] = sum;
      }
      __syncthreads();
    }
  }
};

/* Where channels are innermost: `width` of them a lane, places shared by the warps. */
template <typename element_type, int width> struct channels_last {
  typedef element_type element;
  typedef typename sumix_compute<element>::real real;
  typedef sumix_vector<element, width> vector;
  typedef sumix_vector<real, width> reals;
  enum { WORK = WARPS * LANES * width };

  __device__ static void run(const struct sumix_foreground_args &a, int64_t i, const real *weight, real *work, real *s,
                             struct image_round<real> *round)
  {
    const int64_t places = a.fine.places, d = a.fine.d;
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const element *const map = (const element *)a.fine.data + i * a.fine.stride;
    for (int64_t first = 0; first < d; first += LANES * width) {
      const int64_t c = first + lane * width;
      const bool inside = c < d;
      reals origin, own, rest;
      vector x;
      if (inside) x = *(const vector *)&map[c];
#pragma unroll
      for (int j = 0; j < width; j++) {
        origin.at[j] = inside ? sumix_to_real(x.at[j]) : 0;
        own.at[j] = rest.at[j] = 0;
      }
      for (int64_t p = warp; p < places && inside; p += WARPS) {
        x = *(const vector *)&map[p * d + c];
        const real w = weight[p];
#pragma unroll
        for (int j = 0; j < width; j++) {
          const real from = sumix_to_real(x.at[j]) - origin.at[j];
          own.at[j] += w * from;
          rest.at[j] += (1 - w) * from;
        }
      }
      own = sum_of_warps<width>(own, (reals *)work);
      rest = sum_of_warps<width>(rest, (reals *)work);
#pragma unroll
      for (int j = 0; j < width; j++) {
        const struct two_means<real> means = means_of(*round, own.at[j], rest.at[j]);
        if (warp == 0 && inside) keep(a, i, c + j, round, means, origin.at[j], own.at[j] + rest.at[j]);
        own.at[j] = means.apart;
        rest.at[j] = origin.at[j] + means.middle;
      }
      for (int64_t p = warp; p < places; p += WARPS) {
        real sum = 0;
        if (inside) {
          x = *(const vector *)&map[p * d + c];
#pragma unroll
          for (int j = 0; j < width; j++) sum += own.at[j] * (sumix_to_real(x.at[j]) - rest.at[j]);
        }
        sum = sumix_warp_reduce(sum, sumix_sum());
        if (lane == 0) s[p] = first == 0 ? sum : s[p] + sum;
      }
    }
  }
};

/* From s to weights and their sums. Returns 1 if there are both kinds of places, 0 if not, or NaN if s is not finite;
 * for these two all weights are 0. Every thread gets the same, and goes on when all weights are there. */
template <typename real>
__device__ real weigh(const real *s, int64_t places, real *weight, struct image_round<real> *round, double *scratch)
{
  double most = 0, total = 0, own = 0, rest = 0;
  for (int64_t p = threadIdx.x; p < places; p += THREADS) {
    most = s[p] > most ? s[p] : most;
    total += s[p];
  }
  most = sumix_block_reduce(most, sumix_max(), scratch);
  total = sumix_block_reduce(total, sumix_sum(), scratch);
  for (int64_t p = threadIdx.x; p < places; p += THREADS) {
    const real w = total == 0 ? 0 : s[p] / (real)most;
    weight[p] = w;
    own += w;
    rest += 1 - w;
  }
  own = sumix_block_reduce(own, sumix_sum(), scratch);
  rest = sumix_block_reduce(rest, sumix_sum(), scratch);
  const real kinds = (real)(own - own) + (own != 0 && rest != 0 ? 1 : 0);
  if (kinds != 1) {
    for (int64_t p = threadIdx.x; p < places; p += THREADS) weight[p] = 0;
    __syncthreads();
  }
  round->own = kinds == 1 ? (real)(1 / own) : 0;
  round->rest = kinds == 1 ? (real)(1 / rest) : 0;
  return kinds;
}

/* What stands out in the coarse map, at the finer one's places: s, each thread its own. `weight`, where the sums grow,
 * has room for the coarse places too. */
template <typename element, typename real> __device__ void stand_out_finer(const struct sumix_foreground_args &a,
                                                                           int64_t i, bool vectored, real *work,
                                                                           real *weight, real *s, double *scratch)
{
  enum { WIDTH = 16 / sizeof(element) };
  const real *const none = NULL;
  const real *sums = weight;
  real squares;
  if (a.coarse.channels_last && vectored) {
    squares = sum_channels_last<WIDTH, element>(a.coarse, i, none, (sumix_vector<real, WIDTH> *)work, weight);
  } else if (a.coarse.channels_last) {
    squares = sum_channels_last<1, element>(a.coarse, i, none, (sumix_vector<real, 1> *)work, weight);
  } else if (a.coarse.places <= COARSE) {
    squares = sum_few_places<(int)COARSE / LANES, 4, element>(a.coarse, i, none, work);
    sums = work;
  } else {
    squares = sum_many_places<element>(a.coarse, i, none, work, weight);
  }
  double *const evidence = evidence_of(a, i);
  stand_out(sums, a.coarse.places, a.coarse.places, false, squares, a.min_contrast, evidence, scratch);
  __syncthreads();
  for (int64_t p = threadIdx.x; p < a.fine.places; p += THREADS)
    s[p] = (real)sumix_upsampled(evidence, a.h, a.w, a.fine_h, a.fine_w, p);
}

/* vectored: vectors of 16 bytes can be read along the channels of the coarse map. */
template <typename layout> __device__ void find(const struct sumix_foreground_args &a, bool vectored)
{
  typedef typename layout::element element;
  typedef typename layout::real real;
  enum {
    COARSE_WORK = WARPS * LANES * (16 / (int)sizeof(element)),  // at least two a lane
    WORK = (int)layout::WORK > (int)COARSE_WORK ? (int)layout::WORK : (int)COARSE_WORK
  };
  __shared__ sumix_vector<real, 8> room[WORK / 8];  // vectors of all widths fit in
  __shared__ double scratch[SUMIX_WARP];
  real *const work = (real *)room;
  const int64_t places = a.fine.places;
  for (int64_t i = blockIdx.x; i < a.n; i += gridDim.x) {
    real *const s = (real *)a.map + i * places, *const weight = weights_of<real>(a, i);
    struct image_round<real> round = {0, 0, 1 / (real)places, true, 0, 0};
    stand_out_finer<element>(a, i, vectored, work, weight, s, scratch);
    real kinds = 1;
    for (int64_t t = 0; t < a.rounds && kinds == 1; t++) {
      kinds = weigh(s, places, weight, &round, scratch);
      if (kinds != 1 && t > 0) break;  // the first round takes the means of whatever there is
      layout::run(a, i, weight, work, s, &round);
      round.first = false;
      __syncthreads();
      for (int64_t p = threadIdx.x; p < places; p += THREADS) s[p] = s[p] < 0 ? 0 : s[p];  // NaN stays
      if (t > 0) continue;
      double apart = sumix_block_reduce(round.apart, sumix_sum(), scratch);
      const double off = sumix_block_reduce(round.off, sumix_sum(), scratch);
      if (kinds != 1) apart = kinds;
      if (threadIdx.x > 0) continue;
      if (a.mean == NULL)
        apart_of(a)[i] = apart;
      else
        ((real *)a.gate)[i] = (real)sumix_gate(apart, off, a.low, a.high);
    }
    for (int64_t p = threadIdx.x; p < places && kinds != 1; p += THREADS) s[p] = kinds;
    __syncthreads();
  }
}

template <typename element> __global__ void __launch_bounds__(THREADS, 1)
    foreground_few_places(const struct sumix_foreground_args a, bool vectored)
{
  find<few_places<element>>(a, vectored);
}

template <typename element> __global__ void __launch_bounds__(THREADS, 1)
    foreground_many_places(const struct sumix_foreground_args a, bool vectored)
{
  find<many_places<element>>(a, vectored);
}

template <typename element, int width> __global__ void __launch_bounds__(THREADS, 1)
    foreground_channels_last(const struct sumix_foreground_args a, bool vectored)
{
  find<channels_last<element, width>>(a, vectored);
}

/* ---- The gate, where mu is the mean over the batch ---- */

/* A block the gates of WARPS images, one a warp; each block forms mu, GATE_CHANNELS channels at a time. */
template <typename real> __global__ void __launch_bounds__(THREADS, 1)
    foreground_gates(const struct sumix_foreground_args a)
{
  enum { EACH = (int)GATE_CHANNELS / LANES };
  __shared__ double sums[WARPS][GATE_CHANNELS];
  const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  const int64_t d = a.fine.d;
  const real *const means = (const real *)a.means, *const middles = (const real *)(apart_of(a) + a.n);
  for (int64_t start = blockIdx.x * (int64_t)WARPS; start < a.n; start += gridDim.x * (int64_t)WARPS) {
    const int64_t i = start + warp;
    double off = 0;
    for (int64_t first = 0; first < d; first += GATE_CHANNELS) {
      double own[EACH];
      for (int k = 0; k < EACH; k++) own[k] = 0;
#pragma unroll 2
      for (int64_t j = warp; j < a.n; j += WARPS)
#pragma unroll
        for (int k = 0; k < EACH; k++) {
          const int64_t c = first + k * LANES + lane;
          own[k] += c < d ? means[j * d + c] : 0;
        }
      for (int k = 0; k < EACH; k++) sums[warp][k * LANES + lane] = own[k];
      __syncthreads();
      for (int k = 0; k < EACH; k++) {
        const int64_t c = first + k * LANES + lane;
        double mu = 0;
        for (int w = 0; w < WARPS; w++) mu += sums[w][k * LANES + lane];
        const double from = i < a.n && c < d ? middles[i * d + c] - mu / (double)a.n : 0;
        off += from * from;
      }
      __syncthreads();
    }
    off = sumix_warp_reduce(off, sumix_sum());
    if (lane == 0 && i < a.n) ((real *)a.gate)[i] = (real)sumix_gate(apart_of(a)[i], off, a.low, a.high);
  }
}

/* ---- Launches ---- */

struct foreground {
  template <typename element> static void run(const struct sumix_foreground_args *a, void *stream)
  {
    typedef typename sumix_compute<element>::real real;
    enum { WIDTH = 16 / sizeof(element) };
    const size_t in_shared = a->fine.places <= IN_SHARED ? (size_t)a->fine.places * sizeof(real) : 0;
    const unsigned grid = sumix_grid(a->n, 1);
    const bool vectored = is_vectored<element>(&a->coarse);
    if (a->fine.channels_last && is_vectored<element>(&a->fine))
      SUMIX_LAUNCH((foreground_channels_last<element, WIDTH>), grid, THREADS, in_shared, stream, *a, vectored);
    else if (a->fine.channels_last)
      SUMIX_LAUNCH((foreground_channels_last<element, 1>), grid, THREADS, in_shared, stream, *a, vectored);
    else if (a->fine.places <= few_places<element>::MOST)
      SUMIX_LAUNCH(foreground_few_places<element>, grid, THREADS, in_shared, stream, *a, vectored);
    else
      SUMIX_LAUNCH(foreground_many_places<element>, grid, THREADS, in_shared, stream, *a, vectored);
    if (a->mean == NULL) SUMIX_LAUNCH(foreground_gates<real>, sumix_grid(a->n, WARPS), THREADS, 0, stream, *a);
  }
};

}  // namespace

extern "C" int sumix_foreground_cuda(const struct sumix_foreground_args *a, void *stream)
{
  if (a->n == 0) return 0;
  sumix_by_floating<foreground>(a->fine.dtype, a, stream);
  return (int)cudaGetLastError();
}
