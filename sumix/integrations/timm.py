"""timm's train.py: what its arguments for mixing mean."""

from typing import Any

from sumix.transforms import CutMix, Mixer, MixUp, RandomMix


def mixer_of(args: Any, **options: Any) -> Mixer:
    """The mixer that timm's arguments ask for.

    Parameters
    ----------
    args : argparse.Namespace
        As parsed by timm's train.py, with `mixup`, `cutmix`, `cutmix_minmax`, `mixup_prob`, `mixup_switch_prob` and
        `mixup_mode`.
    **options
        Further options for the mixers, such as `partners="cross_class"`.

    Returns
    -------
    Mixer
        CutMix, MixUp, or a RandomMix of both.

    Raises
    ------
    ValueError
        If the arguments ask for neither mixup nor cutmix, or for mode "pair", which sumix does not have.
    """
    if args.mixup_mode not in ("batch", "elem"):
        raise ValueError(f'--mixup-mode must be "batch" or "elem", got {args.mixup_mode!r}')
    options.update(p=args.mixup_prob, per_sample=args.mixup_mode == "elem")
    mixers, weights = [], []
    if args.mixup > 0:
        mixers.append(MixUp(alpha=args.mixup, **options))
        weights.append(1 - args.mixup_switch_prob)
    if args.cutmix_minmax is not None:
        mixers.append(CutMix(minmax=tuple(args.cutmix_minmax), **options))
        weights.append(args.mixup_switch_prob)
    elif args.cutmix > 0:
        mixers.append(CutMix(alpha=args.cutmix, **options))
        weights.append(args.mixup_switch_prob)
    if not mixers:
        raise ValueError("--mixup, --cutmix or --cutmix-minmax must be given: there is nothing to mix")
    if len(mixers) == 1:
        return mixers[0]
    return RandomMix(mixers, weights, per_sample=options["per_sample"])
