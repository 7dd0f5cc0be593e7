"""LoRA and SSF against the recorded modules, and the worked example of the reference report."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from workbench.adapters.linear import LoRA, ScaleShift


class Nothing(nn.Module):
    """A fused projection (D -> 3D) that gives zeros, so that only LoRA's part is left."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[:-1], 3 * x.shape[-1])


def lora_on_nothing(width: int, rank: int, down: Tensor, up: Tensor, *, alpha: float = 1.0) -> LoRA:
    """The same A and B for q and v."""
    lora = LoRA(Nothing(), width, rank, alpha=alpha, generator=torch.Generator().manual_seed(0)).to(down)
    with torch.no_grad():
        for name in ("q", "v"):
            getattr(lora, f"A_{name}").copy_(down)
            getattr(lora, f"B_{name}").copy_(up)
    return lora


def test_queries_and_values_get_the_recorded_update_and_keys_none(golden: Callable[[str], Any]) -> None:
    case = golden("module_lora")
    width, rank = case.settings["dim"], case.settings["r"]
    lora = lora_on_nothing(width, rank, case.tensor("param.lora_A"), case.tensor("param.lora_B"))
    x = case.tensor("in.x").requires_grad_()
    q, k, v = lora(x).chunk(3, dim=-1)
    case.check(q, "out.y")
    case.check(v, "out.y")
    assert not k.any()
    (q * case.tensor("in.upstream_grad")).sum().backward()
    case.check(x.grad, "grad.x")
    case.check(lora.A_q.grad, "grad.lora_A")
    case.check(lora.B_q.grad, "grad.lora_B")


def test_the_worked_example_of_the_reference() -> None:
    down = torch.tensor([[0.1, -0.2, 0.3, -0.4], [0.5, 0.6, -0.7, 0.8]]).T
    up = torch.tensor([[0.2, -0.1], [0.3, 0.4], [-0.5, 0.6], [0.7, -0.8]]).T
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, -1.0, 1.0, 0.5]])
    expected = torch.tensor([[-0.24, 0.41, 1.09, -1.47], [0.075, -0.135, -0.345, 0.465]])
    torch.testing.assert_close(lora_on_nothing(4, 2, down, up)(x)[:, :4], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(lora_on_nothing(4, 2, down, up, alpha=2.0)(x)[:, :4], 2 * expected, atol=1e-6, rtol=0)


def test_lora_starts_as_the_projection_with_a_in_its_bound() -> None:
    base = nn.Linear(8, 24)
    lora = LoRA(base, 8, 4, alpha=1.0, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(lora(x), base(x))
    assert 0.4 < lora.A_q.abs().max() <= 0.5 and not torch.equal(lora.A_q, lora.A_v)


def test_scale_and_shift_equal_the_recorded_ones_and_start_near_the_identity(golden: Callable[[str], Any]) -> None:
    case = golden("module_ssf")
    module = ScaleShift(case.settings["dim"], generator=torch.Generator().manual_seed(0)).double()
    assert (module.scale - 1).abs().mean() < 0.04 and module.shift.abs().mean() < 0.04
    module.load_state_dict({name: case.tensor(f"param.{name}") for name in ("scale", "shift")})
    x = case.tensor("in.x").requires_grad_()
    y = module(x)
    case.check(y, "out.y")
    (y * case.tensor("in.upstream_grad")).sum().backward()
    case.check(x.grad, "grad.x")
    case.check(module.scale.grad, "grad.scale")
    case.check(module.shift.grad, "grad.shift")
