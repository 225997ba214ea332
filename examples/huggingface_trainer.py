"""Hugging Face's Trainer: SUMixTrainer in place of Trainer, and what to mix with.

python examples/huggingface_trainer.py
"""

import tempfile

import numpy as np
import torch
from digits import CLASSES, datasets
from transformers import EvalPrediction, ResNetConfig, ResNetForImageClassification, TrainingArguments

from sumix import CutMix, SUMixLoss, capture_features
from sumix.integrations.huggingface import SUMixTrainer


def main() -> None:
    """Train a small ResNet, whose labels follow what its own feature map shows."""
    torch.manual_seed(1)
    config = ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[32, 64], depths=[1, 1], layer_type="basic", num_labels=CLASSES
    )
    model = ResNetForImageClassification(config)
    capture_features(model)
    train, validation = (
        [{"pixel_values": image, "labels": label} for image, label in zip(*data.tensors, strict=True)]
        for data in datasets()
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=4, per_device_train_batch_size=16, gradient_accumulation_steps=2,
            learning_rate=0.05, optim="sgd", seed=1, use_cpu=True, report_to="none", save_strategy="no",
            logging_strategy="no", disable_tqdm=True, dataloader_drop_last=True,
        )  # fmt: skip
        trainer = SUMixTrainer(
            model=model,
            args=arguments,
            train_dataset=train,
            eval_dataset=validation,
            compute_metrics=accuracy,
            mix=CutMix(alpha=1.0),
            criterion=SUMixLoss(gamma=0.0, ratio="feature"),
        )
        trainer.train()
        found = trainer.evaluate()
    print(f"validation {found['eval_accuracy']:.1%} (cross entropy {found['eval_loss']:.3f})")


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Top-1."""
    return {"accuracy": float(np.mean(prediction.predictions.argmax(1) == prediction.label_ids))}


if __name__ == "__main__":
    main()
