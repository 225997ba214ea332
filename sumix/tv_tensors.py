"""torchvision's tensor types for images, videos and masks, without needing torchvision."""

import sys
from typing import Any

from torch import Tensor

MIXED = ("Image", "Video", "Mask")


def is_one(value: Any) -> bool:
    """Whether a value is any of torchvision's tensors."""
    base = None if type(value) is Tensor else getattr(sys.modules.get("torchvision.tv_tensors"), "TVTensor", None)
    return base is not None and isinstance(value, base)


def is_image(value: Any) -> bool:
    """Whether a value is an image or a video of torchvision's."""
    module = sys.modules.get("torchvision.tv_tensors")
    return is_one(value) and isinstance(value, (module.Image, module.Video))


def is_picture(value: Any) -> bool:
    """Whether a value is an image of Pillow's."""
    base = getattr(sys.modules.get("PIL.Image"), "Image", None)
    return base is not None and isinstance(value, base)


def kind_of(value: Any, name: str) -> str:
    """Which of `MIXED` a tensor of torchvision is, or "" for any other value; fail if it is something else of theirs.

    Boxes and keypoints are coordinates: no mix of pixels makes sense of them.
    """
    if not is_one(value):
        return ""
    module = sys.modules["torchvision.tv_tensors"]
    for kind in MIXED:
        if isinstance(value, getattr(module, kind)):
            return kind
    raise TypeError(
        f"{name} must be pixels to be mixed, got {type(value).__name__}: take it out, and transform it yourself by the "
        "target's perm, box and lam"
    )


def plain(value: Tensor) -> Tensor:
    """The same as an ordinary tensor."""
    return value.as_subclass(Tensor)


def mask(value: Tensor) -> Tensor:
    """A mask of torchvision's, if that is in use, else the tensor itself."""
    module = sys.modules.get("torchvision.tv_tensors")
    return value if module is None else module.Mask(value)


def wrap(value: Tensor, like: Tensor) -> Tensor:
    """A tensor as the kind of torchvision's that `like` is."""
    return sys.modules["torchvision.tv_tensors"].wrap(value, like=like)
