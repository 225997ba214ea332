/* What saliency.c does in an image's own type, before it has 8 bits: included once each with REAL and SUFFIX defined.
 */

static void SUFFIX(levels)(enum sumix_dtype dtype, const void *x, int64_t offset, int64_t count,
                           const REAL *restrict shift, const REAL *restrict scale, REAL *restrict scratch,
                           uint8_t *restrict out)
{
  const REAL *values = SUFFIX(sumix_load)(dtype, x, offset, count, scratch);
#pragma omp simd
  for (int64_t j = 0; j < count; j++) out[j] = SUFFIX(sumix_saliency_level)(values[j], shift[j], scale[j]);
}

/* Extends low and high by the finite values. */
static void SUFFIX(range)(enum sumix_dtype dtype, const void *x, int64_t offset, int64_t count, REAL *scratch,
                          REAL *low, REAL *high)
{
  const REAL *values = SUFFIX(sumix_load)(dtype, x, offset, count, scratch);
  REAL least = *low, most = *high;
#pragma omp simd reduction(min : least) reduction(max : most)
  for (int64_t j = 0; j < count; j++) {
    const REAL value = values[j], finite = value - value;  // 0, or NaN
    const REAL below = finite == 0 ? value : (REAL)INFINITY, above = finite == 0 ? value : -(REAL)INFINITY;
    least = below < least ? below : least;
    most = above > most ? above : most;
  }
  *low = least;
  *high = most;
}

/* Sets shift and scale, one for each of the `row` values of a row as they lie in memory, for image i of a batch. */
static void SUFFIX(set_scale)(const struct sumix_saliency_args *args, int64_t i, REAL *restrict shift,
                              REAL *restrict scale, REAL *restrict scratch)
{
  const int64_t row = args->channels * args->width;
  if (args->mean != NULL) {
    for (int64_t j = 0; j < row; j++) {
      const int64_t channel = args->channels_last ? j % args->channels : j / args->width;
      shift[j] = (REAL)args->mean[channel] / (REAL)args->std[channel];
      scale[j] = 255 * (REAL)args->std[channel];
    }
    return;
  }
  REAL low = (REAL)INFINITY, high = -(REAL)INFINITY;
  for (int64_t y = 0; y < args->height; y++)
    SUFFIX(range)(args->dtype, args->x, (i * args->height + y) * row, row, scratch, &low, &high);
  for (int64_t j = 0; j < row; j++) shift[j] = -low, scale[j] = 255 / (high - low);
}

/* The levels of row y of image i, as they lie in memory: a channel after the other, or a pixel after the other. */
static void SUFFIX(row_levels)(const struct sumix_saliency_args *args, int64_t i, int64_t y, const REAL *shift,
                               const REAL *scale, REAL *scratch, uint8_t *out)
{
  const int64_t runs = args->channels_last ? 1 : args->channels, run = args->channels * args->width / runs;
  for (int64_t c = 0; c < runs; c++)
    SUFFIX(levels)(args->dtype, args->x, ((i * runs + c) * args->height + y) * run, run, shift + c * run,
                   scale + c * run, scratch, out + c * run);
}
