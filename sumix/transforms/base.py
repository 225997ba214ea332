"""What the mixers share: arguments, labels, partners, and the way from a recipe to mixed images and their target."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from sumix import ranks, tv_tensors
from sumix.evidence.evidence import Evidence, as_evidence
from sumix.evidence.rules import label_weights
from sumix.ops import checks, dispatch
from sumix.ops.mix import LINEAR_DTYPES, soft_labels
from sumix.ops.mix_normalize import mix_normalize
from sumix.ops.sample import PARTNERS, as_seed, perm_of
from sumix.ranks import group_of, members
from sumix.recipe import Recipe, check_label_map, mix_labels, mix_pixels
from sumix.reference import RULES
from sumix.target import MixTarget
from sumix.transforms import docs, options
from sumix.transforms.cross_rank import forward as forward_across_ranks
from sumix.transforms.inputs import ABSENT, Batch, Extra, Inputs, check_getter
from sumix.transforms.workers import apart

LABEL_NAMES = {"y_a": "labels", "y_b": "labels"}  # what the kernel's arguments are to the user
Normalize = tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]


class MixerOptions(TypedDict, total=False):
    """The keyword arguments that every mixer takes, documented at each of them."""

    num_classes: int | None
    label_smoothing: float
    multi_label: bool
    p: float
    per_sample: bool
    partners: str
    normalize: Normalize | None
    dtype: torch.dtype
    ignore_index: int | None
    rule: str | None
    area_weight: float
    cross_rank: Any
    labels_getter: str | Callable[[Any], Any]
    generator: torch.Generator | None


class Mixer(nn.Module):
    """A transform of batches that mixes each image with a partner; a subclass says how, in `draw`.

    Nothing here waits for the device, and all that is drawn comes from one seed.

    Options are attributes, which may be changed at any time. `check_options` checks them all when a mixer is made, and
    again at the first call after a change; a subclass that has options of its own extends it. An attribute that a
    mixer did not have when it was made cannot be set later, because nothing would read it.

    Attributes
    ----------
    mixup_enabled : bool
        True by default. While it is false, images are not mixed, and `lam` is 1; they are still normalised, and labels
        made soft, if the options say so. The name is timm's.
    """

    DIMS: tuple[int, ...] | None = None  # that the images may have; None for any
    looks = 0  # how many tensors `look` finds
    takes_evidence = False  # whether it needs evidence to mix, whatever labels the images
    blends = True  # whether a pixel may show both images at once, whatever is drawn
    volume: bool | None = False  # whether boxes have a depth too; None if the mixer has no boxes
    _names_kept: tuple[str, ...] = ()  # of what `keep` remembers
    _complete = False  # whether the constructor is done
    _checked = False  # whether the options are as `check_options` left them
    _changes = 0  # how often options were set since the constructor
    __prepare_scriptable__ = dispatch.refuse_script

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Document the arguments that all mixers share, and check the options when the constructor is done."""
        super().__init_subclass__(**arguments)
        cls.__doc__ = docs.fill_in(cls.__doc__)
        if "__init__" in vars(cls):
            cls.__init__ = options.completing(cls.__init__)

    @options.completing
    def __init__(
        self,
        *,
        num_classes: int | None = None,
        label_smoothing: float = 0.0,
        multi_label: bool = False,
        p: float = 1.0,
        per_sample: bool = True,
        partners: str = "any",
        normalize: Normalize | None = None,
        dtype: torch.dtype = torch.float32,
        ignore_index: int | None = None,
        rule: str | None = None,
        area_weight: float = 0.0,
        cross_rank: Any = False,
        labels_getter: str | Callable[[Any], Any] = "default",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.num_classes, self.label_smoothing, self.multi_label = num_classes, label_smoothing, multi_label
        self.p, self.per_sample, self.partners = p, per_sample, partners
        self.normalize, self.dtype, self.ignore_index = normalize, dtype, ignore_index
        self.rule, self.area_weight = rule, area_weight
        self.cross_rank, self.labels_getter, self.generator = cross_rank, labels_getter, generator
        self.mixup_enabled = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Options may be changed, in a schedule for `p`, say. One that is a float remains one: see checks.as_float."""
        options.refuse_unknown(self, name)
        super().__setattr__(name, checks.as_float(value) if type(self.__dict__.get(name)) is float else value)
        if not name.startswith("_") and name != "training" and self._complete:
            super().__setattr__("_checked", not torch.compiler.is_compiling() and self._fit())
            super().__setattr__("_changes", self._changes + 1)

    def _fit(self) -> bool:
        """Whether the options, one of which was changed, are right; if not, the next use says what is wrong.

        They are checked here and not at the next use, where torch.compile would take the check into its graph, and not
        refused here, for others may be about to change too.
        """
        super().__setattr__("_complete", False)  # for the checks set options themselves
        try:
            self.check_options()
        except (TypeError, ValueError):
            return False
        finally:
            super().__setattr__("_complete", True)
        return True

    # What a subclass says -------------------------------------------------------------------------------------------

    def check_options(self) -> None:
        """Fail unless the options are what they can be, each by itself and together."""
        if self.num_classes is not None:
            self.num_classes = checks.count(self.num_classes, "num_classes")
        self.label_smoothing = checks.number(self.label_smoothing, "label_smoothing", 0, 1)
        if self.label_smoothing > 0 and self.num_classes is None:
            raise ValueError("label_smoothing must be 0 where num_classes is not given: smooth in the loss")
        if checks.flag(self.multi_label, "multi_label") and self.num_classes is None:
            raise ValueError("multi_label must be False where num_classes is not given: pass it to target.soft")
        self.p = checks.number(self.p, "p", 0, 1)
        checks.flag(self.per_sample, "per_sample")
        checks.choice(self.partners, "partners", PARTNERS)
        self.normalize = _normalize(self.normalize, self.dtype)
        if self.normalize is not None:
            self.keep("_mean", self.normalize[0], "normalize's mean")
            self.keep("_std", self.normalize[1], "normalize's std")
        if self.ignore_index is not None:
            self.ignore_index = checks.integer(self.ignore_index, "ignore_index")
        if self.rule is not None:
            checks.choice(self.rule, "rule", RULES)
        self.area_weight = checks.number(self.area_weight, "area_weight", 0, 1)
        if self.area_weight > 0 and self.rule is None:
            raise ValueError("area_weight must be 0 where rule is not given: all labels are by area then")
        ranks.check(self.cross_rank)
        check_getter(self.labels_getter)
        _generator(self.generator)
        checks.flag(self.mixup_enabled, "mixup_enabled")

    def draw(self, seed: Tensor, n: int, size: tuple[int, ...], seen: list[Tensor]) -> Recipe:
        """A recipe for n samples; `size` (H, W) or (L,), `seen` what `look` found of their partners."""
        raise NotImplementedError

    def look(self, images: Tensor, evidence: Evidence | None) -> list[Tensor]:
        """What `draw` must know of the images, one row each."""
        return []

    # What they all do -----------------------------------------------------------------------------------------------

    def forward(
        self,
        images: Any,
        labels: Any = ABSENT,
        *extras: Any,
        evidence: Evidence | Tensor | None = None,
        generator: torch.Generator | None = None,
        seed: Tensor | int | None = None,
    ) -> Any:
        """Mix images (N, ...) with their labels; returns them with a MixTarget or soft labels, and the extras, mixed.

        Parameters
        ----------
        images : Tensor, shape (N, ...)
            The memory format, contiguous or channels_last, is kept. Differentiable.
        labels : Tensor, shape (N,), any integer dtype, or floating point for regression; or (N, K), floating point or
            multi-hot
        extras : Tensor, shape (N, ..., H, W)
            What else is to be mixed by the same recipe, with the images' spatial size: floating point ones as the
            images are, integers as maps of labels, never averaged. `target.mix(x)` does the same later, and takes
            integers for pixels unless it is given an ignore_index.
        evidence : Evidence, or Tensor, shape (N, h, w), optional
            Where each unmixed image's object is, for a mixer with `rule`; it may also be the first of the extras.
        generator : torch.Generator, optional
            For this call; not under torch.compile. In a DataLoader's workers it is treated like the mixer's own.
        seed : Tensor, shape (), int64, or int, optional
            Instead of a generator: equal seeds give equal mixes.

        Returns
        -------
        mixed : Tensor, like images
        target : MixTarget, or soft labels (N, num_classes), float32
        *extras : Tensor

        Notes
        -----
        Instead, one tuple, list or dictionary that holds images and labels may be given; the result is of the same
        kind, with the mixed images and the target in their places. See the class.
        """
        if self.cross_rank is False:
            batch = self.checked(images, labels, extras, evidence, generator, seed)
            plain = batch.images
            perm = self.draw_partners(batch.labels, batch.seed)
            recipe = self.recipe(plain, batch.evidence, perm, batch.seed)
            weights = self.label_weights(batch.evidence, recipe, perm, plain)
            target = self.target(batch.labels, _partners_of(batch.labels, perm), perm, recipe, weights, plain)
            mixed = self.apply_to_images(plain, recipe, perm)
            others = [self.apply_to_extra(extra, recipe, perm) for extra in batch.extras] if batch.extras else []
        else:
            check = functools.partial(self.checked, images, labels, extras, evidence, generator, seed)
            batch, mixed, target, others = forward_across_ranks(self, check)
        return batch.returned(mixed, target, others)

    def checked(
        self, images: Any, labels: Any, extras: tuple[Any, ...], evidence: Any, generator: Any, seed: Any
    ) -> Batch:
        """The arguments of `forward` as they are worked on, and a seed; fail unless they fit."""
        self.use_options()
        inputs = None
        wanted = evidence is None and (self.rule is not None or self.takes_evidence)
        wanted = wanted or (evidence is None and any(isinstance(extra, Evidence) for extra in extras[:1]))
        if labels is ABSENT or not isinstance(labels, Tensor) or self.labels_getter != "default":
            inputs = Inputs(images if labels is ABSENT else (images, labels, *extras), self.labels_getter)
            evidence = inputs.evidence() if wanted else evidence
            images, labels, (extras, names) = inputs.images, inputs.labels, inputs.along()
        elif extras:
            if wanted:
                evidence, *extras = extras
            names = [f"extras[{k}]" for k in range(len(extras))]
        plain, kind = self._checked_images(images)
        along = [self.check_extra(*one, plain) for one in zip(extras, names, strict=True)] if extras else []
        labels = _labels(labels, plain, self.num_classes, self.multi_label)
        shown = None
        if evidence is not None or wanted:
            shown = self.check_evidence(evidence, plain)
        seed = self._seed(plain, generator, seed)
        return Batch(plain, labels, seed, shown, along, images if kind else None, inputs)

    @property
    def is_checked(self) -> bool:
        """Whether no option has changed since the last check."""
        return self._checked

    def use_options(self) -> None:
        """Check the options if one of them was changed."""
        if not self.is_checked:
            self.check_options()
            self._checked = True

    def unmixed(self, images: Tensor) -> Tensor:
        """The images as `forward` returns those that it leaves alone: normalised if it normalises, else themselves.

        What the raw pass of SUMix takes of 8-bit images: `forward_pair(model, mixed, mix.unmixed(images))`.
        """
        self.use_options()
        plain, kind = self._checked_images(images)
        if self.normalize is None:
            return images
        itself = torch.arange(images.shape[0], device=images.device)
        whole = self.apply_to_images(plain, Recipe(torch.ones_like(itself, dtype=torch.float32)), itself)
        return tv_tensors.wrap(whole, images) if kind else whole

    def draw_partners(self, labels: Tensor, seed: Tensor) -> Tensor:
        """A partner for each row of labels."""
        if self.partners != "cross_class":
            return perm_of(seed, labels.shape[0], self.partners)
        if labels.ndim == 2 or labels.is_floating_point():
            raise ValueError("labels must be (N,), integer, for partners of another class")
        return perm_of(seed, labels.shape[0], self.partners, labels)

    def recipe(self, images: Tensor, evidence: Evidence | None, perm: Tensor, seed: Tensor) -> Recipe:
        """The recipe of the whole batch."""
        if self.looks == 0 or not self.mixup_enabled:
            seen = []
        elif self.per_sample:
            seen = [found.index_select(0, perm) for found in self.look(images, evidence)]
        else:
            seen = self.look_at_one(images, evidence, perm)
        return self.rows(seed, images.shape[0], self.size(images), seen)

    def look_at_one(self, images: Tensor, evidence: Evidence | None, perm: Tensor) -> list[Tensor]:
        """What there is to know of the partner whose recipe serves the whole batch: the first one."""
        if self.looks == 0:
            return []
        first = perm[:1]
        return self.look(images.index_select(0, first), None if evidence is None else evidence[first])

    def rows(self, seed: Tensor, n: int, size: tuple[int, ...], seen: list[Tensor]) -> Recipe:
        """A recipe for each of n samples, or one for all of them, from what was seen of the first partner."""
        if not self.mixup_enabled:
            return self.untouched(n, size, seed.device)
        if self.per_sample or n == 0:
            return self.draw(seed, n, size, seen)
        return self.draw(seed, 1, size, [found[:1] for found in seen]).expand(n)

    def untouched(self, n: int, size: tuple[int, ...], device: torch.device) -> Recipe:
        """The recipe that leaves n images as they are, whatever their dtype."""
        box = None if self.blends else torch.zeros(n, 2 * len(size), dtype=torch.int64, device=device)
        return Recipe(torch.ones(n, dtype=torch.float32, device=device), box)

    def size(self, images: Tensor) -> tuple[int, ...]:
        """(H, W) of images (N, C, H, W) or (N, C, T, H, W), (D, H, W) of volumes (N, C, D, H, W), (L,) of signals."""
        dims = 3 if self.volume else 2 if images.ndim > 3 else 1 if images.ndim > 1 else 0
        return tuple(images.shape[images.ndim - dims :])

    def label_weights(self, evidence: Evidence | None, recipe: Recipe, perm: Tensor, images: Tensor) -> Tensor | None:
        """The labels' weights (N, 3) by the rule; None: by area."""
        if self.rule is None or evidence is None:
            return None
        size = None if recipe.box is None and recipe.mask is None else self.size(images)
        return label_weights(evidence, recipe, perm, size, rule=self.rule, area_weight=self.area_weight)

    def target(
        self, y_a: Tensor, y_b: Tensor, perm: Tensor, recipe: Recipe, weights: Tensor | None, images: Tensor
    ) -> MixTarget | Tensor:
        """What forward returns beside the images."""
        if self.num_classes is not None and y_a.ndim == 1 and weights is None:  # regression takes no num_classes
            return soft_labels(y_a, y_b, recipe.lam, self.num_classes, self.label_smoothing, LABEL_NAMES)
        whole = recipe.box is None and recipe.mask is None
        size = None if whole else self.size(images)
        where = {} if self.cross_rank is False else {"perm_in": "ranks", "ranks": members(group_of(self.cross_rank))}
        target = MixTarget(y_a, y_b, recipe.lam, perm, *recipe[1:], image_size=size, weights=weights, **where)
        if self.num_classes is None:
            return target
        return target.soft(self.num_classes, self.label_smoothing, multi_label=self.multi_label)

    def apply_to_images(self, images: Tensor, recipe: Recipe, perm: Tensor) -> Tensor:
        """The mixed images."""
        if self.normalize is None:
            return mix_pixels(images, recipe, perm)
        lam = recipe.lam if recipe.box is None and recipe.mask is None else None
        parts = {"box": recipe.box, "resize": recipe.resize, "mask": recipe.mask, "lam": lam}
        mean, std = (self.kept(name, images).expand(images.shape[1]) for name in ("_mean", "_std"))
        return mix_normalize(images, perm, **parts, mean=mean, std=std, dtype=self.dtype)

    def apply_to_extra(self, extra: Extra, recipe: Recipe, perm: Tensor) -> Tensor:
        """Another tensor, mixed alike."""
        x = extra.plain
        if x.is_floating_point() or extra.kind in ("Image", "Video"):
            return mix_pixels(x, recipe, perm)
        if self.ignore_index is not None:
            check_label_map(x, extra.name, self.ignore_index)
        return mix_labels(x, recipe, perm, self.ignore_index or 0)

    def check_extra(self, extra: Any, name: str, images: Tensor) -> Extra:
        """Fail unless a tensor can be mixed as the images are, whatever is drawn."""
        kind = tv_tensors.kind_of(extra, name)
        if checks.batch(extra, name).shape[0] != images.shape[0]:
            raise ValueError(f"{name} must be (N, ...) with N = {images.shape[0]}, got {checks.shape(extra)}")
        checks.same_device(extra, name, images, "images")
        size = self.size(images)
        at = extra.ndim - len(size)
        if at < 1 or tuple(extra.shape[at:]) != size or (not size and at > 1):
            expected = ", ".join(("N", "...", *map(str, size)) if size else ("N",))
            raise ValueError(
                f"{name} must be ({expected}) as the images are, got {checks.shape(extra)}: only images and maps of "
                "one size are mixed along. Leave out boxes and the like; target.mix(x) of a MixUp takes other shapes, "
                "where an average makes sense"
            )
        pixels = extra.is_floating_point() or kind in ("Image", "Video")
        if not pixels and self.ignore_index is None and self.blends:
            raise ValueError(f"ignore_index must be given to mix {name}, which is {extra.dtype}: where labels meet")
        return Extra(tv_tensors.plain(extra) if kind else extra, name, kind, extra)

    def check_evidence(self, evidence: Any, images: Tensor) -> Evidence | None:
        """Fail unless the evidence is what this mixer needs, for each of the images."""
        if evidence is None:
            if not self.mixup_enabled:
                return None
            raise ValueError(
                "evidence must be given: mix(images, labels, evidence) with an Evidence or masks (N, h, w)"
            )
        if self.rule is None and not self.takes_evidence:
            raise ValueError(f"evidence must not be given to {type(self).__name__} without rule, say rule='relative'")
        return as_evidence(evidence).checked(images)

    def keep(self, name: str, value: Any, argument: str) -> None:
        """Remember one value per channel, for `kept`; not as a buffer, which `half()` would round."""
        setattr(self, name, checks.per_channel(value, argument))
        if name not in self._names_kept:
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
        defaults = {**options.defaults(type(self)), "mixup_enabled": True}
        del defaults["generator"]
        shown = [(name, getattr(self, name, default), default) for name, default in defaults.items()]
        return ", ".join(
            f"{name}={value!r}"
            for name, value, default in shown
            if value is not default and (isinstance(value, tuple) or value != default)
        )

    def check_images(self, images: Any) -> None:
        """Fail unless `images` can be mixed, whatever is drawn."""
        if not isinstance(images, Tensor):
            raise TypeError(
                f"images must be a Tensor, got {_kind(images)}: mixers take whole batches, (N, C, H, W), which "
                "torch.utils.data.default_collate makes of images of one size, once v2.ToImage has made tensors of them"
            )
        checks.batch(images, "images")
        if self.DIMS is not None and images.ndim not in self.DIMS:
            shapes = {3: "(N, C, L)", 4: "(N, C, H, W)", 5: "(N, C, T, H, W)"}
            if self.volume:
                shapes[5] = "(N, C, D, H, W)"
            expected = " or ".join(shapes[dim] for dim in self.DIMS)
            raise ValueError(f"images must be {expected}, got {checks.shape(images)}")
        if self.normalize is not None:
            self._check_normalizable(images)
        elif self.blends and images.dtype not in LINEAR_DTYPES:
            raise TypeError(f"images must be floating point, uint8 or a signed integer, got {images.dtype}")

    def _checked_images(self, images: Any) -> tuple[Tensor, str]:
        """Images that can be mixed, as an ordinary tensor, and what torchvision calls them, or ""."""
        kind = "" if type(images) is Tensor else tv_tensors.kind_of(images, "images")
        if kind and (images.ndim < 4 or kind == "Mask"):
            what = "masks" if kind == "Mask" else "a single image"
            raise ValueError(f"images must be a batch of images (N, C, H, W), got {what}, {checks.shape(images)}")
        if kind == "Video" and self.volume:
            raise ValueError(
                "images must be volumes (N, C, D, H, W) with volume, got a Video, which is (N, T, C, H, W)"
            )
        plain = tv_tensors.plain(images) if kind else images
        self.check_images(plain)
        return plain, kind

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
        drawn = as_seed(seed, _generator(generator), images.device)
        return drawn if generator is None else apart(drawn)


def _labels(labels: Any, images: Tensor, num_classes: int | None, multi_label: bool) -> Tensor:
    """Classes (N,), int64; numbers (N,), floating point; or soft labels (N, K), float32."""
    if type(labels) is Tensor and labels.dtype is torch.int64 and labels.ndim == 1 and not multi_label:  # as a rule
        return checks.indices(labels, "labels", images, "images")
    if isinstance(labels, Tensor) and labels.dtype in checks.FLOATS and labels.ndim == 1 and num_classes is None:
        if labels.shape[0] != images.shape[0]:
            raise ValueError(f"labels must be (N,) = ({images.shape[0]},), got {checks.shape(labels)}")
        checks.same_device(checks.tensor(labels, "labels"), "labels", images, "images")
        return labels if labels.dtype == torch.float64 else labels.to(torch.float32)
    if not isinstance(labels, Tensor) or labels.ndim != 2:
        if isinstance(labels, Tensor) and labels.dtype not in checks.INTEGERS:
            got = f"{labels.dtype} {checks.shape(labels)}"
            raise TypeError(f"labels must be an integer tensor (N,), or soft or multi-hot (N, K), got {got}")
        if multi_label:
            got = f", got {checks.shape(labels)}" if isinstance(labels, Tensor) else ""
            raise ValueError(f"labels must be (N, K), multi-hot or soft, with multi_label{got}")
        return checks.indices(labels, "labels", images, "images")
    if checks.tensor(labels, "labels").dtype not in (*checks.FLOATS, *checks.INTEGERS, torch.bool):
        raise TypeError(f"labels must be integer or floating point, got {labels.dtype}")
    if labels.shape[0] != images.shape[0] or num_classes not in (None, labels.shape[1]):
        expected = f"({images.shape[0]}, {'K' if num_classes is None else num_classes})"
        raise ValueError(f"labels must be (N,) or (N, K) = {expected}, got {checks.shape(labels)}")
    checks.same_device(labels, "labels", images, "images")
    if not labels.is_floating_point():
        if labels.shape[1] == 1 and not multi_label:
            raise ValueError(f"labels must be (N,), or (N, K) with K > 1 if multi-hot, got {checks.shape(labels)}")
        if dispatch.is_at_hand(labels) and ((labels != 0) & (labels != 1)).any():
            raise ValueError("labels (N, K) of integers must be multi-hot, 0 or 1; classes are (N,)")
    return labels.to(torch.float32)


def _partners_of(labels: Tensor, perm: Tensor) -> Tensor:
    return labels.gather(0, perm if labels.ndim == 1 else perm.unsqueeze(1).expand(labels.shape))


def _kind(value: Any) -> str:
    """What a value is that is no tensor, and, of a list, what it holds."""
    if isinstance(value, torch.fx.Proxy):
        return checks.kind_of(value)
    of = f" of {type(value[0]).__name__}" if isinstance(value, (tuple, list)) and len(value) > 0 else ""
    kind = type(value)
    if of:
        return kind.__name__ + of
    return kind.__name__ if kind.__module__ in ("builtins", "torch") else f"{kind.__module__}.{kind.__qualname__}"


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
