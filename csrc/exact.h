/* Included by whatever promises equal bits on every processor, compiler, instruction set and device.
 *
 * Such code is made of what IEEE 754 rounds correctly: + - * / sqrt, conversions, rounding by adding a large number, and
 * fma() where it is written. It uses no other function of libm, and compilers must not choose to fuse a product and a
 * sum: a file that includes this one must be compiled without contraction (-ffp-contract=off, --fmad=false), and
 * defines SUMIX_NO_CONTRACTION to say that it is. Sums are added up in an order that the source fixes.
 *
 * The sign and the payload of a NaN are not promised, nor anything while subnormal numbers are flushed to 0
 * (torch.set_flush_denormal).
 */
#ifndef SUMIX_EXACT_H
#define SUMIX_EXACT_H

#ifndef SUMIX_NO_CONTRACTION
#error "compile this with -ffp-contract=off (nvcc: --fmad=false) and -DSUMIX_NO_CONTRACTION"
#endif

#endif
