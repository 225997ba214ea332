/* The softmax that the semantic distance and the loss share, for one type: included with REAL and SUFFIX defined. */

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
