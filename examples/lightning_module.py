"""PyTorch Lightning: the mix and the pair of forward passes are in training_step, the rest is as usual.

python examples/lightning_module.py
"""

import tempfile

import lightning as pl
import torch
from digits import CLASSES, datasets, network
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sumix import CutMix, SUMixHead, SUMixLoss, forward_pair
from sumix.integrations.torchmetrics import MixAccuracy


class Classifier(pl.LightningModule):
    """A network that is trained with SUMix and validated with cross entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.model = network(SUMixHead(64, CLASSES))
        self.mix, self.criterion, self.mix_accuracy = CutMix(alpha=1.0), SUMixLoss(), MixAccuracy()

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The loss of a mixed batch."""
        images, labels = batch
        mixed, target = self.mix(images, labels)  # on the device
        output, raw = forward_pair(self.model, mixed, images)
        self.mix_accuracy.update(output, target)
        self.log("mix_accuracy", self.mix_accuracy, on_epoch=True, on_step=False)
        return self.criterion(output, raw, target)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Cross entropy and accuracy: in eval mode the head returns plain logits."""
        images, labels = batch
        logits = self.model(images)
        self.log("cross_entropy", nn.functional.cross_entropy(logits, labels))
        self.log("accuracy", (logits.argmax(1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def main() -> None:
    """Train for a few epochs."""
    pl.seed_everything(1, verbose=False)
    train, validation = datasets()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=4, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder
        )
        loaders = DataLoader(train, 32, shuffle=True, drop_last=True), DataLoader(validation, 256)
        trainer.fit(Classifier(), *loaders)
    print(f"validation {trainer.callback_metrics['accuracy']:.1%}")


if __name__ == "__main__":
    main()
