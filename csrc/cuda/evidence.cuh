/* What stands out in a map on CUDA, a block an image, for masked_similarity.cu and foreground.cu:
 *
 *   s_p = max(0, f_p . g - mean_q f_q . g), or max(0, w_y . f_p), at each place p
 *
 * Maps are read from device memory once. A channel's mean is needed by its own products alone,
 *
 *   f_p . g - |g|^2 = sum over c of g_c (f[c, p] - g_c)
 *
 * and in between up to 256 places of a channel that is outermost stay in a warp's registers. All others come from the
 * L1 or L2 cache the second time: 32 channels of many places; or, where channels are innermost, 16 bytes a lane of all
 * places, of which each warp takes some.
 *
 * weight: the classifier's row, or NULL for g. The functions that sum return this thread's share of |g|^2.
 */
#ifndef SUMIX_CUDA_EVIDENCE_CUH
#define SUMIX_CUDA_EVIDENCE_CUH

#include "common.cuh"

namespace
{

enum {
  THREADS = 512,  // of an image: enough loads under way with two blocks a processor
  LANES = (int)SUMIX_WARP,
  WARPS = THREADS / LANES,
  CHUNK = 32  // channels of many places that are worked on at a time
};

/* sums[w][p] of all warps to sums[0][p]. */
template <typename real> __device__ void add_warps(real *sums, int row, int places)
{
  __syncthreads();
  for (int p = threadIdx.x; p < places; p += THREADS)
    for (int w = 1; w < WARPS; w++) sums[p] += sums[w * row + p];
  __syncthreads();
}

/* (d, places) of up to 32 held places: a warp a channel, a lane holding places lane, lane + 32, ... of each of
 * `channels` at a time. sums: shared, a row of held * 32 a warp; the first one is the result. */
template <int held, int channels, typename element, typename real>
__device__ real sum_few_places(const struct sumix_map &of, int64_t i, const real *weight, real *sums)
{
  const int64_t d = of.d;
  const int places = (int)of.places, warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  const element *const map = (const element *)of.data + i * of.stride;
  real sum[held], squares = 0;
  for (int k = 0; k < held; k++) sum[k] = 0;
  for (int64_t first = warp * channels; first < d; first += WARPS * channels) {
    real x[channels][held];
#pragma unroll
    for (int c = 0; c < channels; c++)
#pragma unroll
      for (int k = 0; k < held; k++) {
        const int p = k * LANES + lane;
        x[c][k] = first + c < d && p < places ? sumix_to_real(map[(first + c) * places + p]) : 0;
      }
#pragma unroll
    for (int c = 0; c < channels; c++) {
      real g = 0, origin = 0;
      if (weight != NULL) {
        g = first + c < d ? weight[first + c] : 0;
      } else {
#pragma unroll
        for (int k = 0; k < held; k++) g += x[c][k];
        g = origin = sumix_warp_reduce(g, sumix_sum()) / (real)places;
      }
#pragma unroll
      for (int k = 0; k < held; k++) sum[k] += g * (x[c][k] - origin);
      squares += g * g;
    }
  }
  for (int k = 0; k < held; k++) sums[(warp * held + k) * LANES + lane] = sum[k];
  add_warps(sums, held * LANES, places);
  return lane == 0 ? squares : 0;
}

/* (d, places) of any number of places: the means of a chunk of channels, a warp a channel; then their products, a
 * thread a place, from the cache. g: shared, CHUNK. */
template <typename element, typename real>
__device__ real sum_many_places(const struct sumix_map &of, int64_t i, const real *weight, real *g, real *sums)
{
  const int64_t places = of.places;
  const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  const bool cam = weight != NULL;
  const element *const map = (const element *)of.data + i * of.stride;
  real squares = 0;
  for (int64_t p = threadIdx.x; p < places; p += THREADS) sums[p] = 0;
  for (int64_t first = 0; first < of.d; first += CHUNK) {
    const int count = of.d - first < CHUNK ? (int)(of.d - first) : (int)CHUNK;
    for (int c = warp; c < count; c += WARPS) {
      real mean = 0;
      for (int64_t p = lane; p < places && !cam; p += LANES) mean += sumix_to_real(map[(first + c) * places + p]);
      mean = cam ? weight[first + c] : sumix_warp_reduce(mean, sumix_sum()) / (real)places;
      if (lane == 0) g[c] = mean, squares += mean * mean;
    }
    __syncthreads();
    for (int64_t p = threadIdx.x; p < places; p += THREADS) {
      real sum = sums[p];
#pragma unroll 4
      for (int c = 0; c < count; c++) sum += g[c] * (sumix_to_real(map[(first + c) * places + p]) - (cam ? 0 : g[c]));
      sums[p] = sum;
    }
    __syncthreads();
  }
  return squares;
}

/* The sum over all warps of what each lane has `width` of. partial: shared, a row of 32 vectors a warp. */
template <int width, typename real>
__device__ sumix_vector<real, width> sum_of_warps(const sumix_vector<real, width> &own,
                                                  sumix_vector<real, width> *partial)
{
  const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  partial[warp * LANES + lane] = own;
  __syncthreads();
  sumix_vector<real, width> sum = partial[lane];
  for (int w = 1; w < WARPS; w++) {
    const sumix_vector<real, width> more = partial[w * LANES + lane];
#pragma unroll
    for (int j = 0; j < width; j++) sum.at[j] += more.at[j];
  }
  __syncthreads();
  return sum;
}

/* (places, d): `width` channels a lane, places shared by the warps; the second read of a chunk is from the cache.
 * partial: shared, 32 vectors a warp. */
template <int width, typename element, typename real>
__device__ real sum_channels_last(const struct sumix_map &of, int64_t i, const real *weight,
                                  sumix_vector<real, width> *partial, real *sums)
{
  typedef sumix_vector<element, width> vector;
  const int64_t places = of.places, d = of.d;
  const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  const bool cam = weight != NULL;
  const element *const map = (const element *)of.data + i * of.stride;
  real squares = 0;
  for (int64_t first = 0; first < d; first += LANES * width) {
    const int64_t c = first + lane * width;
    const bool inside = c < d;
    sumix_vector<real, width> g;
#pragma unroll
    for (int j = 0; j < width; j++) g.at[j] = cam && inside ? weight[c + j] : 0;
    if (!cam) {
      for (int64_t p = warp; p < places && inside; p += WARPS) {
        const vector x = *(const vector *)&map[p * d + c];
#pragma unroll
        for (int j = 0; j < width; j++) g.at[j] += sumix_to_real(x.at[j]);
      }
      g = sum_of_warps<width>(g, partial);
#pragma unroll
      for (int j = 0; j < width; j++) {
        g.at[j] /= (real)places;
        if (warp == 0) squares += g.at[j] * g.at[j];
      }
    }
    for (int64_t p = warp; p < places; p += WARPS) {
      real sum = 0;
      if (inside) {
        const vector x = *(const vector *)&map[p * d + c];
#pragma unroll
        for (int j = 0; j < width; j++) sum += g.at[j] * (sumix_to_real(x.at[j]) - (cam ? 0 : g.at[j]));
      }
      sum = sumix_warp_reduce(sum, sumix_sum());
      if (lane == 0) sums[p] = first == 0 ? sum : sums[p] + sum;
    }
  }
  __syncthreads();
  return squares;
}

/* From the sums of places to the evidence (cells) of an image, over frames: what lies above the mean, or 0 everywhere
 * if that is never more than min_contrast |g|^2; or, if absolute, what lies above 0. squares: this thread's of |g|^2.
 * scratch: shared. */
template <typename real> __device__ void stand_out(const real *sums, int64_t places, int64_t cells, bool absolute,
                                                   real squares, double min_contrast, double *evidence, double *scratch)
{
  const double all = sumix_block_reduce((double)squares, sumix_sum(), scratch);
  double mean = 0, most = 0, total = 0;
  if (!absolute) {  // 0 but for what rounding g has left, in all places alike
    for (int64_t p = threadIdx.x; p < places; p += THREADS) mean += sums[p];
    mean = sumix_block_reduce(mean, sumix_sum(), scratch) / (double)places;
  }
  for (int64_t p = threadIdx.x; p < places; p += THREADS) {
    const double above = sums[p] - mean, e = above < 0 ? 0 : above;  // NaN stays
    most = e > most ? e : most;
    total += e;
  }
  most = sumix_block_reduce(most, sumix_max(), scratch);
  total = sumix_block_reduce(total, sumix_sum(), scratch);
  const bool flat = !absolute && total - total == 0 && most <= min_contrast * all;  // neither NaN nor infinite
  for (int64_t cell = threadIdx.x; cell < cells; cell += THREADS) {
    double sum = 0;
    for (int64_t p = cell; p < places && !flat; p += cells) {
      const double above = sums[p] - mean;
      sum += above < 0 ? 0 : above;
    }
    evidence[cell] = sum;
  }
}

/* Whether vectors of 16 bytes can be read along the channels of a map. */
template <typename element> bool is_vectored(const struct sumix_map *map)
{
  enum { WIDTH = 16 / sizeof(element) };
  return map->d % WIDTH == 0 && map->stride % WIDTH == 0 && sumix_is_aligned(map->data, 16);
}

}  // namespace

#endif
