/* Mixing 8-bit images and normalising the result in one pass, as the last step of an input pipeline, on CUDA:
 * csrc/cpu/mix_normalize.c with a thread per 16 bytes of the result.
 *
 *   out[i] = (mixed[i] / 255 - mean) / std
 *
 * with mixed[i] by a box, a resized partner, a mask or a ratio, in float32. One launch; 8-bit pixels are read, the
 * result is written, and in between there are registers: as the normalisation is linear, pixels are normalised first,
 * by scale = 1 / (255 std) and offset = -mean / std, and then averaged.
 *
 * The result is four or two times as large as what is read, so it decides the accesses: a thread writes 16 bytes, a warp
 * 512 bytes in a row, for which it reads 4 or 8 bytes a thread, as many bytes in a row. (With 16 bytes read a thread
 * would write 64, and each store of a warp touch every second half of 64 sectors.) A thread takes the same pixels of up
 * to MASK_PLANES planes, whose weights it reads once.
 */
#include "mix_mask.cuh"
#include "mix_resize.cuh"

namespace
{

enum { TABLE = 256 };  // channels whose constants a block keeps; others, which no image has, are worked out each time

struct constants {
  float scale, offset;
};

/* What the CPU kernel gets by double precision, which many GPUs have little of. -mean / std is the same, rounded once
 * either way; for 1 / (255 std) the rest of the product is made up for. */
__device__ struct constants constants_of(const float *__restrict__ mean, const float *__restrict__ std, int64_t c)
{
  const float m = mean[c], s = std[c], product = 255 * s, rest = fmaf(255, s, -product), quotient = 1 / product;
  const struct constants both = {fmaf(quotient, fmaf(-quotient, rest, fmaf(-quotient, product, 1)), quotient), -m / s};
  return both;
}

__device__ inline void narrow(float value, float *out) { *out = value; }
__device__ inline void narrow(float value, sumix_f16 *out) { sumix_from_real(value, out); }
__device__ inline void narrow(float value, sumix_bf16 *out) { sumix_from_real(value, out); }

/* Launches: 1, blocks of 256 threads. Bytes: of x what is shown, the mask, and out, once each. */
template <typename element, int count> __global__ void __launch_bounds__(MIX_THREADS)
    mix_normalize_forward(const struct sumix_mix_normalize_args a, const struct mask_planes planes,
                          const struct mix_planes image)
{
  typedef sumix_vector<uint8_t, count> bytes;
  typedef sumix_vector<element, count> vector;
  __shared__ struct constants table[TABLE];
  for (int64_t c = threadIdx.x; c < a.channels; c += MIX_THREADS) {
    assert(fabsf(a.mean[c]) < INFINITY && "mean is not a number");
    assert(a.std[c] > 0 && a.std[c] < INFINITY && "std is not a number above 0");
    if (c < TABLE) table[c] = constants_of(a.mean, a.std, c);
  }
  __syncthreads();

  const int64_t n = a.layout.n, parts = mix_parts(planes.items, MIX_ITEMS), size = planes.count * planes.size;
  const int height = (int)a.layout.height, width = (int)a.layout.width, channels = (int)planes.channels;
  for (int64_t tile = blockIdx.x; tile < n * parts; tile += gridDim.x) {
    const int64_t i = tile / parts, partner = mix_read_partner(a.perm, i, n);
    struct mix_box pixels = {0, 0, 0, 0};
    if (a.box != NULL) pixels = mix_read_box(a.box, i, height, width, 1);
    const enum sumix_resize how = a.resize != NULL ? mix_read_resize(a.resize, i, true) : SUMIX_SAME_BOX;
    const mix_resizer<float> r = mix_resizer_of<float>(how, pixels, height, width, channels);
    const struct mix_box box = mix_in_elements(pixels, channels);
    const bytes *const own = (const bytes *)a.x + i * size, *const other = (const bytes *)a.x + partner * size;

    int64_t at = (tile - i * parts) * MIX_THREADS * MIX_ITEMS + threadIdx.x;
    struct mix_place place = mix_place_of(at, planes.walk.row, planes.walk.height);
#pragma unroll 1
    for (int item = 0; item < MIX_ITEMS && at < planes.items;
         item++, at += MIX_THREADS, mix_advance(&place, planes.walk)) {
      float weights[count];
      bool all_own = true, all_other = false;
      if (a.mask.values != NULL) {
        mask_weights(a.mask, planes, i, place.column * count, weights);
        all_own = mask_is_all(weights, 1), all_other = mask_is_all(weights, 0);
      }
      const int64_t first = place.column * count;
      const struct mix_place in_image = a.box != NULL ? mix_place_of(first, image.row, image.height) : {0, 0};
      const unsigned inside = mix_in_box<count>(in_image, image, box), all = (1u << count) - 1;
      const int64_t end = mix_smaller((place.y + 1) * MASK_PLANES, planes.count);
    }
  }
}

}  // namespace
