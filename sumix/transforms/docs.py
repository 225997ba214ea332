"""What the docstrings of all mixers have in common."""

SHARED = """\
    num_classes : int, optional
        If given, soft labels (N, num_classes) are returned instead of a `MixTarget`.
    label_smoothing : float
        Share of the soft labels that is spread evenly over all classes, 0 to 1. With `num_classes` alone: a loss on a
        `MixTarget` smooths itself.
    multi_label : bool
        Whether labels (N, K), multi-hot, are to be smoothed each towards 1/2, as timm's option of that name does, for
        torch.nn.BCEWithLogitsLoss. With `num_classes` alone.
    p : float
        Probability to mix, 0 to 1: of each sample, or of the batch if `per_sample` is false. What is not mixed stays as
        it is, with `lam` 1.
    per_sample : bool
        Whether each sample has a recipe of its own (the default), or one serves the whole batch, as published.
    partners : {"any", "no_fixed_points", "cross_class"}
        A random permutation; one that leaves nobody alone; one that pairs different classes wherever that is possible.
        See `ops.sample_perm`.
    normalize : (mean, std), optional
        For uint8 images (N, C, H, W): return (mix / 255 - mean) / std, a value a channel, computed in the same pass.
        `unmixed(images)` does the same to images that are not to be mixed.
    dtype : torch.dtype
        Of the normalised images: float32, float16 or bfloat16.
    ignore_index : int, optional
        What integer tensors that are mixed along hold where both images show through: needed for them where a mixer
        may blend pixels.
    cross_rank : bool or torch.distributed.ProcessGroup
        Partners are drawn from all ranks of the default group, or of this one. Every rank must bring as many samples,
        of one shape and dtype; else all of them get a ValueError. Their hosts compare this at every call: no GPU is
        waited for, unless the group has NCCL alone. Not in the workers of a DataLoader.
    labels_getter : "default" or callable
        What finds the labels where one container is given, as in torchvision: a callable that is given the container
        and returns one of the tensors in it. See below for the default.
    generator : torch.Generator, optional
        Source of randomness, on the device of the images; torch's default generator if None. In a DataLoader's workers,
        each of which has a copy of it, the worker's seed is added to what it gives: mixes differ between workers and
        between epochs, and repeat where the DataLoader's seeds do (`DataLoader(generator=)`, torch.manual_seed).
"""

INPLACE = """\
    inplace : bool
        Paste into `images` themselves, which must be contiguous or channels_last and require no gradient. SUMix wants
        the unmixed images too: not there.
"""

CALL = """\
    Call it with a batch, `mixed, target = mix(images, labels)`, optionally with `generator=`, or `seed=` (an int64
    tensor of one element on the images' device, or an int), for this call:

    - images : Tensor, any dtype unless said otherwise, contiguous or channels_last, which is kept. They may require
      gradients.
    - labels : Tensor, shape (N,), any integer dtype; or soft or multi-hot labels (N, K), from which soft ones are made;
      or, without `num_classes`, numbers to be predicted, (N,) or (N, K), floating point, for `target.blend()`.
    - whatever follows, `mixed, target, masks = mix(images, labels, masks)`, has the images' spatial size and is mixed
      by the same recipe: floating point tensors as the images are, integers as maps of labels. Boxes, keypoints and
      whatever else is no image and no map are refused; what may be averaged in another shape, `target.mix` of a MixUp
      takes.

    Or with one tuple, list or dictionary, as torchvision's v2 transforms are, which comes back as what it was:
    `mix((images, labels))`, `mix({"image": images, "label": labels})`. Labels are the second item, or under "labels",
    "label" or the first key that has "label" in it, also of a dictionary that is the second item; images are the first
    item, or under "image", "images", "pixel_values", "img", "input" and the like, or the only tensor of 3 dimensions or
    more. Other tensors are mixed along, but for what is a number or a text a sample, which stays as it is. Image, Video
    and Mask of torchvision stay what they are: an Image that is mixed along is pixels whatever its dtype, a Mask a map
    of labels if it holds integers.

    `target` is a `MixTarget`, or with `num_classes` soft labels (N, K), float32. TypeError or ValueError is raised for
    an argument that does not fit. torch.compile(fullgraph=True) takes it, with `seed=` or torch's own randomness.

    Options may be changed at any time, `mix.p = 0.5`, and are checked again. `mix.mixup_enabled = False` leaves all
    images as they are, with `lam` 1, until it is True again.
"""


PER_SAMPLE = """\
    per_sample : bool
        Whether each sample has a recipe of its own (the default), or one serves the whole batch, as published.
"""
CHOICE_PER_SAMPLE = """\
    per_sample : bool
        Whether a mixer is chosen for each sample, or for each batch (the default).
"""


def fill_in(text: str | None) -> str | None:
    """A docstring with the words SHARED, CHOICE, INPLACE and CALL replaced; None as python -OO makes it."""
    if text is not None:
        choice = SHARED.replace(PER_SAMPLE, CHOICE_PER_SAMPLE)
        for name, part in (("SHARED", SHARED), ("CHOICE", choice), ("INPLACE", INPLACE), ("CALL", CALL)):
            text = text.replace(f"    {name}\n", part)
    return text
