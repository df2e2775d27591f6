"""Terms of the universal stage, each against what it is for."""

from __future__ import annotations

import pytest
import torch

from engines import universal_losses as module
from engines.errors import SettingsError
from engines.losses import LossWeights
from engines.network import with_state
from engines.universal_data import Examples
from engines.universal_losses import UniversalWeights, universal_losses, whole_picture
from engines.universal_networks import UniversalNetworks

OFF = UniversalWeights(cycle=0, consistency=0, auxiliary=0, adversary=0)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(4, 1, 32, 32)
    masks[:, :, 8:24, 8:24] = 1
    return Examples(
        inputs=torch.rand(4, 3, 32, 32, generator=generator), truths=torch.rand(4, 3, 32, 32, generator=generator),
        masks=masks, landmarks=32 * torch.rand(4, 68, 2, generator=generator), personas=torch.tensor([0, 1, 1, 0]),
        wearers=torch.tensor([0, 1, 2, 0]), second=torch.rand(4, 3, 32, 32, generator=generator),
        targets=torch.rand(4, 5, generator=generator),
    )  # fmt: skip


@pytest.fixture
def networks(small_sizes):
    return UniversalNetworks(small_sizes, 2, wearers=3, truths=(3, 2), seed=1)


def terms(networks, batch, weights, *, cycle=True, reversal=0.1):
    return universal_losses(networks, batch, LossWeights(code=0), weights, cycle=cycle, reversal=reversal)


def test_the_total_is_the_weighted_sum(networks, batch):
    weights = UniversalWeights(cycle=0.5, consistency=0.25, auxiliary=2, adversary=0.1)
    found = terms(networks, batch, weights)
    swap = LossWeights()
    expected = sum(getattr(swap, n) * found[n] for n in found if hasattr(swap, n))
    expected += 0.5 * found["cycle"] + 0.25 * found["consistency"] + 2 * found["auxiliary"] + found["identity"]
    assert torch.allclose(found["total"], expected)


def test_a_term_without_weight_or_not_due_is_not_computed(small_sizes, batch, monkeypatch):
    bare = UniversalNetworks(small_sizes, 2, wearers=0, truths=(), seed=1)
    calls = []
    monkeypatch.setattr(bare.encoder, "read", lambda *a, f=bare.encoder.read: calls.append(1) or f(*a))
    found = terms(bare, batch, OFF)
    assert not {"cycle", "consistency", "auxiliary", "identity"} & found.keys()
    assert len(calls) == 1
    assert "cycle" not in terms(bare, batch, UniversalWeights(), cycle=False)
    assert "cycle" in terms(bare, batch, UniversalWeights())


def test_a_state_in_the_code_learns_its_truth_and_the_adversary_leaves_it(small_sizes, batch):
    sizes = with_state(small_sizes, mesh_points=0, state_size=5)
    assert sizes.code_size == small_sizes.code_size + 5
    networks = UniversalNetworks(sizes, 2, wearers=3, truths=(3, 2), seed=1)
    assert networks.adversary.layers[0].in_features == small_sizes.code_size
    state = list(networks.encoder.state.parameters())
    found = terms(networks, batch, UniversalWeights())
    assert not any(bool(g.any()) for g in torch.autograd.grad(found["identity"], state, retain_graph=True))
    assert all(float(g.abs().max()) > 0 for g in torch.autograd.grad(found["auxiliary"], state))
    with pytest.raises(SettingsError, match="truths have 4"):
        UniversalNetworks(sizes, 2, wearers=3, truths=(3, 1), seed=1)


def changed(batch, **tensors):
    return Examples(**{name: getattr(batch, name) for name in Examples.__slots__} | tensors)


def test_consistency_vanishes_for_equal_views(networks, batch):
    equal = terms(networks, changed(batch, second=batch.inputs), UniversalWeights())["consistency"]
    assert float(equal.detach()) < 1e-6
    assert float(terms(networks, batch, UniversalWeights())["consistency"].detach()) > 0.01


def test_the_cycle_vanishes_where_the_picture_comes_back(networks, batch):
    # Nothing is replaced, and the truth is the very picture that the code came from.
    echo = changed(batch, truths=batch.inputs, masks=torch.full_like(batch.masks, 1e-6))
    assert float(terms(networks, echo, UniversalWeights())["cycle"].detach()) < 1e-6
    assert float(terms(networks, batch, UniversalWeights())["cycle"].detach()) > 0.01


def test_the_cycle_teaches_decoder_and_encoder_but_not_its_target(networks, batch, monkeypatch):
    seen = []
    monkeypatch.setattr(module.losses, "code_consistency", lambda a, b: seen.append((a, b)) or (a - b).square().mean())
    terms(networks, batch, UniversalWeights(consistency=0))
    target, again = seen[0]
    assert not target.requires_grad
    to_people, to_encoder = torch.autograd.grad(
        again.square().sum(), [networks.people.weight, networks.encoder.to_code.weight]
    )
    assert to_people.abs().max() > 0
    assert to_encoder.abs().max() > 0


def test_the_whole_picture_is_the_face_in_the_mask_and_the_truth_around_it(batch):
    face = torch.zeros_like(batch.truths)
    whole = whole_picture(face, batch, 32)
    assert (whole[:, :, 8:24, 8:24] == 0).all()
    assert torch.equal(whole[:, :, :8], batch.truths[:, :, :8])
    assert whole_picture(face, batch, 16).shape == (4, 3, 16, 16)


def test_the_encoder_gets_the_adversarys_gradient_reversed(networks, batch):
    def slope(reversal):
        found = terms(networks, batch, UniversalWeights(), reversal=reversal)["identity"]
        return torch.autograd.grad(found, [networks.encoder.to_code.weight, networks.adversary.layers[0].weight])

    forward, reversed_ = slope(-1.0), slope(0.1)
    assert torch.allclose(reversed_[0], -0.1 * forward[0], atol=1e-7)
    assert torch.equal(reversed_[1], forward[1])


def test_networks_may_run_in_bfloat16_while_losses_stay_in_float32(networks, batch, monkeypatch):
    exact = terms(networks, batch, UniversalWeights())
    monkeypatch.setattr(module, "_half", lambda on: torch.autocast("cpu", torch.bfloat16))
    found = terms(networks, batch, UniversalWeights())
    assert all(t.dtype == torch.float32 for t in found.values())
    assert float(found["total"].detach()) != float(exact["total"].detach())
    assert float(found["total"].detach()) == pytest.approx(float(exact["total"].detach()), rel=0.02)
    gradients = torch.autograd.grad(found["total"], list(networks.parameters()))
    assert all(bool(torch.isfinite(g).all()) and g.dtype == torch.float32 for g in gradients)
