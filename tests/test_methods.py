"""Published methods as a few lines of sumix, each against its paper's formula, sample by sample."""

import pytest
import torch
import torch.nn.functional as F

from sumix import CutMix, MixTarget, ops
from sumix.evidence import Evidence

N, K, D, SIDE, CELLS = 6, 4, 5, 28, 7
PIXELS = SIDE // CELLS


def given():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(N, 3, SIDE, SIDE, generator=generator)
    features = torch.rand(N, D, CELLS, CELLS, generator=generator)
    return images, torch.arange(N) % K, features, torch.randn(K, D, generator=generator)


def kept(target):
    """(N, CELLS, CELLS): the share of each cell that is not pasted over."""
    pixels = torch.ones(N, 1, SIDE, SIDE)
    for i, (x1, y1, x2, y2) in enumerate(target.box.tolist()):
        pixels[i, :, y1:y2, x1:x2] = 0
    return F.avg_pool2d(pixels, PIXELS).squeeze(1)


def test_snapmix():
    """Label weights are 1 - (the pasted region's share of a's semantic percent map), and its share of b's."""
    images, labels, features, classifier = given()
    activation = torch.einsum("nd,ndhw->nhw", classifier[labels], features).clamp(min=0)
    target = CutMix(alpha=5.0, rule="visible")(images, labels, Evidence(activation), seed=1)[1]
    percent, m = activation / activation.sum((1, 2), keepdim=True), kept(target)
    for i, j in enumerate(target.perm.tolist()):
        want = torch.tensor([1 - ((1 - m[i]) * percent[i]).sum(), ((1 - m[i]) * percent[j]).sum(), 0])
        torch.testing.assert_close(target.weights[i], want)


def test_transmix():
    """lam is the attention of the mixed image's class token to what is kept: A . M with A summing to 1."""
    images, labels, features, _ = given()
    attention = features[:, 0].flatten(1).softmax(dim=1).view(N, CELLS, CELLS)
    target = CutMix()(images, labels, seed=1)[1].relabel(Evidence(attention), of="mixed")
    torch.testing.assert_close(target.label_lam, (attention * kept(target)).sum((1, 2)))
    torch.testing.assert_close(target.weights.sum(1), torch.ones(N))


def test_oa_cutmix():
    """lam is the visible object of a over the visible objects of both: in pixels, or as shares of each object."""
    images, labels, features, _ = given()
    objects = features[:, 1] > 0.6
    target = CutMix()(images, labels, seed=1)[1]
    m, area = kept(target), objects.float()
    for i, j in enumerate(target.perm.tolist()):
        a, b = (m[i] * area[i]).sum(), ((1 - m[i]) * area[j]).sum()
        torch.testing.assert_close(target.relabel(objects, "absolute").label_lam[i], a / (a + b))
        a, b = a / area[i].sum(), b / area[j].sum()
        torch.testing.assert_close(target.relabel(objects).label_lam[i], a / (a + b))


def test_attentive_cutmix():
    """The partner's six most attended cells of a 7 x 7 grid are pasted, and labels are by area."""
    images, labels, features, _ = given()
    perm, attention = torch.arange(N).roll(1), features[:, 0]
    cells = attention.flatten(1)
    chosen = torch.zeros_like(cells).scatter(1, cells.topk(6).indices, 1.0).view_as(attention)[perm]
    mask = F.interpolate(chosen.unsqueeze(1), images.shape[2:]).squeeze(1) == 0
    target = MixTarget(labels, labels[perm], mask.float().mean((1, 2)), perm, mask=mask, image_size=(SIDE, SIDE))
    mixed = target.mix(images)
    for i, j in enumerate(perm.tolist()):
        best = attention[j].flatten().sort(descending=True).indices[:6]
        want = images[i].clone()
        for cell in best.tolist():
            y, x = (PIXELS * (cell // CELLS), PIXELS * (cell % CELLS))
            want[:, y : y + PIXELS, x : x + PIXELS] = images[j, :, y : y + PIXELS, x : x + PIXELS]
        assert torch.equal(mixed[i], want)
        assert target.lam[i].item() == pytest.approx(1 - 6 / CELLS**2)


def test_guidedmixup_by_saliency():
    """Each pixel is mixed by both images' saliency there, and lam is the mean of the pixels' ratios."""
    images, labels, *_ = given()
    perm = torch.arange(N).roll(2)
    saliency = ops.saliency(images) + 1e-3
    saliency = saliency / saliency.sum((1, 2), keepdim=True)
    mask = saliency / (saliency + saliency[perm])
    target = MixTarget(labels, labels[perm], mask.mean((1, 2)), perm, mask=mask, image_size=(SIDE, SIDE))
    mixed = target.mix(images)
    for i, j in enumerate(perm.tolist()):
        ratio = saliency[i] / (saliency[i] + saliency[j])
        torch.testing.assert_close(mixed[i], ratio * images[i] + (1 - ratio) * images[j])
        torch.testing.assert_close(target.soft(K)[i].sum(), torch.tensor(1.0))
