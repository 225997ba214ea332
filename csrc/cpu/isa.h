/* SUMIX_KERNEL(loss) is sumix_loss_cpu_v3 when this file's folder is compiled with -DSUMIX_ISA=v3. */
#ifndef SUMIX_CPU_ISA_H
#define SUMIX_CPU_ISA_H

#include "../kernels.h"

#ifndef SUMIX_ISA
#define SUMIX_ISA baseline
#endif

#define SUMIX_JOIN_(name, isa) sumix_##name##_cpu_##isa
#define SUMIX_JOIN(name, isa) SUMIX_JOIN_(name, isa)
#define SUMIX_KERNEL(name) SUMIX_JOIN(name, SUMIX_ISA)

#endif
