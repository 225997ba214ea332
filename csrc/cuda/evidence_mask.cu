/* Masks cut from maps of evidence, on CUDA: csrc/cpu/evidence_mask.c with a block an image, and its bits.
 *
 *   u     = map[i] enlarged bilinearly; mask[i] = 0 where u > threshold max(map[i]), else 1, or with a soft edge;
 *   lam[i] = the mean of mask[i]
 *
 * One launch. A map is small, 14 x 14 as a rule, and is read through the cache four times a pixel; what takes time is
 * writing the mask. Sums of integers are the same in any order.
 */
#include "../evidence_mask.h"
#include "common.cuh"

namespace
{

enum { THREADS = 256 };

/* The enlarged map at a pixel. */
__device__ inline float value_at(const struct sumix_evidence_mask_args &a, const float *__restrict__ map, float down,
                                 float across, int64_t y, int64_t x)
{
  const struct sumix_between_f32 row = sumix_bilinear_source_f32(y, down, a.h, a.height);
  const struct sumix_between_f32 column = sumix_bilinear_source_f32(x, across, a.w, a.width);
  const float *const first = map + row.first * a.w, *const second = map + row.second * a.w;
  return sumix_mean_of_two(sumix_mean_of_two(first[column.first], first[column.second], column.weight),
                           sumix_mean_of_two(second[column.first], second[column.second], column.weight), row.weight);
}

/* Launches: 1, blocks of 256 threads. Bytes: the mask, once. */
__global__ void __launch_bounds__(THREADS) evidence_mask_cut(const struct sumix_evidence_mask_args a)
{
  __shared__ float maxima[SUMIX_WARP];
  __shared__ int64_t sums[SUMIX_WARP];
  const int32_t cells = (int32_t)(a.h * a.w), pixels = (int32_t)(a.height * a.width), width = (int32_t)a.width;
  const float down = sumix_scale_f32(a.h, a.height), across = sumix_scale_f32(a.w, a.width);
  for (int64_t i = blockIdx.x; i < a.n; i += gridDim.x) {
    const float *const map = a.evidence + i * cells;
    assert(a.paste[i] <= 1 && "paste is out of range");
    const bool paste = a.paste[i] != 0;
    float most = 0;
    for (int32_t p = (int32_t)threadIdx.x; p < cells; p += THREADS) {
      assert(!(map[p] < 0) && "evidence has values below 0");
      most = map[p] > most ? map[p] : most;
    }
    most = sumix_block_reduce(most, sumix_max(), maxima);
    const float from = (a.threshold - a.soft / 2) * most, edge = a.soft * most, above = a.threshold * most;
    int64_t sum = 0;
    for (int32_t p = (int32_t)threadIdx.x; p < pixels; p += THREADS) {
      const float u = paste ? value_at(a, map, down, across, p / width, p % width) : 0;
      if (a.hard) {
        const bool shown = paste && u > above;
        ((uint8_t *)a.mask)[i * pixels + p] = shown ? 0 : 1;
        sum += shown ? 0 : (int64_t)SUMIX_MASK_UNIT;
      } else {
        const float own = paste ? 1 - sumix_soft_edge(u, from, edge) : 1;
        ((float *)a.mask)[i * pixels + p] = own;
        sum += (int32_t)(own * (float)SUMIX_MASK_UNIT);
      }
    }
    sum = sumix_block_reduce(sum, sumix_sum(), sums);
    if (threadIdx.x == 0) a.lam[i] = sumix_mask_mean(sum, pixels);
  }
}

}  // namespace

extern "C" int sumix_evidence_mask_cuda(const struct sumix_evidence_mask_args *a, void *stream)
{
  if (a->n == 0) return 0;
  SUMIX_LAUNCH(evidence_mask_cut, sumix_grid(a->n, 1), THREADS, 0, stream, *a);
  return (int)cudaGetLastError();
}
