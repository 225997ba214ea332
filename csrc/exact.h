/* Included by whatever promises equal bits on every processor, compiler, instruction set and device.
 *
 * Such code is made of what IEEE 754 rounds correctly: + - * / sqrt, conversions, rounding by adding a large number, and
 * fma() where it is written. No other function of libm is among it, and neither is a compiler's choice to fuse a product
 * and a sum: a file that includes this one must be compiled without contraction (-ffp-contract=off, --fmad=false), and
 * defines SUMIX_NO_CONTRACTION to say that it is. Sums are added up in an order that the source fixes.
 *
 * Not promised are the sign and the payload of a NaN, and anything where the program has subnormal numbers flushed to 0
 * (torch.set_flush_denormal).
 */
#ifndef SUMIX_EXACT_H
#define SUMIX_EXACT_H

#ifndef SUMIX_NO_CONTRACTION
#error "compile this with -ffp-contract=off (nvcc: --fmad=false) and -DSUMIX_NO_CONTRACTION"
#endif

#endif
