/* The vectorisable exponentials against libm in double (float) and long double (double), and every float16 both ways.
 */
#include <math.h>

#include "../../csrc/cpu/half.h"
#include "no_torch.h"

static double ulps_f32(double got, double want) { return fabs(got - want) / ldexp(1, ilogb(want) - 23); }
static double ulps_f64(double got, long double want)
{
  return (double)(fabsl(got - want) / ldexpl(1, ilogbl(want) - 52));
}

static void test_exponentials(void)
{
  double f32 = 0, f64 = 0, unit_f32 = 0, unit_f64 = 0;
  for (int i = 0; i < 2000000; i++) {
    const float x = (float)(-87.3 + uniform() * 175);
    const double y = -708 + uniform() * 1416, unit = 2 * uniform() - 1;
    f32 = fmax(f32, ulps_f32(sumix_exp_f32(x), exp(x)));
    f64 = fmax(f64, ulps_f64(sumix_exp_f64(y), expl(y)));
    unit_f32 = fmax(unit_f32, ulps_f32(sumix_exp_unit_f32((float)unit), exp((float)unit)));
    unit_f64 = fmax(unit_f64, ulps_f64(sumix_exp_unit_f64(unit), expl(unit)));
  }
  printf("exp: float %.2f ulp, double %.2f; |x| <= 1: float %.2f, double %.2f\n", f32, f64, unit_f32, unit_f64);
  CHECK(f32 < 4 && f64 < 4 && unit_f32 < 4 && unit_f64 < 4);

  CHECK(sumix_exp_f32(0) == 1 && sumix_exp_f64(0) == 1);
  CHECK(sumix_exp_f32(-INFINITY) == 0 && sumix_exp_f64(-INFINITY) == 0);
  CHECK(sumix_exp_f32(-1e30f) == 0 && sumix_exp_f64(-1e300) == 0);
  CHECK(isnan(sumix_exp_f32(NAN)) && isnan(sumix_exp_f64(NAN)));
  CHECK(isnan(sumix_exp_f32(sumix_float_of_bits(0x7fffffffu))));  // a NaN whose low bits would reach the exponent
  CHECK(isnan(sumix_exp_unit_f32(NAN)) && isnan(sumix_exp_unit_f64(NAN)));
}

static void test_halves(void)
{
  for (uint32_t h = 0; h < 65536; h++) {
    const int exponent = (int)(h >> 10) & 31, fraction = (int)(h & 1023);
    const double sign = h & 0x8000 ? -1 : 1;
    const float got = sumix_float_of_half((uint16_t)h), bfloat = sumix_float_of_bfloat((uint16_t)h);
    if (exponent == 31 && fraction != 0) {
      CHECK(isnan(got) && isnan(sumix_float_of_half(sumix_half_of_float(got))));
    } else {
      const double value = exponent == 31  ? INFINITY
                           : exponent == 0 ? ldexp(fraction, -24)
                                           : ldexp(1024 + fraction, exponent - 25);
      CHECK(got == (float)(sign * value));
      CHECK(sumix_half_of_float(got) == h);
    }
    if (isnan(bfloat))
      CHECK(isnan(sumix_float_of_bfloat(sumix_bfloat_of_float(bfloat))));
    else
      CHECK(sumix_bfloat_of_float(bfloat) == h);
  }
  /* Halfway values go to the even neighbour, others to the nearer, beyond the last to infinity. */
  for (uint32_t h = 0; h < 0x7bff; h++) {
    const float low = sumix_float_of_half((uint16_t)h), high = sumix_float_of_half((uint16_t)(h + 1)),
                middle = (low + high) / 2;
    CHECK(sumix_half_of_float(middle) == h + (h & 1));
    CHECK(sumix_half_of_float(nextafterf(middle, INFINITY)) == h + 1 &&
          sumix_half_of_float(nextafterf(middle, 0)) == h);
  }
  CHECK(sumix_half_of_float(65519.996f) == 0x7bff && sumix_half_of_float(65520.0f) == 0x7c00);
  CHECK(sumix_half_of_float(-1e10f) == 0xfc00 && sumix_bfloat_of_float(1.00390625f) == 0x3f80);
}

int main(void)
{
  test_exponentials();
  test_halves();
  puts("maths: passed");
  return 0;
}
