/* sumix::saliency and sumix::saliency_peak: one kernel, which writes the map or only finds its maximum. No gradient. */
#include "device.h"
#include "ops.h"

static int read_scale(StableIValue argument, const char *name, int64_t channels, struct sumix_tensor *scale,
                      struct sumix_status *status)
{
  SUMIX_TRY(sumix_tensor_read_contiguous(argument, name, scale, status));
  SUMIX_CHECK(scale->dim == 1 && (scale->sizes[0] == 0 || scale->sizes[0] == channels), status,
              "%s must be (%lld,), a number a channel, or (0,)", name, (long long)channels);
  return sumix_tensor_expect(scale, SUMIX_FLOAT32, 1, scale->sizes, status);
}

/* All of the kernel's arguments but its outputs. */
static int read_images(const StableIValue *args, struct sumix_tensor *x, struct sumix_saliency_args *images,
                       struct sumix_status *status)
{
  struct sumix_tensor mean, std;
  SUMIX_TRY(sumix_tensor_read(args[0], "x", x, status));
  SUMIX_CHECK(sumix_is_floating(x->dtype) || x->dtype == SUMIX_UINT8, status, "x must be uint8 or floating point");
  SUMIX_CHECK(x->dim == 3 || x->dim == 4, status, "x must be (N, C, H, W) or (N, H, W), got %lld dimensions",
              (long long)x->dim);
  const int64_t channels = x->dim == 4 ? x->sizes[1] : 1;
  SUMIX_CHECK(channels == 1 || channels == 3, status, "x must have 1 or 3 channels, got %lld", (long long)channels);
  const int64_t height = x->sizes[x->dim - 2], width = x->sizes[x->dim - 1], most = (int64_t)1 << 30;
  SUMIX_CHECK(height <= most && width <= most && (width == 0 || height <= most / width), status,
              "x must have at most 2^30 pixels in an image");
  const bool contiguous = sumix_is_contiguous(x);
  SUMIX_CHECK(contiguous || sumix_is_channels_last(x), status, "x must be contiguous or channels_last");
  SUMIX_TRY(read_scale(args[1], "mean", channels, &mean, status));
  SUMIX_TRY(read_scale(args[2], "std", channels, &std, status));
  SUMIX_CHECK(mean.numel == std.numel, status, "mean and std belong together, got one of them");
  *images = (struct sumix_saliency_args){
      .dtype = x->dtype,
      .n = x->sizes[0],
      .channels = channels,
      .height = height,
      .width = width,
      .channels_last = !contiguous,
      .bgr = sumix_bool(args[3]),
      .x = x->data,
      .mean = mean.numel > 0 ? mean.data : NULL,
      .std = mean.numel > 0 ? std.data : NULL,
  };
  return 0;
}

static int run(const struct sumix_tensor *x, struct sumix_saliency_args *images, struct sumix_status *status)
{
  struct sumix_device_scratch scratch;
  SUMIX_TRY(sumix_scratch_new(x, sumix_saliency_scratch(images), &scratch, status));
  images->scratch = scratch.data;
  const int failed = sumix_run_saliency(x, images, status);
  sumix_scratch_free(&scratch);
  return failed;
}

static int saliency(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor x, map;
  struct sumix_saliency_args images;
  SUMIX_TRY(read_images(args, &x, &images, status));
  const int64_t sizes[] = {images.n, images.height, images.width};
  SUMIX_TRY(sumix_tensor_new(&x, SUMIX_UINT8, 3, sizes, NULL, &results[0], &map, status));
  images.map = map.data;
  return run(&x, &images, status);
}
SUMIX_BOXED(saliency, "x", "mean", "std")

static int saliency_peak(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor x, peak;
  struct sumix_saliency_args images;
  SUMIX_TRY(read_images(args, &x, &images, status));
  SUMIX_CHECK(images.n == 0 || images.height * images.width > 0, status, "x has no pixels");
  SUMIX_TRY(sumix_tensor_new(&x, SUMIX_INT64, 2, (const int64_t[]){images.n, 2}, NULL, &results[0], &peak, status));
  images.peak = peak.data;
  return run(&x, &images, status);
}
SUMIX_BOXED(saliency_peak, "x", "mean", "std")

const struct sumix_op_entry sumix_saliency_ops[] = {
    {"saliency(Tensor x, Tensor mean, Tensor std, bool bgr) -> Tensor", "saliency", boxed_saliency},
    {"saliency_peak(Tensor x, Tensor mean, Tensor std, bool bgr) -> Tensor", "saliency_peak", boxed_saliency_peak},
    {0},
};
