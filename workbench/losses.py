"""Losses for long-tailed recognition: pure functions of outputs, labels and training counts, a mean over the batch.

Shapes throughout: logits (B, C) float, what softmax is applied to; cosine (B, C) float in [-1, 1], not scaled; labels
(B,) int64; counts (C,) training images per class, an array, tensor or sequence (on the CPU: checking them then costs
no device synchronisation). float16 and bfloat16 outputs are computed in float32; float64 stays float64.

Notation of the equations: z logits, c cosines, y the label, p softmax, n_k the count of class k, pi_k = n_k / sum n.

Class weights and priors are evaluated in float64 whatever the dtype of the outputs. A class without training images
has no defined weight, margin or log-prior, so every function that takes counts refuses it by name.
Checked against the executed authors' code listed per function; values are the released code's, where it differs from
the paper the function says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Counts = np.ndarray | Tensor | Sequence[int]


def cross_entropy(logits: Tensor, labels: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Softmax cross-entropy, mean of -ln p_y; with class weights (C,), sum_b w_y l_b / sum_b w_y (LDAM-DRW)."""
    logits = _full_precision(logits)
    return F.cross_entropy(logits, labels, weight=_class_weights(weight, logits))


def focal(logits: Tensor, labels: Tensor, *, gamma: float = 2.0, weight: Tensor | None = None) -> Tensor:
    """Focal loss, mean of -(1 - p_y)^gamma ln p_y. Lin et al., ICCV 2017, arXiv 1708.02002, eq. 4 (without alpha).

    The gradient flows through the factor, as in LDAM-DRW and LIFT; GCLLoss and LADE detach it. 1 - p_y is kept above
    the rounding unit, so that gamma < 1 has a finite gradient where p_y rounds to 1. With class weights (C,) ln p_y is
    replaced by w_y ln p_y, in the factor as well, and the mean stays one over images: what the released codes do.
    """
    logits = _full_precision(logits)
    weights = _class_weights(weight, logits)
    negative_log = F.cross_entropy(logits, labels, weight=weights, reduction="none")  # (B,)
    return (_complement(-negative_log).pow(gamma) * negative_log).mean()


def ldam(
    cosine: Tensor,
    labels: Tensor,
    counts: Counts,
    *,
    max_margin: float = 0.5,
    scale: float = 30.0,
    weight: Tensor | None = None,
) -> Tensor:
    """Label-distribution-aware margin: cross-entropy of s (c - m_y on the label). Cao et al., NeurIPS 2019, 1906.07413.

    m_k = max_margin * n_k^(-1/4) / max_j n_j^(-1/4), so the rarest class gets `max_margin`. The cosines are scaled
    here, as in LDAM-DRW; LIFT and GNM-PT hand in logits already times s and subtract s m_y, which is the same.
    weight: (C,) class weights of the last epochs (DRW: `effective_number_weights`); the mean is divided by them.
    """
    cosine = _cosines(cosine, "ldam")
    root = _checked_counts(counts, cosine).pow(-0.25)
    margins = (max_margin * root / root.max()).to(cosine)  # (C,)
    logits = scale * (cosine - F.one_hot(labels, cosine.shape[1]) * margins)
    return F.cross_entropy(logits, labels, weight=_class_weights(weight, cosine))


def effective_number_weights(counts: Counts, *, beta: float) -> Tensor:
    """Class weights (1 - beta) / (1 - beta^n_k), scaled to sum to C: (C,) float64. Cui et al., CVPR 2019, 1901.05555.

    The weights of deferred re-weighting (LDAM-DRW beta 0.9999, GNM-PT 0.9998). beta = 0 weighs all classes equally,
    beta towards 1 by 1/n_k. The released codes evaluate 1 - beta^n in float32, which costs up to 2e-4 relative.
    """
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"beta={beta} is not in [0, 1); the papers use 0.999 to 0.9999.")
    number = _checked_counts(counts)
    weights = -1.0 / torch.expm1(number * np.log(beta)) if beta > 0 else torch.ones_like(number)
    return weights * (len(weights) / weights.sum())


def class_balanced(logits: Tensor, labels: Tensor, counts: Counts, *, beta: float = 0.9999) -> Tensor:
    """Cross-entropy weighted by the effective number of samples: sum_b w_y l_b / sum_b w_y. Cui et al., CVPR 2019.

    w as in `effective_number_weights`. Dividing by the sum of the batch's weights (LIFT) is torch's weighted mean;
    the factor 1 - beta and the scaling to sum C therefore cancel.
    """
    logits = _full_precision(logits)
    weights = effective_number_weights(_checked_counts(counts, logits), beta=beta)
    return F.cross_entropy(logits, labels, weight=weights.to(logits))


def generalized_reweight(logits: Tensor, labels: Tensor, counts: Counts, *, exponent: float = 1.0) -> Tensor:
    """Cross-entropy weighted by pi_y^(-exponent), divided by the batch's weights. Zhang et al., CVPR 2021, 2103.16370.

    exponent 1 is inverse frequency, 0 plain cross-entropy. LIFT divides the weights by their mean, which cancels.
    """
    logits = _full_precision(logits)
    number = _checked_counts(counts, logits)
    weights = (number / number.sum()).pow(-exponent)
    return F.cross_entropy(logits, labels, weight=(weights / weights.mean()).to(logits))


def logit_adjusted(logits: Tensor, labels: Tensor, counts: Counts, *, tau: float = 1.0) -> Tensor:
    """Cross-entropy of z + tau ln pi. Menon et al., ICLR 2021, arXiv 2007.07314; LIFT's loss (tau 1).

    With tau = 1 it equals the balanced softmax (Ren et al., NeurIPS 2020, 2007.10740), whose raw log-counts differ
    from ln pi by a constant that softmax removes. At test time the logits are used as they are.
    """
    logits = _full_precision(logits)
    return F.cross_entropy(logits + tau * _log_prior(counts, logits), labels)


def lade(logits: Tensor, labels: Tensor, counts: Counts, *, weight: float = 0.1, remine_lambda: float = 0.1) -> Tensor:
    """Label distribution disentangling: balanced softmax + `weight` times a bound. Hong et al., CVPR 2021, 2012.00321.

    The bound is the regularised Donsker-Varadhan estimate with importance weights towards uniform labels:
    -sum_k pi_k (mean_{b: y_b = k} z_bk - T_k - lambda T_k^2), T_k = ln (1/B) sum_b exp(z_bk) (1/C) / pi_k.
    A class absent from the batch has mean 0. The small constants are those of the authors' code. As in LIFT the first
    term uses ln pi itself (the authors' own file adds 1e-9 to pi), and the terms of all classes are summed.
    """
    logits = _full_precision(logits)
    number = _checked_counts(counts, logits)
    prior = (number / number.sum()).to(logits)  # (C,)
    batch, classes = logits.shape
    chosen = F.one_hot(labels, classes).to(logits)  # (B, C)
    joint = (chosen * logits).sum(0) / (chosen.sum(0) + 1e-8)  # (C,)
    towards_uniform = np.log(1.0 / classes + 1e-9) - torch.log(prior + 1e-9)
    marginal = torch.logsumexp(logits + towards_uniform, dim=0) - np.log(batch)  # T (C,)
    bound = -(prior * (joint - marginal - remine_lambda * marginal.square())).sum()
    return F.cross_entropy(logits + _log_prior(counts, logits), labels) + weight * bound


def draw_gcl_noise(shape: tuple[int, int], *, generator: torch.Generator) -> Tensor:
    """Raw noise of GCL: `shape` (B, C) float32 from N(0, 1/3), on the generator's device, before clamp and abs."""
    return torch.normal(0.0, 1.0 / 3.0, shape, generator=generator, device=generator.device)


def gcl(
    cosine: Tensor,
    labels: Tensor,
    counts: Counts,
    *,
    scale: float,
    margin: float,
    noise_scale: float,
    noise: Tensor | None = None,
    weight: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Gaussian clouded logits: cross-entropy of s c'. Li, Cheung and Lu, CVPR 2022; GCLLoss, LPT and GNM-PT agree.

    c'_k = c_k - noise_scale |clamp(e_k, -1, 1)| g_k for every class k and c'_y further less `margin`, where
    g_k = (ln n_max - ln n_k) / max_j (ln n_max - ln n_j) is 0 for the largest class and 1 for the rarest.

    The paper's statement leaves out the margin and the division by the largest gap. The authors' focal option is left
    out. Equal counts are 0/0 in the authors' code (NaN); here g = 0, so no noise acts.

    Args:
        noise: e, (B, C), raw: before clamp and abs. None draws it from `generator` by `draw_gcl_noise`.
        weight: (C,) class weights (DRW: `effective_number_weights`), or None. The mean is then divided by the
            weights of the batch, as torch does.
        generator: needed when noise is None and acts. The only source of randomness.
    """
    cosine = _cosines(cosine, "gcl")
    clouded = _clouded(cosine, labels, counts, margin, noise_scale, noise, generator)
    return F.cross_entropy(scale * clouded, labels, weight=_class_weights(weight, cosine))


def asymmetric_gcl(
    cosine: Tensor,
    labels: Tensor,
    counts: Counts,
    *,
    scale: float = 20.0,
    margin: float = 0.1,
    noise_scale: float = 0.5,
    gamma_positive: float = 0.0,
    gamma_negative: float = 4.0,
    smoothing: float = 0.1,
    printed: bool = False,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A-GCL of LPT: GCL's cosines c' under an asymmetric focal loss. Dong et al., ICLR 2023, arXiv 2210.01033, eq. 8.

    Mean over b of -sum_k t_k w_k ln p_k with p = softmax(s c'), t = (1 - smoothing) onehot(y) + smoothing / C,
    w_y = (1 - p_y)^gamma_positive, w_k = p_k^gamma_negative otherwise; the gradient flows through w. Noise: see `gcl`.

    That is the released code. printed=True is eq. 8 with its sign mended: t = 1 for every class, so that negatives
    count in full and `smoothing` does not act; the paper has no margin either: margin=0. Released, without
    smoothing and with gamma_positive 0 it is plain `gcl`. The released code has NaN gradients where p_y rounds to 1
    and gamma_positive < 1 (its own 0.5); here 1 - p_y is kept above the rounding unit and such samples pull ~0.
    """
    cosine = _cosines(cosine, "asymmetric_gcl")
    clouded = _clouded(cosine, labels, counts, margin, noise_scale, noise, generator)
    log_probability = F.log_softmax(scale * clouded, dim=1)  # (B, C)
    chosen = F.one_hot(labels, cosine.shape[1]).bool()
    focus = torch.where(
        chosen,
        _complement(log_probability).pow(gamma_positive),
        (gamma_negative * log_probability).exp(),  # p^gamma without 0^(gamma - 1) in its gradient
    )
    smoothed = (1.0 - smoothing) * chosen.to(cosine) + smoothing / cosine.shape[1]
    target = torch.ones_like(smoothed) if printed else smoothed
    return -(target * focus * log_probability).sum(1).mean()


# Chosen by name: LOSSES[name](logits, labels, counts) on any head, COSINE_LOSSES[name](cosine, labels, counts, ...)
# only on heads with `has_cosine`. "balanced_softmax" is logit adjustment at its default tau = 1.
LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": lambda logits, labels, counts, **options: cross_entropy(logits, labels, **options),
    "focal": lambda logits, labels, counts, **options: focal(logits, labels, **options),
    "class_balanced": class_balanced,
    "generalized_reweight": generalized_reweight,
    "balanced_softmax": logit_adjusted,
    "logit_adjusted": logit_adjusted,
    "lade": lade,
}
COSINE_LOSSES: dict[str, Callable[..., Tensor]] = {"ldam": ldam, "gcl": gcl, "asymmetric_gcl": asymmetric_gcl}
WEIGHTED_LOSSES = ("cross_entropy", "focal", "ldam", "gcl")  # those that take weight= (C,), for deferred re-weighting


def _full_precision(outputs: Tensor) -> Tensor:
    return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs


def _class_weights(weight: Tensor | None, outputs: Tensor) -> Tensor | None:
    if weight is not None and tuple(weight.shape) != (outputs.shape[1],):
        raise ValueError(f"weight has shape {tuple(weight.shape)}, expected ({outputs.shape[1]},), one per class.")
    return None if weight is None else weight.to(outputs)


def _cosines(cosine: Tensor | None, loss: str) -> Tensor:
    if cosine is None:
        raise ValueError(
            f"{loss} needs cosines in [-1, 1] and was given None: the head has no cosine. "
            f"Use the cosine head, or one of the losses {', '.join(LOSSES)}."
        )
    return _full_precision(cosine)


def _checked_counts(counts: Counts, outputs: Tensor | None = None) -> Tensor:
    """Counts as (C,) float64 on the CPU, all at least 1, as many as `outputs` has classes."""
    # an array is copied: those of a data set are read-only, which torch warns of
    number = (counts if isinstance(counts, Tensor) else torch.from_numpy(np.array(counts))).cpu().double()
    if number.ndim != 1 or (outputs is not None and len(number) != outputs.shape[1]):
        expected = "(C,)" if outputs is None else f"({outputs.shape[1]},), one per class of the outputs"
        raise ValueError(f"counts has shape {tuple(number.shape)}, expected {expected}.")
    if (number < 1).any():
        empty = torch.nonzero(number < 1).flatten().tolist()
        raise ValueError(
            f"counts is below 1 for {len(empty)} of {len(number)} classes (the first: {empty[:5]}). Losses that weigh "
            "by frequency need one training image per class: drop these classes, or use cross_entropy or focal."
        )
    return number


def _log_prior(counts: Counts, logits: Tensor) -> Tensor:
    number = _checked_counts(counts, logits)
    return torch.log(number / number.sum()).to(logits)  # (C,)


def _complement(log_probability: Tensor) -> Tensor:
    """1 - p from ln p, accurate for p near 1 and at least the rounding unit, where its powers have finite slopes."""
    return (-torch.expm1(log_probability)).clamp(min=torch.finfo(log_probability.dtype).eps)


def _clouded(
    cosine: Tensor,
    labels: Tensor,
    counts: Counts,
    margin: float,
    noise_scale: float,
    noise: Tensor | None,
    generator: torch.Generator | None,
) -> Tensor:
    """c' of GCL, (B, C): cosines less the noise of every class, less the margin of the label."""
    logarithm = torch.log(_checked_counts(counts, cosine))
    gap = logarithm.max() - logarithm  # (C,)
    clouded = cosine - margin * F.one_hot(labels, cosine.shape[1])
    if noise is not None and noise.shape != cosine.shape:
        raise ValueError(f"noise has shape {tuple(noise.shape)}, expected that of the cosines, {tuple(cosine.shape)}.")
    if noise_scale == 0 or gap.max() == 0:  # equal counts: 0/0 in the definition of the relative gap
        return clouded
    if noise is None:
        if generator is None:
            raise ValueError("GCL draws noise: pass generator=torch.Generator(), or noise= of shape (B, C).")
        noise = draw_gcl_noise((cosine.shape[0], cosine.shape[1]), generator=generator)
    cloud = noise.to(cosine).clamp(-1.0, 1.0).abs()
    return clouded - noise_scale * cloud * (gap / gap.max()).to(cosine)
