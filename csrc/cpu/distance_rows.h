/* The steps that the semantic distance and the loss share, for one type: included with REAL, SUFFIX and SQRT defined.
 * Everything is a row of k values in scratch; see semantic_distance.c for the formula. */

/* q = exp(x - max x). Returns the sum of q, so that softmax(x) = q / sum and log sum exp(x) = max + log(sum). */
static REAL SUFFIX(exps)(const REAL *restrict x, int64_t k, REAL *restrict q, REAL *maximum)
{
  REAL max = x[0];
#pragma omp simd reduction(max : max)
  for (int64_t j = 1; j < k; j++) max = x[j] > max ? x[j] : max;

  REAL sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < k; j++) {
    q[j] = SUFFIX(sumix_exp)(x[j] - max);
    sum += q[j];
  }
  *maximum = max;
  return sum;
}

/* In place, q to e = exp(p - m) with p = q * to_p (to_p < 0 turns the sign of p, the caller that of m): the numerator
 * of softmax(p - m), whose denominator cancels against the norm. Both are probabilities, so |p - m| <= 1 and no maximum
 * is needed. Returns ||e||_2, at least exp(-1). */
static REAL SUFFIX(distance)(REAL *restrict q, const REAL *restrict m, REAL to_p, REAL sign, int64_t k)
{
  REAL squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t j = 0; j < k; j++) {
    q[j] = SUFFIX(sumix_exp_unit)(q[j] * to_p - sign * m[j]);
    squares += q[j] * q[j];
  }
  return SQRT(squares);
}
