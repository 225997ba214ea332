/* What the mixing kernels share: reading boxes, partners and ratios; where in its plane a position of a sample lies,
 * and which of 16 bytes there are in a box; elements of any dtype, and means of them.
 *
 * Work is shared out by samples and parts: a block takes MIX_THREADS * MIX_ITEMS vectors of one sample at a time. What
 * depends on the sample alone is then the same for the block, and the rest of the arithmetic needs no division: a
 * thread finds out once where its first vector lies, and goes on by a stride whose rows and columns the host has worked
 * out.
 */
#ifndef SUMIX_CUDA_MIX_CUH
#define SUMIX_CUDA_MIX_CUH

#include "../exact.h"
#include "../rounding.h"
#include "common.cuh"

/* MIX_BLOCKS on a multiprocessor, more where registers allow: without it ptxas spills to come to 64 registers exactly,
 * and some 80 still leave more loads under way than memory has time for. */
enum { MIX_THREADS = 256, MIX_ITEMS = 4, MIX_BLOCKS = 2 };

/* ---- A sample's parts ---- */

/* Parts of a sample of `vectors` vectors, for kernels that take `items` of them a thread. */
static inline SUMIX_HD int64_t mix_parts(int64_t vectors, int64_t items)
{
  return (vectors + MIX_THREADS * items - 1) / (MIX_THREADS * items);
}

static inline SUMIX_HD int64_t mix_smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline SUMIX_HD int64_t mix_larger(int64_t a, int64_t b) { return a > b ? a : b; }

static inline int64_t mix_sample_size(const struct sumix_layout *l)
{
  return l->planes * l->height * l->width * l->pixel;
}

/* ---- Values inside tensors ---- */

struct mix_box {
  int64_t x1, y1, x2, y2;
};

/* Box i, its columns counted in units of which a pixel has `pixel`: bytes or elements. */
__device__ inline struct mix_box mix_box_at(const int64_t *__restrict__ boxes, int64_t i, int64_t pixel)
{
  const int64_t *const b = boxes + 4 * i;
  const struct mix_box box = {b[0] * pixel, b[1], b[2] * pixel, b[3]};
  return box;
}

/* The same, checked, in images of height x width. Where every sample's own box is checked, a gradient need not check
 * those of the others: a box says what is selected, not where it is read. */
__device__ inline struct mix_box mix_read_box(const int64_t *__restrict__ boxes, int64_t i, int64_t height,
                                              int64_t width, int64_t pixel)
{
  const struct mix_box b = mix_box_at(boxes, i, 1), scaled = {b.x1 * pixel, b.y1, b.x2 * pixel, b.y2};
  assert(0 <= b.x1 && b.x1 <= b.x2 && b.x2 <= width && 0 <= b.y1 && b.y1 <= b.y2 && b.y2 <= height &&
         "box is out of range");
  return scaled;
}

__device__ inline int64_t mix_read_partner(const int64_t *__restrict__ perm, int64_t i, int64_t n)
{
  const int64_t partner = perm[i];
  assert(partner >= 0 && partner < n && "perm is out of range");
  return partner;
}

__device__ inline float mix_read_lam(const float *__restrict__ lam, int64_t i)
{
  const float ratio = lam[i];
  assert(ratio >= 0 && ratio <= 1 && "lam is out of range");
  return ratio;
}

/* ---- Places: the rows of a sample follow each other, plane after plane ---- */

struct mix_place {
  int64_t column, y;
};

/* Planes of `height` rows of `row` units, and what a thread's stride adds to a place. */
struct mix_planes {
  int64_t row, height;
  struct mix_place stride;
};

static inline SUMIX_HD struct mix_place mix_place_of(int64_t at, int64_t row, int64_t height)
{
  const int64_t rows = at / row;
  const struct mix_place place = {at - rows * row, rows % height};
  return place;
}

/* For images with pixels, and threads whose positions lie `stride` units apart. */
static inline struct mix_planes mix_planes_of(int64_t row, int64_t height, int64_t stride)
{
  const struct mix_planes planes = {row, height, mix_place_of(stride, row, height)};
  return planes;
}

/* The place one stride further: of any plane, since all of a sample's share its box. */
__device__ inline void mix_advance(struct mix_place *place, struct mix_planes planes)
{
  place->column += planes.stride.column;
  place->y += planes.stride.y;
  if (place->column >= planes.row) place->column -= planes.row, place->y++;
  if (place->y >= planes.height) place->y -= planes.height;
}

/* Which of the `count` units from this place on lie in the box, as bits; they may go on into the rows that follow. */
template <int count>
__device__ inline unsigned mix_in_box(struct mix_place place, struct mix_planes planes, struct mix_box b)
{
  unsigned inside = 0;
  int done = 0;
  do {
    const int here = count == 1 ? 1 : (int)mix_smaller(planes.row - place.column, count - done);
    if (place.y >= b.y1 && place.y < b.y2) {
      const int first = (int)mix_smaller(mix_larger(b.x1 - place.column, 0), here);
      const int last = (int)mix_smaller(mix_larger(b.x2 - place.column, 0), here);
      inside |= ((1u << last) - (1u << first)) << done;
    }
    done += here;
    place.column = 0;
    place.y = place.y + 1 < planes.height ? place.y + 1 : 0;
  } while (done < count);
  return inside;
}

/* ---- Bytes, as vectors of words ---- */

/* The widest access that suits all of the addresses, strides and sizes or-ed together: 16, 8, 4, 2 or 1 bytes. */
static inline int64_t mix_widest(uint64_t addresses)
{
  const uint64_t limited = addresses | 16;
  return (int64_t)(limited & (~limited + 1));
}

/* Calls launch::run<bytes>(args, stream). */
template <typename launch, typename args_type>
static void mix_by_width(int64_t bytes, const args_type *args, void *stream)
{
  if (bytes == 16) launch::template run<16>(args, stream);
  if (bytes == 8) launch::template run<8>(args, stream);
  if (bytes == 4) launch::template run<4>(args, stream);
  if (bytes == 2) launch::template run<2>(args, stream);
  if (bytes == 1) launch::template run<1>(args, stream);
}

/* So many bytes as registers hold them: elements of 1 or 2 bytes would take a register each. */
template <int bytes> struct mix_words {
  typedef sumix_vector<uint32_t, bytes / 4> type;
};
template <> struct mix_words<2> {
  typedef sumix_vector<uint16_t, 1> type;
};
template <> struct mix_words<1> {
  typedef sumix_vector<uint8_t, 1> type;
};

template <typename vector, typename words> __device__ inline vector mix_as(words from)
{
  vector to;
  static_assert(sizeof to == sizeof from, "the same bytes");
  memcpy(&to, &from, sizeof to);
  return to;
}

/* Byte by byte from `yes` where the bit is set, else from `no`. */
template <typename word, int words>
__device__ inline sumix_vector<word, words> mix_select(unsigned bits, sumix_vector<word, words> yes,
                                                       sumix_vector<word, words> no)
{
#pragma unroll
  for (int w = 0; w < words; w++) {
    /* The first product moves four bits to the ends of four bytes, the second fills the bytes. */
    const unsigned four = bits >> w * sizeof(word) & 15;
    const word mask = (word)((four * 0x00204081u & 0x01010101u) * 255u);
    no.at[w] = (word)((yes.at[w] & mask) | (no.at[w] & ~mask));
  }
  return no;
}

/* ---- Integers as elements too: in float as long as it holds them, else in double ---- */

template <> struct sumix_compute<int32_t> {
  typedef double real;
};
template <> struct sumix_compute<int64_t> {
  typedef double real;
};

__device__ inline float sumix_to_real(uint8_t x) { return (float)x; }
__device__ inline float sumix_to_real(int8_t x) { return (float)x; }
__device__ inline float sumix_to_real(int16_t x) { return (float)x; }
__device__ inline double sumix_to_real(int32_t x) { return (double)x; }
__device__ inline double sumix_to_real(int64_t x) { return (double)x; }

__device__ inline void sumix_from_real(float value, uint8_t *x) { *x = sumix_nearest_uint8(value); }
__device__ inline void sumix_from_real(float value, int8_t *x) { *x = sumix_nearest_int8(value); }
__device__ inline void sumix_from_real(float value, int16_t *x) { *x = sumix_nearest_int16(value); }
__device__ inline void sumix_from_real(double value, int32_t *x) { *x = sumix_nearest_int32(value); }
__device__ inline void sumix_from_real(double value, int64_t *x) { *x = sumix_nearest_int64(value); }

/* Calls launch::run<element>(args, stream) for the element type that `dtype` names. */
template <typename launch, typename args_type>
static void mix_by_dtype(enum sumix_dtype dtype, const args_type *args, void *stream)
{
  sumix_by_floating<launch>(dtype, args, stream);
  if (dtype == SUMIX_UINT8) launch::template run<uint8_t>(args, stream);
  if (dtype == SUMIX_INT8) launch::template run<int8_t>(args, stream);
  if (dtype == SUMIX_INT16) launch::template run<int16_t>(args, stream);
  if (dtype == SUMIX_INT32) launch::template run<int32_t>(args, stream);
  if (dtype == SUMIX_INT64) launch::template run<int64_t>(args, stream);
}

/* w own + rest other, rounded as the CPU kernels round it. */
template <typename element, typename real>
__device__ inline void mix_mean(real w, element own, real rest, element other, element *mean)
{
  sumix_from_real(w * sumix_to_real(own) + rest * sumix_to_real(other), mean);
}
__device__ inline void mix_mean(float w, uint8_t own, float, uint8_t other, uint8_t *mean)
{
  *mean = sumix_mean_uint8(w, own, other);
}

#endif
