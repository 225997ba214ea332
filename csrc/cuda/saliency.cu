/* Fine-grained static saliency on CUDA: the whole numbers of csrc/cpu/saliency.c, bit by bit.
 *
 *   grey, smoothed twice -> integral image T -> six windows about each pixel -> on, off, their maxima -> map, peak
 *
 * The work is in the windows: 6 x 4 entries of T and 6 divisions a pixel. All radii are multiples of 4, and so T lies
 * in rows of vectors of 4 entries, with one of zeros before the image and one of the row's last value behind it: the
 * corners of 4 pixels' windows are 4 aligned vectors of 16 bytes, and a window that the image cuts off is a vector
 * index that is held within the row, no special case.
 *
 * Images up to about 64 x 64: a block an image. T and everything else lies in shared memory, one launch in all; x is
 * read once (twice from the cache where its range is needed), the map written.
 *
 * Larger images: four launches over strips, tiles and runs of all images, so that few large images fill a GPU too:
 *
 *   smooth     a tile of 32 rows x 128 columns in shared memory; writes 1 byte a pixel, and the columns' sums
 *   integrate  a strip of 32 rows: sums down the columns in shared memory, then along the rows; reads 1 byte, writes 4
 *   compare    reads 12 rows of T for each row, from the caches; writes on and off, 4 bytes, and their maxima
 *   finish     reads those, writes the map, 1 byte, or only its maximum
 *
 * and before them `range` where x is stretched between its own minimum and maximum, after them `place` where the peak
 * is wanted. Device memory sees x once, and the map. What lies between, 9 bytes a pixel, is kept for as many images at
 * a time as 32 MB hold, which an L2 cache keeps; then the next images follow. 256 images of 3 x 224 x 224 bytes are 4
 * groups, 38.5 MB read and 12.8 MB written.
 *
 * Maxima meet in integer atomics: no order changes them.
 */
#include "saliency.cuh"

namespace
{

enum {
  THREADS = 256,
  STRIP = (int)SUMIX_SALIENCY_STRIP,
  SPAN = 128,                        // columns of a tile, and threads of saliency_integrate
  VECTORS = SPAN / 4,                // of a tile's row
  LANES = (int)SUMIX_WARP,           // entries of a row that a warp scans at once
  CARRIES = STRIP / (SPAN / LANES),  // rows of a strip that a warp scans
  ROWS = 2                           // that a thread of saliency_compare takes
};
static_assert(VECTORS == LANES, "a warp scans a row of a tile at once");

/* ---- A block an image ---- */

template <typename element> __global__ void __launch_bounds__(THREADS)
    saliency_whole(const struct sumix_saliency_args a, const struct sumix_saliency_layout l)
{
  typedef typename sumix_compute<element>::real real;
  __shared__ ordered scratch[SUMIX_WARP];
  entries *const integral = (entries *)SUMIX_DYNAMIC_SHARED(), *const parts = integral + l.integral / 16;
  uint32_t *const tile = (uint32_t *)(parts + l.parts / 16);
  const int height = (int)a.height, vectors = (int)l.vectors, stride = vectors + 2, items = height * vectors;
  const int64_t size = a.channels * a.height * a.width;
  const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  for (int64_t i = blockIdx.x; i < a.n; i += gridDim.x) {
    real low = (real)INFINITY, high = -(real)INFINITY;
    if (is_stretched<element>(a)) {
      extend_range((const element *)a.x + i * size, (int64_t)threadIdx.x, size, (int64_t)blockDim.x, &low, &high);
      low = sumix_block_reduce(low, sumix_min(), (real *)scratch);
      high = sumix_block_reduce(high, sumix_max(), (real *)scratch);
    }
    smooth_twice<element>(a, i, find_scaling<real>(a, low, high), 0, 0, height, vectors, tile,
                          tile + (height + 4) * stride);

    for (int k = threadIdx.x; k < stride; k += blockDim.x) integral[k] = all_of(0);
    for (int y = warp; y < height; y += THREADS / LANES) {
      uint32_t carry = 0;
      entries *const row = integral + (y + 1) * stride;
      for (int first = 0; first < vectors; first += LANES) {
        const int v = first + lane;
        const uint32_t word = v < vectors ? tile[(y + 2) * stride + v + 1] : 0;
        entries e;
        for (int j = 0; j < 4; j++) e.at[j] = 4 * v + j < a.width ? word >> 8 * j & 255 : 0;
        e = scan(e, &carry);
        if (v < vectors) row[v + 1] = e;
      }
      if (lane == 0) row[0] = all_of(0), row[vectors + 1] = all_of(carry);
    }
    __syncthreads();
    for (int x = threadIdx.x; x < 4 * stride; x += blockDim.x) {
      uint32_t sum = 0;
      for (int y = 1; y <= height; y++) {
        uint32_t *const at = &integral[y * stride + x / 4].at[x % 4];
        *at = sum += *at;
      }
    }
    __syncthreads();

    uint32_t on = 0, off = 0;
    for (int k = threadIdx.x; k < items; k += blockDim.x) {
      const int y = k / vectors, v = k % vectors;
      entries e = all_of(0);
      if (a.height * a.width > 1)  // else there are no surroundings
        compare<1>(integral, tile + (y + 2) * stride + v + 1, stride, a.height, a.width, vectors, y, v, &e);
      extend_most(e, &on, &off);
      parts[k] = e;
    }
    on = sumix_block_reduce(on, sumix_max(), (uint32_t *)scratch);
    off = sumix_block_reduce(off, sumix_max(), (uint32_t *)scratch);
    const struct scales s = scales_of(on, off);
    ordered best = 0;
    for (int k = threadIdx.x; k < items; k += blockDim.x) {
      uint8_t *const map = a.map != NULL ? a.map + i * a.height * a.width : NULL;
      best = sumix_max()(best, finish(parts[k], s, k / vectors, k % vectors, a.width, map));
    }
    best = sumix_block_reduce(best, sumix_max(), scratch);
    if (a.peak != NULL && threadIdx.x == 0) set_peak(best, a.width, a.peak + 2 * i);
  }
}

/* ---- Many blocks an image ---- */

/* What all blocks of an image find together; zeros at first. */
struct state {
  ordered low, high;  // of the finite values: order_of(-the minimum), order_of(the maximum)
  ordered peak;       // value << 32 | the complement of its place
  uint32_t most_on, most_off;
};
static_assert(sizeof(state) == SUMIX_SALIENCY_STATE, "csrc/args/saliency.h says how large it is");

struct group {
  struct sumix_saliency_layout l;
  int64_t first, images;  // of the batch
  state *states;          // (n)
  entries *integral;      // (images, height + 1, vectors + 2)
  entries *parts;         // (images, height, vectors)
  uint32_t *sums;         // (images, strips, 4 vectors): of a strip's columns
  uint32_t *smooth;       // (images, height, vectors), 4 pixels each; 0 beyond the image
};

/* x of the image's own range: a run of it a block. */
template <typename element> __global__ void __launch_bounds__(THREADS)
    saliency_range(const struct sumix_saliency_args a, const struct group g, int64_t blocks)
{
  typedef typename sumix_compute<element>::real real;
  __shared__ real scratch[SUMIX_WARP];
  const int64_t size = a.channels * a.height * a.width, step = blocks * THREADS;
  for (int64_t item = blockIdx.x; item < g.images * blocks; item += gridDim.x) {
    const int64_t i = g.first + item / blocks, first = item % blocks * THREADS + threadIdx.x;
    real low = (real)INFINITY, high = -(real)INFINITY;
    extend_range((const element *)a.x + i * size, first, size, step, &low, &high);
    low = sumix_block_reduce(low, sumix_min(), scratch);
    high = sumix_block_reduce(high, sumix_max(), scratch);
    if (threadIdx.x > 0) continue;
    atomicMax(&g.states[i].low, order_of(-(double)low));
    atomicMax(&g.states[i].high, order_of((double)high));
  }
}

template <typename element> __global__ void __launch_bounds__(THREADS, 1)
    saliency_smooth(const struct sumix_saliency_args a, const struct group g)
{
  typedef typename sumix_compute<element>::real real;
  const int stride = VECTORS + 2;
  __shared__ uint32_t tile[(STRIP + 4) * stride], other[(STRIP + 4) * stride];
  const int64_t height = a.height, vectors = g.l.vectors, strips = g.l.strips;
  const int64_t tiles = (vectors + VECTORS - 1) / VECTORS;
  for (int64_t item = blockIdx.x; item < g.images * strips * tiles; item += gridDim.x) {
    const int64_t local = item / (strips * tiles), i = g.first + local;
    const int64_t strip = item / tiles % strips, first = item % tiles * VECTORS;
    real low = 0, high = 0;
    if (is_stretched<element>(a)) low = -(real)value_of(g.states[i].low), high = (real)value_of(g.states[i].high);
    smooth_twice<element>(a, i, find_scaling<real>(a, low, high), strip * STRIP, 4 * first, STRIP, VECTORS, tile,
                          other);

    const uint8_t *const pixels = (const uint8_t *)tile;
    for (int64_t k = threadIdx.x; k < STRIP * VECTORS; k += THREADS) {
      const int64_t row = k / VECTORS, y = strip * STRIP + row, v = first + k % VECTORS;
      const int64_t inside = a.width - 4 * v;  // of the word's pixels
      const uint32_t word = tile[(row + 2) * stride + k % VECTORS + 1];
      if (y < height && v < vectors)
        g.smooth[(local * height + y) * vectors + v] = inside < 4 ? word & ((1u << 8 * inside) - 1) : word;
    }
    for (int64_t column = threadIdx.x; column < SPAN; column += THREADS) {
      const int64_t x = 4 * first + column, left = height - strip * STRIP;
      uint32_t sum = 0;
      for (int row = 0; row < STRIP && row < left; row++) sum += pixels[(row + 2) * 4 * stride + column + 4];
      if (x < 4 * vectors) g.sums[(local * strips + strip) * 4 * vectors + x] = x < a.width ? sum : 0;
    }
    __syncthreads();
  }
}

__global__ void __launch_bounds__(SPAN) saliency_integrate(int64_t height, const struct group g)
{
  __shared__ entries columns[STRIP][VECTORS];
  const int64_t vectors = g.l.vectors, strips = g.l.strips;
  const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  for (int64_t item = blockIdx.x; item < g.images * strips; item += gridDim.x) {
    const int64_t local = item / strips, strip = item % strips;
    entries *const image = g.integral + local * (height + 1) * (vectors + 2);
    const uint32_t *const sums = g.sums + local * strips * 4 * vectors;
    const uint8_t *const smooth = (const uint8_t *)(g.smooth + (local * height + strip * STRIP) * vectors);
    const int rows = (int)sumix_min()(height - strip * STRIP, (int64_t)STRIP);
    uint32_t carry[CARRIES] = {0};
    for (int64_t first = 0; first < vectors; first += VECTORS) {
      const int64_t x = 4 * first + threadIdx.x;
      const bool inside = x < 4 * vectors;
      uint32_t sum = 0;
      for (int64_t s = 0; s < strip && inside; s++) sum += sums[s * 4 * vectors + x];
#pragma unroll 8
      for (int row = 0; row < STRIP; row++) {
        if (inside && row < rows) sum += smooth[row * 4 * vectors + x];
        columns[row][threadIdx.x / 4].at[threadIdx.x % 4] = sum;
      }
      __syncthreads();
#pragma unroll
      for (int k = 0; k < CARRIES; k++) {
        const int row = warp + k * (SPAN / LANES);
        const entries e = scan(columns[row][lane], &carry[k]);
        if (row < rows && first + lane < vectors)
          image[(strip * STRIP + row + 1) * (vectors + 2) + first + lane + 1] = e;
      }
      __syncthreads();
    }
#pragma unroll
    for (int k = 0; k < CARRIES; k++) {
      entries *const row = image + (strip * STRIP + warp + k * (SPAN / LANES) + 1) * (vectors + 2);
      if (warp + k * (SPAN / LANES) < rows && lane == 0) row[0] = all_of(0), row[vectors + 1] = all_of(carry[k]);
    }
    for (int64_t v = threadIdx.x; v < vectors + 2 && strip == 0; v += SPAN) image[v] = all_of(0);
  }
}

__global__ void __launch_bounds__(THREADS) saliency_compare(int height, int width, const struct group g, int64_t blocks)
{
  __shared__ uint32_t scratch[SUMIX_WARP];
  const int vectors = (int)g.l.vectors, items = (height + ROWS - 1) / ROWS * vectors;
  for (int64_t item = blockIdx.x; item < g.images * blocks; item += gridDim.x) {
    const int64_t local = item / blocks;
    const int k = (int)(item % blocks) * THREADS + (int)threadIdx.x, y = k / vectors * ROWS, v = k % vectors;
    uint32_t on = 0, off = 0;
    if (k < items) {
      const int64_t at = (local * height + y) * vectors + v;
      entries parts[ROWS];
      compare<ROWS>(g.integral + local * (height + 1) * (vectors + 2), g.smooth + at, vectors, height, width, vectors,
                    y, v, parts);
      for (int row = 0; row < ROWS; row++) {
        extend_most(parts[row], &on, &off);
        if (y + row < height) g.parts[at + row * vectors] = parts[row];
      }
    }
    on = sumix_block_reduce(on, sumix_max(), scratch);
    off = sumix_block_reduce(off, sumix_max(), scratch);
    if (threadIdx.x > 0) continue;
    atomicMax(&g.states[g.first + local].most_on, on);
    atomicMax(&g.states[g.first + local].most_off, off);
  }
}

__global__ void __launch_bounds__(THREADS)
    saliency_finish(const struct sumix_saliency_args a, const struct group g, int64_t blocks)
{
  __shared__ ordered scratch[SUMIX_WARP];
  const int vectors = (int)g.l.vectors, items = (int)a.height * vectors;
  for (int64_t item = blockIdx.x; item < g.images * blocks; item += gridDim.x) {
    const int64_t local = item / blocks, i = g.first + local;
    const int k = (int)(item % blocks) * THREADS + (int)threadIdx.x;
    const struct scales s = scales_of(g.states[i].most_on, g.states[i].most_off);
    uint8_t *const map = a.map != NULL ? a.map + i * a.height * a.width : NULL;
    ordered best = 0;
    if (k < items) best = finish(g.parts[local * items + k], s, k / vectors, k % vectors, a.width, map);
    if (a.peak == NULL) continue;
    best = sumix_block_reduce(best, sumix_max(), scratch);
    if (threadIdx.x == 0) atomicMax(&g.states[i].peak, best);
  }
}

__global__ void __launch_bounds__(THREADS) saliency_place(int64_t n, int64_t width, const state *states, int64_t *peak)
{
  for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS)
    set_peak(states[i].peak, width, peak + 2 * i);
}

template <typename element> void in_strips(const struct sumix_saliency_args *a, struct group g, void *stream)
{
  const int64_t tiles = g.l.strips * ((g.l.vectors + VECTORS - 1) / VECTORS);
  const int64_t compared = ((a->height + ROWS - 1) / ROWS * g.l.vectors + THREADS - 1) / THREADS;
  const int64_t finished = (a->height * g.l.vectors + THREADS - 1) / THREADS;
  const int64_t ranged = (a->channels * a->height * a->width + 16 * THREADS - 1) / (16 * THREADS);
  cudaMemsetAsync(g.states, 0, (size_t)(a->n * SUMIX_SALIENCY_STATE), (cudaStream_t)stream);
  for (; g.first < a->n; g.first += g.l.images) {
    g.images = a->n - g.first < g.l.images ? a->n - g.first : g.l.images;
    if (sizeof(element) > 1 && a->mean == NULL)
      SUMIX_LAUNCH(saliency_range<element>, sumix_grid(g.images * ranged, 1), THREADS, 0, stream, *a, g, ranged);
    SUMIX_LAUNCH(saliency_smooth<element>, sumix_grid(g.images * tiles, 1), THREADS, 0, stream, *a, g);
    SUMIX_LAUNCH(saliency_integrate, sumix_grid(g.images * g.l.strips, 1), SPAN, 0, stream, a->height, g);
    SUMIX_LAUNCH(saliency_compare, sumix_grid(g.images * compared, 1), THREADS, 0, stream, (int)a->height,
                 (int)a->width, g, compared);
    SUMIX_LAUNCH(saliency_finish, sumix_grid(g.images * finished, 1), THREADS, 0, stream, *a, g, finished);
  }
  if (a->peak != NULL)
    SUMIX_LAUNCH(saliency_place, sumix_grid(a->n, THREADS), THREADS, 0, stream, a->n, a->width, g.states, a->peak);
}

struct saliency {
  template <typename element> static void run(const struct sumix_saliency_args *a, void *stream)
  {
    struct group g = {};
    g.l = sumix_saliency_lay_out(a);
    if (g.l.images == 0) {
      SUMIX_LAUNCH(saliency_whole<element>, sumix_grid(a->n, 1), THREADS, (size_t)g.l.whole, stream, *a, g.l);
      return;
    }
    g.states = (state *)a->scratch;
    g.integral = (entries *)(g.states + a->n);
    g.parts = g.integral + g.l.images * (g.l.integral / 16);
    g.sums = (uint32_t *)(g.parts + g.l.images * (g.l.parts / 16));
    g.smooth = g.sums + g.l.images * (g.l.sums / 4);
    in_strips<element>(a, g, stream);
  }
};

}  // namespace

extern "C" int sumix_saliency_cuda(const struct sumix_saliency_args *a, void *stream)
{
  if (a->n == 0 || a->height == 0 || a->width == 0) return 0;
  if (a->dtype == SUMIX_UINT8) saliency::run<uint8_t>(a, stream);
  sumix_by_floating<saliency>(a->dtype, a, stream);
  return (int)cudaGetLastError();
}
