"""What the mixers share: arguments, labels, partners, and the way from a recipe to mixed images and their target."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from sumix import ranks
from sumix.ops import checks, dispatch
from sumix.ops.mix import LINEAR_DTYPES, soft_labels
from sumix.ops.mix_normalize import mix_normalize
from sumix.ops.sample import PARTNERS, as_seed, perm_of
from sumix.ranks import group_of, members
from sumix.recipe import Recipe, check_label_map, mix_labels, mix_pixels
from sumix.target import MixTarget
from sumix.transforms import docs
from sumix.transforms.cross_rank import forward as forward_across_ranks

LABEL_NAMES = {"y_a": "labels", "y_b": "labels"}  # what the kernel's arguments are to the user
Normalize = tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]


class MixerOptions(TypedDict, total=False):
    """The keyword arguments that every mixer takes, documented at each of them."""

    num_classes: int | None
    label_smoothing: float
    p: float
    per_sample: bool
    partners: str
    normalize: Normalize | None
    dtype: torch.dtype
    ignore_index: int | None
    cross_rank: Any
    generator: torch.Generator | None


class Mixer(nn.Module):
    """A transform of batches that mixes each image with a partner; a subclass says how, in `draw`.

    Nothing here waits for the device, and all that is drawn comes from one seed.
    """

    DIMS: tuple[int, ...] | None = None  # that the images may have; None for any
    looks = 0  # how many tensors `look` finds
    blends = True  # whether a pixel may show both images at once, whatever is drawn
    _names_kept: tuple[str, ...] = ()  # of what `keep` remembers
    __prepare_scriptable__ = dispatch.refuse_script

    def __init_subclass__(cls) -> None:
        """Document the arguments that all mixers share, and how they are called, at each of them."""
        super().__init_subclass__()
        cls.__doc__ = docs.fill_in(cls.__doc__)

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        label_smoothing: float = 0.0,
        p: float = 1.0,
        per_sample: bool = True,
        partners: str = "any",
        normalize: Normalize | None = None,
        dtype: torch.dtype = torch.float32,
        ignore_index: int | None = None,
        cross_rank: Any = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = None if num_classes is None else checks.count(num_classes, "num_classes")
        self.label_smoothing = checks.number(label_smoothing, "label_smoothing", 0, 1)
        if label_smoothing > 0 and num_classes is None:
            raise ValueError("label_smoothing must be 0 where num_classes is not given: smooth in the loss")
        self.p = checks.number(p, "p", 0, 1)
        self.per_sample = checks.flag(per_sample, "per_sample")
        checks.choice(partners, "partners", PARTNERS)
        self.partners = partners
        self.normalize, self.dtype = _normalize(normalize, dtype), dtype
        if self.normalize is not None:
            self.keep("_mean", self.normalize[0], "normalize's mean")
            self.keep("_std", self.normalize[1], "normalize's std")
        self.ignore_index = None if ignore_index is None else checks.integer(ignore_index, "ignore_index")
        self.cross_rank = ranks.check(cross_rank)
        self.generator = _generator(generator)

    def __setattr__(self, name: str, value: Any) -> None:
        """Options may be changed, in a schedule for `p`, say; one that is a float remains one: see checks.as_float."""
        super().__setattr__(name, checks.as_float(value) if type(self.__dict__.get(name)) is float else value)

    # What a subclass says -------------------------------------------------------------------------------------------

    def draw(self, seed: Tensor, n: int, size: tuple[int, ...], seen: list[Tensor]) -> Recipe:
        """A recipe for n samples; `size` (H, W) or (L,), `seen` what `look` found of their partners."""
        raise NotImplementedError

    def look(self, images: Tensor) -> list[Tensor]:
        """What `draw` must know of the images, one row each."""
        return []

    # What they all do -----------------------------------------------------------------------------------------------

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        *extras: Tensor,
        generator: torch.Generator | None = None,
        seed: Tensor | int | None = None,
    ) -> tuple[Tensor, ...]:
        """Mix images (N, ...) with their labels; returns them with a MixTarget or soft labels, and the extras, mixed.

        Parameters
        ----------
        images : Tensor, shape (N, ...)
            The memory format, contiguous or channels_last, is kept. Differentiable.
        labels : Tensor, shape (N,), any integer dtype; or (N, K), floating point or multi-hot
        extras : Tensor, shape (N, ..., H, W)
            Mixed by the same recipe: floating point ones as the images are, integers as maps of labels, never averaged.
            `target.mix(x)` does the same later, and takes integers for pixels unless it is given an ignore_index.
        generator : torch.Generator, optional
            For this call; not under torch.compile.
        seed : Tensor, shape (), int64, or int, optional
            Instead of a generator: equal seeds give equal mixes.

        Returns
        -------
        mixed : Tensor, like images
        target : MixTarget, or soft labels (N, num_classes), float32
        *extras : Tensor
        """
        if self.cross_rank is not False:
            return forward_across_ranks(self, images, labels, extras, generator, seed)
        labels, seed = self.checked(images, labels, generator, seed)
        perm = self.draw_partners(labels, seed)
        recipe = self.recipe(images, perm, seed)
        target = self.target(labels, _partners_of(labels, perm), perm, recipe, images)
        mixed = self.apply_to_images(images, recipe, perm)
        if not extras:
            return mixed, target
        size = self.size(images)
        return mixed, target, *(self.apply_to_extra(extra, k, recipe, perm, size) for k, extra in enumerate(extras))

    def checked(
        self, images: Tensor, labels: Tensor, generator: torch.Generator | None, seed: Tensor | int | None
    ) -> tuple[Tensor, Tensor]:
        """The labels in the dtype that targets have, and a seed; fail unless the arguments of `forward` fit."""
        self.check_images(images)
        return _labels(labels, images, self.num_classes), self._seed(images, generator, seed)

    def unmixed(self, images: Tensor) -> Tensor:
        """The images as `forward` returns those that it leaves alone: normalised if it normalises, else themselves.

        What the raw pass of SUMix takes of 8-bit images: `forward_pair(model, mixed, mix.unmixed(images))`.
        """
        self.check_images(images)
        if self.normalize is None:
            return images
        itself = torch.arange(images.shape[0], device=images.device)
        return self.apply_to_images(images, Recipe(torch.ones_like(itself, dtype=torch.float32)), itself)

    def draw_partners(self, labels: Tensor, seed: Tensor) -> Tensor:
        """A partner for each row of labels."""
        if self.partners != "cross_class":
            return perm_of(seed, labels.shape[0], self.partners)
        if labels.ndim == 2:
            raise ValueError("labels must be (N,), integer, for partners of another class")
        return perm_of(seed, labels.shape[0], self.partners, labels)

    def recipe(self, images: Tensor, perm: Tensor, seed: Tensor) -> Recipe:
        """The recipe of the whole batch."""
        if self.looks == 0:
            seen = []
        elif self.per_sample:
            seen = [found.index_select(0, perm) for found in self.look(images)]
        else:
            seen = self.look_at_one(images, perm)
        return self.rows(seed, images.shape[0], self.size(images), seen)

    def look_at_one(self, images: Tensor, perm: Tensor) -> list[Tensor]:
        """What there is to know of the partner whose recipe serves the whole batch: the first one."""
        return self.look(images.index_select(0, perm[:1])) if self.looks > 0 else []

    def rows(self, seed: Tensor, n: int, size: tuple[int, ...], seen: list[Tensor]) -> Recipe:
        """A recipe for each of n samples, or one for all of them, from what was seen of the first partner."""
        if self.per_sample or n == 0:
            return self.draw(seed, n, size, seen)
        return self.draw(seed, 1, size, [found[:1] for found in seen]).expand(n)

    def size(self, images: Tensor) -> tuple[int, ...]:
        """(H, W) of images (N, C, H, W) or (N, C, T, H, W), (L,) of signals (N, C, L)."""
        return tuple(images.shape[-1:] if images.ndim == 3 else images.shape[-2:])

    def target(self, y_a: Tensor, y_b: Tensor, perm: Tensor, recipe: Recipe, images: Tensor) -> MixTarget | Tensor:
        """What forward returns beside the images."""
        if self.num_classes is not None and y_a.ndim == 1:
            return soft_labels(y_a, y_b, recipe.lam, self.num_classes, self.label_smoothing, LABEL_NAMES)
        whole = recipe.box is None and recipe.mask is None
        size = None if whole else self.size(images)
        where = {} if self.cross_rank is False else {"perm_in": "ranks", "ranks": members(group_of(self.cross_rank))}
        target = MixTarget(y_a, y_b, recipe.lam, perm, *recipe[1:], image_size=size, **where)
        return target if self.num_classes is None else target.soft(self.num_classes, self.label_smoothing)

    def apply_to_images(self, images: Tensor, recipe: Recipe, perm: Tensor) -> Tensor:
        """The mixed images."""
        if self.normalize is None:
            return mix_pixels(images, recipe, perm)
        lam = recipe.lam if recipe.box is None and recipe.mask is None else None
        parts = {"box": recipe.box, "resize": recipe.resize, "mask": recipe.mask, "lam": lam}
        mean, std = (self.kept(name, images).expand(images.shape[1]) for name in ("_mean", "_std"))
        return mix_normalize(images, perm, **parts, mean=mean, std=std, dtype=self.dtype)

    def apply_to_extra(self, extra: Any, at: int, recipe: Recipe, perm: Tensor, size: tuple[int, ...]) -> Tensor:
        """Another tensor, mixed alike."""
        name = self.check_extra(extra, at, perm)
        everywhere = recipe.box is None and recipe.mask is None
        if not everywhere and (extra.ndim <= len(size) or tuple(extra.shape[-len(size) :]) != size):
            expected = ", ".join(map(str, size))
            raise ValueError(f"{name} must be (N, ..., {expected}) as the images are, got {checks.shape(extra)}")
        if extra.is_floating_point():
            return mix_pixels(extra, recipe, perm)
        if self.ignore_index is None and self.blends:
            raise ValueError(f"ignore_index must be given to mix {name}, which is {extra.dtype}: where labels meet")
        if self.ignore_index is not None:
            check_label_map(extra, name, self.ignore_index)
        return mix_labels(extra, recipe, perm, self.ignore_index or 0)

    def check_extra(self, extra: Any, at: int, images: Tensor) -> str:
        """Fail unless `extra` has a row for each image, whatever is drawn; returns its name."""
        name, n = f"extras[{at}]", images.shape[0]
        if checks.batch(extra, name).shape[0] != n:
            raise ValueError(f"{name} must be (N, ...) with N = {n}, got {checks.shape(extra)}")
        checks.same_device(extra, name, images, "images")
        return name

    def keep(self, name: str, value: Any, argument: str) -> None:
        """Remember a value a channel, for `kept`; not as a buffer, which `half()` would round."""
        setattr(self, name, checks.per_channel(value, argument))
        self._names_kept = (*self._names_kept, name)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Mixer":
        """What is kept goes where `to` and `cuda` move the module, in float32."""
        super()._apply(fn, recurse)
        for name in self._names_kept:
            value = getattr(self, name)
            setattr(self, name, value.to(fn(value).device))
        return self

    def kept(self, name: str, like: Tensor) -> Tensor:
        """What `keep` remembers, on the device of `like`: moved there once, for every copy waits."""
        value = getattr(self, name)
        if value.device != like.device:
            value = value.to(like.device)
            if not torch.compiler.is_compiling():
                setattr(self, name, value)
        return value

    def extra_repr(self) -> str:
        """The options that are not at their defaults, for repr()."""
        defaults: dict[str, Any] = {}
        for kind in type(self).__mro__[: type(self).__mro__.index(Mixer) + 1]:
            for name, parameter in inspect.signature(kind.__init__).parameters.items():
                if parameter.default is not parameter.empty:
                    defaults.setdefault(name, parameter.default)
        del defaults["generator"]
        shown = [(name, getattr(self, name, default), default) for name, default in defaults.items()]
        return ", ".join(
            f"{name}={value!r}"
            for name, value, default in shown
            if value is not default and (isinstance(value, tuple) or value != default)
        )

    def check_images(self, images: Any) -> None:
        """Fail unless `images` can be mixed, whatever is drawn."""
        checks.batch(images, "images")
        if self.DIMS is not None and images.ndim not in self.DIMS:
            shapes = {3: "(N, C, L)", 4: "(N, C, H, W)", 5: "(N, C, T, H, W)"}
            expected = " or ".join(shapes[dim] for dim in self.DIMS)
            raise ValueError(f"images must be {expected}, got {checks.shape(images)}")
        if self.normalize is not None:
            self._check_normalizable(images)
        elif self.blends and images.dtype not in LINEAR_DTYPES:
            raise TypeError(f"images must be floating point, uint8 or a signed integer, got {images.dtype}")

    def _check_normalizable(self, images: Tensor) -> None:
        if images.dtype is not torch.uint8:
            raise TypeError(f"images must be uint8 with normalize, got {images.dtype}")
        if images.ndim != 4:
            raise ValueError(f"images must be (N, C, H, W) with normalize, got {checks.shape(images)}")
        for name, value in ("mean", self._mean), ("std", self._std):
            if value.shape[0] not in (1, images.shape[1]):
                raise ValueError(
                    f"normalize's {name} must be a number, or {images.shape[1]} of them as images have so many "
                    f"channels, got {value.shape[0]}"
                )

    def _seed(self, images: Tensor, generator: torch.Generator | None, seed: Any) -> Tensor:
        if generator is None and seed is None:
            generator = self.generator
        return as_seed(seed, _generator(generator), images.device)


def _labels(labels: Any, images: Tensor, num_classes: int | None) -> Tensor:
    """Classes (N,), int64, or soft labels (N, K), float32."""
    if not isinstance(labels, Tensor) or labels.ndim != 2:
        if isinstance(labels, Tensor) and labels.dtype not in checks.INTEGERS:
            got = f"{labels.dtype} {checks.shape(labels)}"
            raise TypeError(f"labels must be an integer tensor (N,), or soft or multi-hot (N, K), got {got}")
        return checks.indices(labels, "labels", images, "images")
    if checks.tensor(labels, "labels").dtype not in (*checks.FLOATS, *checks.INTEGERS, torch.bool):
        raise TypeError(f"labels must be integer or floating point, got {labels.dtype}")
    if labels.shape[0] != images.shape[0] or num_classes not in (None, labels.shape[1]):
        expected = f"({images.shape[0]}, {'K' if num_classes is None else num_classes})"
        raise ValueError(f"labels must be (N,) or (N, K) = {expected}, got {checks.shape(labels)}")
    checks.same_device(labels, "labels", images, "images")
    if not labels.is_floating_point():
        if labels.shape[1] == 1:
            raise ValueError(f"labels must be (N,), or (N, K) with K > 1 if multi-hot, got {checks.shape(labels)}")
        if dispatch.is_at_hand(labels) and ((labels != 0) & (labels != 1)).any():
            raise ValueError("labels (N, K) of integers must be multi-hot, 0 or 1; classes are (N,)")
    return labels.to(torch.float32)


def _partners_of(labels: Tensor, perm: Tensor) -> Tensor:
    return labels.gather(0, perm if labels.ndim == 1 else perm.unsqueeze(1).expand(labels.shape))


def _normalize(value: Any, dtype: Any) -> Normalize | None:
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"dtype must be torch.float32, torch.float16 or torch.bfloat16, got {dtype}")
    if value is None:
        if dtype is not torch.float32:
            raise ValueError("dtype must be left alone where normalize is not given: a mix keeps the images' dtype")
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"normalize must be a pair (mean, std), got {type(value).__name__}")
    return tuple(value)


def _generator(value: Any) -> torch.Generator | None:
    if value is not None and not isinstance(value, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(value).__name__}")
    return value
