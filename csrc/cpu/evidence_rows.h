/* What stands out in a map, for one type: of masked_similarity.c and foreground.c. */

/* The numbers that a block of BLOCK channels or places widens to; none where nothing is widened. */
static int64_t SUFFIX(widened_size)(const struct sumix_map *map)
{
  const bool half = map->dtype == SUMIX_FLOAT16 || map->dtype == SUMIX_BFLOAT16;
  return half ? BLOCK * (map->channels_last ? map->d : map->places) : 0;
}

/* Similarity: acc[p] += sum over c of g_c (x[c, p] - g_c), with g_c the mean of x[c, :], for `count` channels of x
 * (count, places). Returns the sum of g_c^2. Four channels a turn, whose sums then wait for one another less. */
static REAL SUFFIX(correlate_channels)(const REAL *restrict x, int64_t count, int64_t places, REAL *restrict acc)
{
  const REAL inverse = 1 / (REAL)places;
  REAL squares = 0;
  int64_t c = 0;
  for (; c + 4 <= count; c += 4, x += 4 * places) {
    const REAL *restrict x0 = x, *restrict x1 = x + places, *restrict x2 = x + 2 * places,
                         *restrict x3 = x + 3 * places;
    REAL g0 = 0, g1 = 0, g2 = 0, g3 = 0;
#pragma omp simd reduction(+ : g0, g1, g2, g3)
    for (int64_t p = 0; p < places; p++) g0 += x0[p], g1 += x1[p], g2 += x2[p], g3 += x3[p];
    g0 *= inverse, g1 *= inverse, g2 *= inverse, g3 *= inverse;
#pragma omp simd
    for (int64_t p = 0; p < places; p++)
      acc[p] += (g0 * (x0[p] - g0) + g1 * (x1[p] - g1)) + (g2 * (x2[p] - g2) + g3 * (x3[p] - g3));
    squares += (g0 * g0 + g1 * g1) + (g2 * g2 + g3 * g3);
  }
  for (; c < count; c++, x += places) {
    REAL g = 0;
#pragma omp simd reduction(+ : g)
    for (int64_t p = 0; p < places; p++) g += x[p];
    g *= inverse;
#pragma omp simd
    for (int64_t p = 0; p < places; p++) acc[p] += g * (x[p] - g);
    squares += g * g;
  }
  return squares;
}

/* Class activation: acc[p] += sum over c of w[c] x[c, p]. */
static void SUFFIX(project_channels)(const REAL *restrict x, const REAL *restrict w, int64_t count, int64_t places,
                                     REAL *restrict acc)
{
  for (int64_t c = 0; c < count; c++, x += places) {
#pragma omp simd
    for (int64_t p = 0; p < places; p++) acc[p] += w[c] * x[p];
  }
}

/* g[c] += sum over p of x[p, c] for `count` places of x (count, d). */
static void SUFFIX(add_places)(const REAL *restrict x, int64_t count, int64_t d, REAL *restrict g)
{
  int64_t p = 0;
  for (; p + 4 <= count; p += 4, x += 4 * d) {
#pragma omp simd
    for (int64_t c = 0; c < d; c++) g[c] += (x[c] + x[d + c]) + (x[2 * d + c] + x[3 * d + c]);
  }
  for (; p < count; p++, x += d) {
#pragma omp simd
    for (int64_t c = 0; c < d; c++) g[c] += x[c];
  }
}

/* acc[p] = sum over c of w[c] (x[p, c] - origin w[c]): class activation with origin 0, similarity with w = g, 1. */
static void SUFFIX(project_places)(const REAL *restrict x, const REAL *restrict w, REAL origin, int64_t count,
                                   int64_t d, REAL *restrict acc)
{
  int64_t p = 0;
  for (; p + 4 <= count; p += 4, x += 4 * d) {
    const REAL *restrict x0 = x, *restrict x1 = x + d, *restrict x2 = x + 2 * d, *restrict x3 = x + 3 * d;
    REAL s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (int64_t c = 0; c < d; c++) {
      const REAL shift = origin * w[c];
      s0 += w[c] * (x0[c] - shift), s1 += w[c] * (x1[c] - shift);
      s2 += w[c] * (x2[c] - shift), s3 += w[c] * (x3[c] - shift);
    }
    acc[p] = s0, acc[p + 1] = s1, acc[p + 2] = s2, acc[p + 3] = s3;
  }
  for (; p < count; p++, x += d) {
    REAL s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t c = 0; c < d; c++) s += w[c] * (x[c] - origin * w[c]);
    acc[p] = s;
  }
}

/* f . g - |g|^2 (similarity, w NULL) or w . f (class activation) at every place of image i into acc. Returns |g|^2.
 * widened: room for a block of halves. */
static double SUFFIX(compare_channels)(const struct sumix_map *map, int64_t i, const REAL *w, REAL *restrict acc,
                                       REAL *widened)
{
  const int64_t places = map->places, offset = i * map->stride;
  double squares = 0;
  for (int64_t p = 0; p < places; p++) acc[p] = 0;
  for (int64_t c = 0; c < map->d; c += BLOCK) {
    const int64_t count = map->d - c < BLOCK ? map->d - c : BLOCK;
    const REAL *x = SUFFIX(sumix_load)(map->dtype, map->data, offset + c * places, count * places, widened);
    if (w != NULL)
      SUFFIX(project_channels)(x, w + c, count, places, acc);
    else
      squares += (double)SUFFIX(correlate_channels)(x, count, places, acc);
  }
  return squares;
}

/* The same for a map of (places, d): once for g, and once more, from the cache, for the products. */
static double SUFFIX(compare_places)(const struct sumix_map *map, int64_t i, const REAL *w, REAL *restrict acc,
                                     REAL *restrict g, REAL *widened)
{
  const int64_t places = map->places, d = map->d, offset = i * map->stride;
  double squares = 0;
  if (w == NULL) {
    for (int64_t c = 0; c < d; c++) g[c] = 0;
    for (int64_t p = 0; p < places; p += BLOCK) {
      const int64_t count = places - p < BLOCK ? places - p : BLOCK;
      const REAL *x = SUFFIX(sumix_load)(map->dtype, map->data, offset + p * d, count * d, widened);
      SUFFIX(add_places)(x, count, d, g);
    }
    for (int64_t c = 0; c < d; c++) {
      g[c] /= (REAL)places;
      squares += (double)g[c] * g[c];
    }
  }
  for (int64_t p = 0; p < places; p += BLOCK) {
    const int64_t count = places - p < BLOCK ? places - p : BLOCK;
    const REAL *x = SUFFIX(sumix_load)(map->dtype, map->data, offset + p * d, count * d, widened);
    SUFFIX(project_places)(x, w != NULL ? w : g, w != NULL ? 0 : 1, count, d, acc + p);
  }
  return squares;
}

/* From the sums of places to the evidence (cells) of image i, over frames: what lies above the mean, or 0 everywhere
 * if that is never more than min_contrast of `squares`; or, if absolute, what lies above 0. */
static void SUFFIX(stand_out)(const REAL *restrict acc, int64_t places, int64_t cells, bool absolute, double squares,
                              double min_contrast, double *restrict evidence)
{
  double mean = 0;
  if (!absolute) {  // 0 but for what rounding g has left, in all places alike
    for (int64_t p = 0; p < places; p++) mean += acc[p];
    mean /= (double)places;
  }
  double most = 0, total = 0;
  memset(evidence, 0, (size_t)cells * sizeof *evidence);
  for (int64_t p = 0; p < places; p++) {
    const double above = acc[p] - mean, e = above < 0 ? 0 : above;  // NaN stays
    most = e > most ? e : most;
    total += e;
    evidence[p % cells] += e;
  }
  if (!absolute && total - total == 0 && most <= min_contrast * squares)  // flat; neither NaN nor infinite
    memset(evidence, 0, (size_t)cells * sizeof *evidence);
}
