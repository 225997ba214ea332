"""A plain training loop: validation, gradient accumulation, an average of the weights (EMA), and resuming.

    python examples/plain_loop.py --epochs 2 --checkpoint run.pt
    python examples/plain_loop.py --epochs 4 --checkpoint run.pt   # continues where the first one stopped

What sumix changes in an ordinary loop is marked with "sumix".
"""

import argparse
from pathlib import Path

import torch
from digits import CLASSES, datasets, network
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from sumix import CutMix, SUMixHead, SUMixLoss, forward_pair, mix_accuracy


@torch.no_grad()
def validate(model: nn.Module, loader: DataLoader) -> tuple[float, float]:
    """Cross entropy and accuracy. In eval mode the head returns plain logits, so nothing here depends on sumix."""
    model.eval()
    criterion = nn.CrossEntropyLoss(reduction="sum")  # SUMixLoss is for mixed batches
    loss = correct = count = 0.0
    for images, labels in loader:
        logits = model(images)
        loss += criterion(logits, labels).item()
        correct += (logits.argmax(1) == labels).sum().item()
        count += len(labels)
    return loss / count, correct / count


def main() -> None:
    """Train, and print a line for each epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--accumulate", type=int, default=2, help="batches for each step of the optimizer")
    parser.add_argument("--checkpoint", type=Path, help="written after each epoch, and resumed from")
    options = parser.parse_args()

    torch.manual_seed(1)
    train, validation = datasets()
    loader = DataLoader(train, options.batch_size, shuffle=True, drop_last=True)
    validation_loader = DataLoader(validation, 256)
    model = network(SUMixHead(64, CLASSES))  # sumix: in place of nn.Linear(64, CLASSES)
    mix, criterion = CutMix(alpha=1.0), SUMixLoss()  # sumix
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98), use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    first = 0
    if options.checkpoint is not None and options.checkpoint.exists():
        saved = torch.load(options.checkpoint)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"])  # the mixers draw from torch's default generator
        first = saved["epoch"]

    for epoch in range(first, options.epochs):
        model.train()
        hits = 0.0
        for batch, (images, labels) in enumerate(loader):
            mixed, target = mix(images, labels)  # sumix
            output, raw = forward_pair(model, mixed, images)  # sumix: model(images), and the mixed images beside them
            loss = criterion(output, raw, target)  # sumix
            (loss / options.accumulate).backward()
            if (batch + 1) % options.accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
                average.update_parameters(model)
            hits += mix_accuracy(output.detach(), target).item()
        cross_entropy, accuracy = validate(model, validation_loader)
        averaged = validate(average, validation_loader)[1]
        print(
            f"epoch {epoch + 1}: {hits / len(loader):.1%} of the mixed labels hit, validation {accuracy:.1%} "
            f"(cross entropy {cross_entropy:.3f}), averaged weights {averaged:.1%}"
        )
        if options.checkpoint is not None:
            state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "random": torch.get_rng_state(), "epoch": epoch + 1}, options.checkpoint)


if __name__ == "__main__":
    main()
