/* sumix::mix_box_ and sumix::mix_resize_, which write to their first argument: check, run. */
#include "op_mix.h"
#include "ops.h"

/* A kernel that writes to its own boxes or partners would follow what nobody has checked. */
static int expect_apart(const struct sumix_tensor *x, int64_t element, const struct sumix_tensor *how,
                        struct sumix_status *status)
{
  const char *const begin = x->data, *const end = begin + x->numel * element;
  const char *const other = how->data, *const other_end = other + how->numel * (int64_t)sizeof(int64_t);
  SUMIX_CHECK(end <= other || other_end <= begin || x->numel == 0 || how->numel == 0, status,
              "%s must not share memory with %s", x->name, how->name);
  return 0;
}

static int inplace(const struct sumix_tensor *x, StableIValue box_argument, const struct sumix_tensor *resize,
                   StableIValue perm_argument, struct sumix_status *status)
{
  struct sumix_tensor box, perm;
  struct sumix_layout layout;
  const int64_t element = (int64_t)libtorch.aoti_torch_dtype_element_size(x->torch_dtype);
  SUMIX_TRY(layout_of(x, element, &layout, status));
  SUMIX_TRY(read_box(box_argument, x, &box, status));
  SUMIX_TRY(read_indices(perm_argument, "perm", x, &perm, status));
  SUMIX_TRY(expect_apart(x, element, &box, status));
  SUMIX_TRY(expect_apart(x, element, &perm, status));
  if (resize != NULL) SUMIX_TRY(expect_apart(x, element, resize, status));
  struct sumix_mix_inplace_args run = {
      x->dtype, layout, element, x->data, box.data, resize == NULL ? NULL : resize->data, perm.data, NULL};
  struct sumix_device_scratch scratch;
  SUMIX_TRY(sumix_scratch_new(x, sumix_mix_inplace_scratch(&run), &scratch, status));
  run.scratch = scratch.data;
  const int failed = sumix_run_mix_inplace(x, &run, status);
  sumix_scratch_free(&scratch);
  return failed;
}

static int mix_box_(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  (void)results;
  struct sumix_tensor x;
  SUMIX_TRY(sumix_tensor_read(args[0], "x", &x, status));
  return inplace(&x, args[1], NULL, args[2], status);
}
SUMIX_BOXED(mix_box_, "x", "box", "perm")

static int mix_resize_(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  (void)results;
  struct sumix_tensor x, resize;
  SUMIX_TRY(sumix_tensor_read(args[0], "x", &x, status));
  SUMIX_CHECK(x.dim >= 1, status, "x must have a batch dimension");
  SUMIX_TRY(read_indices(args[2], "resize", &x, &resize, status));
  return inplace(&x, args[1], &resize, args[3], status);
}
SUMIX_BOXED(mix_resize_, "x", "box", "resize", "perm")

const struct sumix_op_entry sumix_mix_inplace_ops[] = {
    {"mix_box_(Tensor(a!) x, Tensor box, Tensor perm) -> ()", "mix_box_", boxed_mix_box_},
    {"mix_resize_(Tensor(a!) x, Tensor box, Tensor resize, Tensor perm) -> ()", "mix_resize_", boxed_mix_resize_},
    {0},
};
