"""What the docstrings of all mixers have in common."""

SHARED = """\
    num_classes : int, optional
        If given, soft labels (N, num_classes) are returned instead of a `MixTarget`.
    label_smoothing : float
        Share of the soft labels that is spread evenly over all classes, 0 to 1. With `num_classes` alone: a loss on a
        `MixTarget` smooths itself.
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
    generator : torch.Generator, optional
        Source of randomness, on the device of the images; torch's default generator if None. In the workers of a
        DataLoader leave it None: torch seeds each worker's default generator differently, but would give every worker a
        copy of this one.
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
    - labels : Tensor, shape (N,), any integer dtype; or soft or multi-hot labels (N, K), from which soft ones are made.
    - whatever follows, `mixed, target, masks = mix(images, labels, masks)`, is mixed by the same recipe: floating point
      tensors as the images are, integers as maps of labels.

    `target` is a `MixTarget`, or with `num_classes` soft labels (N, K), float32. TypeError or ValueError is raised for
    an argument that does not fit. torch.compile(fullgraph=True) takes it, with `seed=` or torch's own randomness.
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
