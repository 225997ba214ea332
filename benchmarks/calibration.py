"""How far a classifier's confidence is from its accuracy."""

from torch import Tensor


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins of confidence, weighted by the bins' sizes.

    Parameters
    ----------
    probabilities : Tensor, shape (N, K), floating point
        Each row sums to 1.
    labels : Tensor, shape (N,), int64
        The true classes.
    bins : int
        Bins of (0, 1]; bin j holds the confidences in (j / bins, (j + 1) / bins].

    Returns
    -------
    float
        Between 0 and 1; NaN for no samples.

    References
    ----------
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """
    confidence, predicted = probabilities.double().max(dim=1)
    right = (predicted == labels).double()
    bin_of = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gap = (confidence - right).new_zeros(bins).index_add_(0, bin_of, confidence - right)
    return (gap.abs().sum() / len(labels)).item()
