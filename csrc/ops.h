/* The public surface: every op file ends with a table of its ops, and module.c registers the tables named here. */
#ifndef SUMIX_OPS_H
#define SUMIX_OPS_H

#include "torch_abi.h"

struct sumix_op_entry {
  const char *schema, *name;
  BoxedKernel kernel;  // of every device
};

extern const struct sumix_op_entry sumix_uncertainty_ops[], sumix_semantic_distance_ops[], sumix_mask_ops[],
    sumix_loss_ops[], sumix_mix_ops[], sumix_sample_ops[], sumix_saliency_ops[], sumix_mix_mask_ops[],
    sumix_mix_resize_ops[], sumix_mix_inplace_ops[], sumix_mix_normalize_ops[], sumix_masked_similarity_ops[],
    sumix_evidence_mask_ops[], sumix_foreground_ops[];

#endif
