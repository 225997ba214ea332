"""RandomMix: one of several mixers for each batch, or for each sample."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sumix.evidence.evidence import Evidence
from sumix.ops import checks, dispatch
from sumix.ops.sample import sample_seed, sample_uniform
from sumix.recipe import Recipe
from sumix.transforms import options
from sumix.transforms.base import Mixer

# What belongs to RandomMix, and may be given to its mixers if it is the same in all.
COMMON = (
    "num_classes", "label_smoothing", "multi_label", "partners", "normalize", "dtype", "ignore_index", "rule",
    "area_weight", "cross_rank", "labels_getter",
)  # fmt: skip


class RandomMix(Mixer):
    """Mixes each batch, or each of its samples, by one of several mixers.

    Parameters
    ----------
    mixers : sequence of Mixer
        At least one. Their `alpha`, `p`, `per_sample` and other options of their recipes apply. All other options
        belong to RandomMix; if not given here, those that all mixers have in common are taken from them.
    weights : sequence of float, optional
        How often each is chosen, not negative and not all 0, in any unit; equally often if None.
    CHOICE

    Notes
    -----
    The choice is made on the images' device and nothing waits for it: on CPU, one mixer runs per batch; on other
    devices, where it is made for each sample, and under torch.compile, all of them draw and the choice picks a recipe.
    In the target each sample then has a box or a mask, the other being empty or ones.

    CALL

    Examples
    --------
    >>> mix = RandomMix([CutMix(alpha=1.0), MixUp(alpha=0.8)], weights=[2, 1], per_sample=True)
    >>> mixed, target = mix(images, labels)
    """

    def __init__(
        self,
        mixers: Sequence[Mixer],
        weights: Sequence[float] | None = None,
        *,
        per_sample: bool = False,
        **shared: Any,
    ) -> None:
        mixers = _mixers(mixers)
        super().__init__(per_sample=per_sample, **_common(mixers, shared))
        self.mixers = nn.ModuleList(mixers)
        self.weights = weights
        self._taken = [_of_randommix(mixer) for mixer in mixers]

    def check_options(self) -> None:
        """Fail unless the options are what they can be, its mixers' too."""
        super().check_options()
        if len(self.mixers) != len(self._taken):
            raise ValueError(f"mixers must stay {len(self._taken)}, got {len(self.mixers)}: make another RandomMix")
        for at, (mixer, taken) in enumerate(zip(self.mixers, self._taken, strict=True)):
            _check_mixer(mixer, at)
            for name, value in taken.items():
                if not options.alike(getattr(mixer, name, None), value):
                    raise ValueError(f"{name} must be set at RandomMix itself, which ignores that of mixers[{at}]")
        self.weights = _weights(self.weights, len(self.mixers))
        kept = [set(mixer.DIMS) for mixer in self.mixers if mixer.DIMS is not None]
        self.DIMS = tuple(sorted(set.intersection(*kept))) if kept else None
        volumes = [mixer.volume for mixer in self.mixers if mixer.volume is not None]
        if self.DIMS == () or any(volume != volumes[0] for volume in volumes):
            raise ValueError("mixers must have a kind of images in common")
        self.volume = volumes[0] if volumes else None
        self._seen = self._state()

    @property
    def is_checked(self) -> bool:
        """Whether no option has changed since the last check, neither here nor in the mixers."""
        if not self._checked or len(self.mixers) != len(self._taken):
            return False
        # A graph would be compiled anew for every number of changes.
        unchanged = torch.compiler.is_compiling() or self._seen == self._state()
        return unchanged and all(mixer.is_checked for mixer in self.mixers)

    def _state(self) -> list[tuple[Mixer, int]]:
        """Which the mixers are, and how often their options were set."""
        return [(mixer, getattr(mixer, "_changes", 0)) for mixer in self.mixers]

    def look(self, images: Tensor, evidence: Evidence | None) -> list[Tensor]:
        """What the mixers must know of the images."""
        return [found for mixer in self.mixers for found in mixer.look(images, evidence)]

    def recipe(self, images: Tensor, evidence: Evidence | None, perm: Tensor, seed: Tensor) -> Recipe:
        """The recipe of the whole batch."""
        if not self.mixup_enabled:
            return self.untouched(images.shape[0], self.size(images), images.device)
        seeds = sample_seed(len(self.mixers) + 1, seed=seed)
        if not self.per_sample and dispatch.is_at_hand(seed):  # on CPU a value can be looked at
            which = int(self.choose(seeds[0], 1))
            if which < 0:
                return self.untouched(images.shape[0], self.size(images), images.device)
            return self.mixers[which].recipe(images, evidence, perm, seeds[which + 1])
        seen = [found.index_select(0, perm) for found in self.look(images, evidence)]
        return self.rows(seed, images.shape[0], self.size(images), seen)

    def look_at_one(self, images: Tensor, evidence: Evidence | None, perm: Tensor) -> list[Tensor]:
        """What the mixers must know of each partner: those that look at one take the first."""
        return [found.index_select(0, perm) for found in self.look(images, evidence)]

    def rows(self, seed: Tensor, n: int, size: tuple[int, ...], seen: list[Tensor]) -> Recipe:
        """A recipe for each of n samples, from the mixer chosen for it."""
        if not self.mixup_enabled:
            return self.untouched(n, size, seed.device)
        seeds, seen = sample_seed(len(self.mixers) + 1, seed=seed), list(seen)
        recipes = []
        for mixer, own in zip(self.mixers, seeds[1:].unbind(), strict=True):
            recipes.append(mixer.rows(own, n, size, seen[: mixer.looks]))
            seen = seen[mixer.looks :]
        choice = self.choose(seeds[0], n if self.per_sample else 1)
        return merge(recipes, choice.expand(n), size)

    def check_images(self, images: Any) -> None:
        """Fail unless every mixer can mix `images`: which one does is not known yet."""
        super().check_images(images)
        for mixer in self.mixers:
            mixer.check_images(images)

    @property
    def takes_evidence(self) -> bool:
        """Whether one of the mixers does."""
        return any(mixer.takes_evidence for mixer in self.mixers)

    @property
    def blends(self) -> bool:
        """Whether one of the mixers may."""
        return any(mixer.blends for mixer in self.mixers)

    @property
    def looks(self) -> int:
        """How many tensors `look` finds."""
        return sum(mixer.looks for mixer in self.mixers)

    def choose(self, seed: Tensor, n: int) -> Tensor:
        """Which mixer each of n samples gets, or -1 for none (n,)."""
        choosing, mixing = sample_uniform(n, 2, seed=seed).unbind(1)
        choice = torch.zeros_like(choosing, dtype=torch.int64)
        reached = 0.0
        for weight in self.weights[:-1]:
            reached += weight
            choice = choice + (choosing >= reached)
        return choice if dispatch.is_surely(self.p, 1) else choice.where(mixing < self.p, -1)


def merge(recipes: list[Recipe], choice: Tensor, size: tuple[int, ...]) -> Recipe:
    """One recipe of several: sample i takes recipes[choice[i]], or is left as it is where choice[i] is -1."""
    n, device = choice.shape[0], choice.device
    boxes = [recipe.box for recipe in recipes if recipe.box is not None]
    masks = [recipe.mask for recipe in recipes if recipe.mask is not None]
    linear = [recipe for recipe in recipes if recipe.box is None and recipe.mask is None]
    one_each = (1,) * len(size)  # the shape of a mask that is the same all over the image
    lam = torch.ones_like(recipes[0].lam)
    box = torch.zeros_like(boxes[0]) if boxes else None
    resize = choice.new_zeros(n) if any(recipe.resize is not None for recipe in recipes) else None
    mask = None
    if masks or (boxes and linear):
        whole = all(part.shape[1:] == one_each for part in masks)
        hard = not linear and all(part.dtype == torch.bool for part in masks)
        mask = torch.ones(n, *(one_each if whole else size), dtype=torch.bool if hard else torch.float32, device=device)
    for which, recipe in enumerate(recipes):
        chosen = choice == which
        lam = torch.where(chosen, recipe.lam, lam)
        if recipe.box is not None:
            box = torch.where(chosen.unsqueeze(1), recipe.box, box)
        if recipe.resize is not None:
            resize = torch.where(chosen, recipe.resize, resize)
        own = recipe.mask
        if own is None and recipe.box is None and mask is not None:
            own = recipe.lam.view(-1, *one_each)
        if own is not None:
            mask = torch.where(chosen.view(-1, *one_each), own.to(mask.dtype), mask)
    return Recipe(lam, box, mask, resize)


def _mixers(value: Any) -> list[Mixer]:
    if not isinstance(value, (tuple, list, nn.ModuleList)) or len(value) == 0:
        raise TypeError(f"mixers must be a list of sumix's transforms, got {type(value).__name__}")
    for at, mixer in enumerate(value):
        _check_mixer(mixer, at)
        if mixer.generator is not None:
            raise ValueError(f"mixers[{at}] must have no generator: RandomMix has one for all")
        if getattr(mixer, "inplace", False):
            raise ValueError(f"mixers[{at}] must not work in place: samples of one batch may be mixed by another")
    return list(value)


def _check_mixer(mixer: Any, at: int) -> None:
    if not isinstance(mixer, Mixer):
        raise TypeError(f"mixers[{at}] must be one of sumix's transforms, got {type(mixer).__name__}")
    mixer.use_options()


def _common(mixers: list[Mixer], given: dict[str, Any]) -> dict[str, Any]:
    """The options of RandomMix: those given, and those that its mixers agree on."""
    plain, taken = options.defaults(Mixer), dict(given)
    for name in COMMON:
        values = [getattr(mixer, name) for mixer in mixers]
        untouched = [options.defaults(type(mixer))[name] for mixer in mixers]
        if name in given and all(map(options.alike, values, untouched)):
            continue
        if name in given or not all(options.alike(value, values[0]) for value in values):
            got = ", ".join(map(repr, values))
            raise ValueError(f"{name} must be given to RandomMix alone, or be the same in all of its mixers, got {got}")
        if not options.alike(values[0], plain[name]):
            taken[name] = values[0]
    return taken


def _of_randommix(mixer: Mixer) -> dict[str, Any]:
    """The options of a mixer that count no longer, now that it is one of several."""
    return {name: getattr(mixer, name, None) for name in (*COMMON, "generator", "inplace")}


def _weights(value: Any, count: int) -> tuple[float, ...]:
    """Probabilities, one a mixer."""
    if value is None:
        return (1 / count,) * count
    if not isinstance(value, (tuple, list)) or len(value) != count:
        raise ValueError(f"weights must be a list of {count} numbers, one a mixer, got {value!r}")
    weights = [checks.number(weight, f"weights[{at}]", 0) for at, weight in enumerate(value)]
    if sum(weights) == 0:
        raise ValueError("weights must not all be 0")
    return tuple(weight / sum(weights) for weight in weights)
