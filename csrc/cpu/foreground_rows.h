/* The two means of foreground.c for one type. */

/* One round of one image: what turns sums into means, where weights of the object are `weight` and of the rest 1 -
 * weight, and where results go. */
struct SUFFIX(round) {
  const REAL *weight;                     // (places), 0 to 1
  REAL own, rest, all;                    // 1 / sum weight, 1 / sum (1 - weight), 1 / places
  REAL *restrict mean, *restrict middle;  // (d) of the image, in the first round; then NULL
  double apart;                           // sum of (a - b)^2
  REAL *restrict s;                       // (places): (F_p - (a + b) / 2) . (a - b)
};

/* Channels c.. : from sums, by both weights, of x - origin to a - b and (a + b) / 2. */
static inline void SUFFIX(settle)(struct SUFFIX(round) * round, int64_t c, REAL origin, REAL own, REAL rest,
                                  REAL *restrict apart, REAL *restrict middle)
{
  const REAL a = own * round->own, b = rest * round->rest;
  *apart = a - b;
  *middle = origin + (a + b) / 2;
  round->apart += (double)*apart * (double)*apart;
  if (round->mean == NULL) return;
  round->mean[c] = origin + (own + rest) * round->all;
  round->middle[c] = *middle;
}

/* `count` channels from c on of x (count, places). Four channels a turn, which share their weights. */
static void SUFFIX(part_channels)(struct SUFFIX(round) * round, const REAL *restrict x, int64_t c, int64_t count,
                                  int64_t places)
{
  const REAL *restrict weight = round->weight;
  REAL *restrict s = round->s, apart[4], middle[4];
  const int64_t end = c + count;
  for (; c + 4 <= end; c += 4, x += 4 * places) {
    const REAL *restrict x0 = x, *restrict x1 = x + places, *restrict x2 = x + 2 * places,
                         *restrict x3 = x + 3 * places;
    const REAL o0 = *x0, o1 = *x1, o2 = *x2, o3 = *x3;
    REAL a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
#pragma omp simd reduction(+ : a0, a1, a2, a3, b0, b1, b2, b3)
    for (int64_t p = 0; p < places; p++) {
      const REAL own = weight[p], rest = 1 - own;
      a0 += own * (x0[p] - o0), b0 += rest * (x0[p] - o0);
      a1 += own * (x1[p] - o1), b1 += rest * (x1[p] - o1);
      a2 += own * (x2[p] - o2), b2 += rest * (x2[p] - o2);
      a3 += own * (x3[p] - o3), b3 += rest * (x3[p] - o3);
    }
    SUFFIX(settle)(round, c, o0, a0, b0, &apart[0], &middle[0]);
    SUFFIX(settle)(round, c + 1, o1, a1, b1, &apart[1], &middle[1]);
    SUFFIX(settle)(round, c + 2, o2, a2, b2, &apart[2], &middle[2]);
    SUFFIX(settle)(round, c + 3, o3, a3, b3, &apart[3], &middle[3]);
#pragma omp simd
    for (int64_t p = 0; p < places; p++)
      s[p] += (apart[0] * (x0[p] - middle[0]) + apart[1] * (x1[p] - middle[1])) +
              (apart[2] * (x2[p] - middle[2]) + apart[3] * (x3[p] - middle[3]));
  }
  for (; c < end; c++, x += places) {
    const REAL origin = *x;
    REAL a = 0, b = 0;
#pragma omp simd reduction(+ : a, b)
    for (int64_t p = 0; p < places; p++) {
      a += weight[p] * (x[p] - origin);
      b += (1 - weight[p]) * (x[p] - origin);
    }
    SUFFIX(settle)(round, c, origin, a, b, apart, middle);
#pragma omp simd
    for (int64_t p = 0; p < places; p++) s[p] += apart[0] * (x[p] - middle[0]);
  }
}

/* own[c] += sum over p of weight[p] (x[p, c] - origin[c]), and rest[c] by 1 - weight, for `count` places of x (count,
 * d). */
static void SUFFIX(add_both)(const REAL *restrict x, const REAL *restrict weight, const REAL *restrict origin,
                             int64_t count, int64_t d, REAL *restrict own, REAL *restrict rest)
{
  int64_t p = 0;
  for (; p + 4 <= count; p += 4, x += 4 * d) {
    const REAL w0 = weight[p], w1 = weight[p + 1], w2 = weight[p + 2], w3 = weight[p + 3];
#pragma omp simd
    for (int64_t c = 0; c < d; c++) {
      const REAL y0 = x[c] - origin[c], y1 = x[d + c] - origin[c];
      const REAL y2 = x[2 * d + c] - origin[c], y3 = x[3 * d + c] - origin[c];
      own[c] += (w0 * y0 + w1 * y1) + (w2 * y2 + w3 * y3);
      rest[c] += ((1 - w0) * y0 + (1 - w1) * y1) + ((1 - w2) * y2 + (1 - w3) * y3);
    }
  }
  for (; p < count; p++, x += d) {
#pragma omp simd
    for (int64_t c = 0; c < d; c++) {
      own[c] += weight[p] * (x[c] - origin[c]);
      rest[c] += (1 - weight[p]) * (x[c] - origin[c]);
    }
  }
}

/* s[p] = sum over c of apart[c] (x[p, c] - middle[c]) for `count` places of x (count, d). */
static void SUFFIX(part_places)(const REAL *restrict x, const REAL *restrict apart, const REAL *restrict middle,
                                int64_t count, int64_t d, REAL *restrict s)
{
  int64_t p = 0;
  for (; p + 4 <= count; p += 4, x += 4 * d) {
    const REAL *restrict x0 = x, *restrict x1 = x + d, *restrict x2 = x + 2 * d, *restrict x3 = x + 3 * d;
    REAL s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (int64_t c = 0; c < d; c++) {
      s0 += apart[c] * (x0[c] - middle[c]), s1 += apart[c] * (x1[c] - middle[c]);
      s2 += apart[c] * (x2[c] - middle[c]), s3 += apart[c] * (x3[c] - middle[c]);
    }
    s[p] = s0, s[p + 1] = s1, s[p + 2] = s2, s[p + 3] = s3;
  }
  for (; p < count; p++, x += d) {
    REAL sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < d; c++) sum += apart[c] * (x[c] - middle[c]);
    s[p] = sum;
  }
}

/* A round over image i where channels are outermost. */
static void SUFFIX(round_of_channels)(const struct sumix_map *map, int64_t i, struct SUFFIX(round) * round,
                                      REAL *widened)
{
  const int64_t places = map->places, offset = i * map->stride;
  for (int64_t p = 0; p < places; p++) round->s[p] = 0;
  for (int64_t c = 0; c < map->d; c += BLOCK) {
    const int64_t count = map->d - c < BLOCK ? map->d - c : BLOCK;
    const REAL *x = SUFFIX(sumix_load)(map->dtype, map->data, offset + c * places, count * places, widened);
    SUFFIX(part_channels)(round, x, c, count, places);
  }
}

/* The same where they are innermost. sums: room for 3 d. */
static void SUFFIX(round_of_places)(const struct sumix_map *map, int64_t i, struct SUFFIX(round) * round, REAL *sums,
                                    REAL *widened)
{
  const int64_t places = map->places, d = map->d, offset = i * map->stride;
  REAL *restrict own = sums, *restrict rest = sums + d, *restrict origin = sums + 2 * d;
  memset(sums, 0, (size_t)(2 * d) * sizeof *sums);
  memcpy(origin, SUFFIX(sumix_load)(map->dtype, map->data, offset, d, widened), (size_t)d * sizeof *origin);
  for (int64_t p = 0; p < places; p += BLOCK) {
    const int64_t count = places - p < BLOCK ? places - p : BLOCK;
    const REAL *x = SUFFIX(sumix_load)(map->dtype, map->data, offset + p * d, count * d, widened);
    SUFFIX(add_both)(x, round->weight + p, origin, count, d, own, rest);
  }
  for (int64_t c = 0; c < d; c++) {
    REAL apart, middle;
    SUFFIX(settle)(round, c, origin[c], own[c], rest[c], &apart, &middle);
    own[c] = apart, rest[c] = middle;
  }
  for (int64_t p = 0; p < places; p += BLOCK) {
    const int64_t count = places - p < BLOCK ? places - p : BLOCK;
    const REAL *x = SUFFIX(sumix_load)(map->dtype, map->data, offset + p * d, count * d, widened);
    SUFFIX(part_places)(x, own, rest, count, d, round->s + p);
  }
}

/* What stands out in the coarse map of image i, at the finer one's places. sums: room for places + d and a block. */
static void SUFFIX(stand_out_finer)(const struct sumix_foreground_args *a, int64_t i, double *restrict evidence,
                                    REAL *sums, REAL *restrict s)
{
  const int64_t places = a->coarse.places;
  REAL *const acc = sums, *const g = acc + places, *const block = g + a->coarse.d;
  const double squares = a->coarse.channels_last ? SUFFIX(compare_places)(&a->coarse, i, NULL, acc, g, block)
                                                 : SUFFIX(compare_channels)(&a->coarse, i, NULL, acc, block);
  SUFFIX(stand_out)(acc, places, places, false, squares, a->min_contrast, evidence);
  for (int64_t p = 0; p < a->fine.places; p++)
    s[p] = (REAL)sumix_upsampled(evidence, a->h, a->w, a->fine_h, a->fine_w, p);
}

/* From s to weights and their sums. Returns 1 if there are both kinds of places, 0 if not, or NaN if s is not finite;
 * for these two all weights are 0. */
static REAL SUFFIX(weigh)(const REAL *restrict s, int64_t places, REAL *restrict weight, struct SUFFIX(round) * round)
{
  REAL most = 0;
  double total = 0, own = 0, rest = 0;
  for (int64_t p = 0; p < places; p++) {
    most = s[p] > most ? s[p] : most;
    total += s[p];
  }
  for (int64_t p = 0; p < places; p++) {
    weight[p] = total == 0 ? 0 : s[p] / most;
    own += weight[p];
    rest += 1 - weight[p];
  }
  const REAL kinds = (REAL)(own - own) + (own != 0 && rest != 0 ? 1 : 0);
  if (kinds != 1) memset(weight, 0, (size_t)places * sizeof *weight);
  round->weight = weight;
  round->own = kinds == 1 ? (REAL)(1 / own) : 0;
  round->rest = kinds == 1 ? (REAL)(1 / rest) : 0;
  return kinds;
}

static void SUFFIX(foreground_rows)(int64_t begin, int64_t end, void *context)
{
  struct foreground_task *task = context;
  const struct sumix_foreground_args *a = task->args;
  const int64_t cells = a->coarse.places, places = a->fine.places, d = a->fine.d;
  const int64_t coarse = cells + a->coarse.d + SUFFIX(widened_size)(&a->coarse);
  const int64_t fine = 3 * d + SUFFIX(widened_size)(&a->fine);
  double *const evidence = sumix_scratch(cells, sizeof *evidence);
  REAL *const weight = sumix_scratch(places + (coarse > fine ? coarse : fine), sizeof *weight);
  if (evidence == NULL || weight == NULL) task->failed = true;
  for (int64_t i = begin; i < end && !task->failed; i++) {
    REAL *const s = (REAL *)a->map + i * places, *const sums = weight + places;
    struct SUFFIX(round) round = {.all = 1 / (REAL)places, .s = s};
    round.mean = (REAL *)a->means + i * d;
    round.middle = (REAL *)task->middle + i * d;
    SUFFIX(stand_out_finer)(a, i, evidence, sums, s);
    REAL kinds = 1;
    for (int64_t t = 0; t < a->rounds && kinds == 1; t++) {
      kinds = SUFFIX(weigh)(s, places, weight, &round);
      if (kinds != 1 && t > 0) break;  // the first round takes the means of whatever there is
      round.apart = 0;
      if (a->fine.channels_last)
        SUFFIX(round_of_places)(&a->fine, i, &round, sums, sums + 3 * d);
      else
        SUFFIX(round_of_channels)(&a->fine, i, &round, sums + 3 * d);
      for (int64_t p = 0; p < places; p++) s[p] = s[p] < 0 ? 0 : s[p];  // NaN stays
      if (t == 0) task->apart[i] = kinds == 1 ? round.apart : (double)kinds;
      round.mean = round.middle = NULL;
    }
    for (int64_t p = 0; p < places && kinds != 1; p++) s[p] = kinds;
  }
  free(evidence);
  free(weight);
}
