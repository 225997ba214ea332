"""Hugging Face's Trainer."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers import Trainer

from sumix.evidence.evidence import Evidence
from sumix.loss import SUMixLoss
from sumix.pair import check_mixer, forward_pair
from sumix.transforms import Mixer


class SUMixTrainer(Trainer):
    """A Trainer for image classification that mixes each training batch and takes the loss of the mix.

    Evaluation and prediction are the Trainer's own. Batches hold the model's main input ("pixel_values", as a rule),
    "labels" (N,), integer, and nothing else.

    Parameters
    ----------
    *args, **kwargs
        As for transformers.Trainer.
    mix : Mixer
        For example `CutMix(alpha=0.2)`. Without `num_classes` and `inplace`.
    criterion : SUMixLoss, optional
        `SUMixLoss(gamma=0.0)` if not given, without the regulariser, which can ruin a training with plain logits: see
        the notes of `SUMixLoss`. For a ratio from the model's maps call `capture_features(model)` first.
    evidence : callable, optional
        Makes the evidence of a batch of unmixed images, `NetworkEvidence(model)` for one, for a mixer with `rule`. The
        criterion must then be `SUMixLoss(ratio="area")`, which goes by the weights of that rule.

    Notes
    -----
    The loss is the mean over a batch, so `model_accepts_loss_kwargs` and `loss_is_scaled_for_ga` make the Trainer
    divide it by the number of batches that it accumulates, whatever the model's own loss does.

    Examples
    --------
    >>> capture_features(model)
    >>> criterion = SUMixLoss(gamma=0.0, ratio="feature")
    >>> trainer = SUMixTrainer(model=model, args=arguments, train_dataset=train, mix=CutMix(), criterion=criterion)
    >>> trainer.train()
    """

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *args: Any,
        mix: Mixer,
        criterion: nn.Module | None = None,
        evidence: Callable[[Tensor], Evidence] | None = None,
        **kwargs: Any,
    ) -> None:
        if check_mixer(mix).rule is not None and evidence is None:
            raise ValueError("evidence must be given for a mix with rule: NetworkEvidence(model), for one")
        super().__init__(*args, **kwargs)
        self.evidence = evidence
        self.mix, self.criterion = mix, SUMixLoss(gamma=0.0) if criterion is None else criterion
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The loss of the mixed batch in training; what the Trainer computes in evaluation."""
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        name = getattr(self.model, "main_input_name", "pixel_values")
        if set(inputs) != {name, "labels"}:
            raise ValueError(f"batches must hold only {name!r} and 'labels', got {', '.join(map(repr, inputs))}")
        unmixed = check_mixer(self.mix).unmixed(inputs[name])
        evidence = None if self.evidence is None else self.evidence(unmixed)
        mixed, target = self.mix(inputs[name], inputs["labels"], evidence=evidence)
        output, raw = forward_pair(model, mixed, unmixed)
        loss = self.criterion(output, raw, target)
        return (loss, output) if return_outputs else loss
