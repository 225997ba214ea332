"""What the docstrings of all mixers have in common."""

SHARED = """\
    num_classes : int, optional
        If given, soft labels (N, num_classes) are returned instead of a `MixTarget`.
    label_smoothing : float
        Share of the soft labels that is spread evenly over all classes, 0 to 1. Only with `num_classes`: a loss that
        takes a `MixTarget` does its own smoothing.
    multi_label : bool
        Whether multi-hot labels (N, K) are each smoothed towards 1/2, as timm's option of that name does, for
        torch.nn.BCEWithLogitsLoss. Only with `num_classes`.
    p : float
        Probability to mix, 0 to 1: of each sample, or of the batch if `per_sample` is false. What is not mixed stays as
        it is, with `lam` 1.
    per_sample : bool
        Whether each sample has a recipe of its own (the default), or one serves the whole batch, as published.
    partners : {"any", "no_fixed_points", "cross_class"}
        A random permutation; one in which no sample is its own partner; or one that pairs different classes wherever
        that is possible. See `ops.sample_perm`.
    normalize : (mean, std), optional
        For uint8 images (N, C, H, W): return (mix / 255 - mean) / std, with one value per channel, in the same
        pass. `unmixed(images)` does the same to images that are not to be mixed.
    dtype : torch.dtype
        Of the normalised images: float32, float16 or bfloat16.
    ignore_index : int, optional
        The label that integer tensors which are mixed along get where both images show through. Such tensors need it if
        the mixer may blend pixels.
    rule : {"relative", "visible", "absolute", "uncertain"}, optional
        Label by evidence instead of area: `mix(images, labels, evidence)` then takes an `Evidence`, or masks of the
        unmixed images' objects, and the target has `weights`. See `MixTarget.relabel` for the rules. In a tuple or
        dictionary of one batch, the evidence is the third item, or under "evidence"; gates (N,) of bare maps are the
        item after them, or under "gate".
    area_weight : float
        Share of the labels that stays by area with `rule`, 0 to 1.
    cross_rank : bool or torch.distributed.ProcessGroup
        Partners are drawn from all ranks of the default group, or of this one. Every rank must bring equally many
        samples, of one shape and dtype; otherwise all ranks raise a ValueError. Their hosts compare this at every call,
        without waiting for a GPU unless the group has only NCCL. Not in the workers of a DataLoader.
    labels_getter : "default" or callable
        How to find the labels in a container, as in torchvision: a callable that takes the container and returns one
        of the tensors in it. See below for the default.
    generator : torch.Generator, optional
        Source of randomness, on the device of the images; torch's default generator if None. In a DataLoader's workers,
        each of which has a copy of it, the worker's seed is added to what it gives: mixes differ between workers and
        between epochs, and repeat where the DataLoader's seeds do (`DataLoader(generator=)`, torch.manual_seed).
"""

INPLACE = """\
    inplace : bool
        Paste into `images` themselves, which must be contiguous or channels_last and require no gradient. Not for
        SUMix, which needs the unmixed images too.
"""

CALL = """\
    Call it with a batch, `mixed, target = mix(images, labels)`, optionally with `generator=`, or `seed=` (an int64
    tensor of one element on the images' device, or an int), for this call:

    - images : Tensor, any dtype unless said otherwise, contiguous or channels_last, which is kept. They may require
      gradients.
    - labels : Tensor, shape (N,), any integer dtype; or soft or multi-hot labels (N, K), from which soft ones are made;
      or, without `num_classes`, numbers to be predicted, (N,) or (N, K), floating point, for `target.blend()`.
    - further tensors, `mixed, target, masks = mix(images, labels, masks)`, must have the images' spatial size. They are
      mixed by the same recipe: floating point tensors as the images are, integers as maps of labels. Boxes, keypoints
      and anything else that is neither an image nor a map are refused; tensors of other shapes that may be averaged go
      to `target.mix` of a MixUp.

    Or call it with one tuple, list or dictionary, as torchvision's v2 transforms; the result is of the same kind:
    `mix((images, labels))`, `mix({"image": images, "label": labels})`. Labels are the second item, or under "labels",
    "label" or the first key that has "label" in it, also of a dictionary that is the second item; images are the first
    item, or under "image", "images", "pixel_values", "img", "input" and the like, or the only tensor of 3 dimensions or
    more. Other tensors are mixed along; what holds one number or text per sample stays as it is. torchvision's Image,
    Video and Mask keep their types: an Image that is mixed along is pixels whatever its dtype, a Mask is a map of
    labels if it holds integers.

    `target` is a `MixTarget`, or with `num_classes` soft labels (N, K), float32. TypeError or ValueError is raised for
    an argument that does not fit. It works under torch.compile(fullgraph=True), with `seed=` or torch's own
    randomness.

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
