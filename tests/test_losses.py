"""Losses against their definitions, written out."""

import torch

from posecli.losses import dekr_heatmap_loss, dekr_offset_loss, joint_mse


def test_joint_mse_is_the_mean_over_joints_of_half_the_mse():
    torch.manual_seed(0)
    heatmap, target, weight = torch.rand(3, 4, 5, 6), torch.rand(3, 4, 5, 6), torch.rand(3, 4)
    expected = sum(
        0.5 * torch.nn.functional.mse_loss(heatmap[:, k] * w, target[:, k] * w)
        for k in range(4)
        for w in [weight[:, k, None, None]]
    )
    torch.testing.assert_close(joint_mse(heatmap, target, weight).mean, expected / 4)


def test_heatmap_loss():
    # One pixel off by 2 with weight 0.1 among 8 pixels: 0.4 / 8.
    heatmap = torch.zeros(1, 2, 2, 2)
    heatmap[0, 0, 0, 0] = 2
    loss = dekr_heatmap_loss(heatmap, torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2, 2), 0.1))
    torch.testing.assert_close(loss.mean, torch.tensor(0.05))


def test_offset_loss():
    # Errors 1 (linear: 1 - 1/18) and 0.1 (quadratic: 0.01 * 9 / 2), weights 0.5; two values count.
    offset = torch.tensor([1.0, 0.1, 7.0]).view(1, 3, 1, 1)
    weight = torch.tensor([0.5, 0.5, 0.0]).view(1, 3, 1, 1)
    loss = dekr_offset_loss(offset, torch.zeros(1, 3, 1, 1), weight)
    torch.testing.assert_close(loss.mean, torch.tensor(0.5 * ((1 - 1 / 18) + 0.045) / 2))


def test_nobody_is_no_loss_but_has_a_gradient():
    offset = torch.rand(1, 2, 3, 3, requires_grad=True)
    loss = dekr_offset_loss(offset, torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3))
    loss.mean.backward()
    assert loss.mean == 0 and not offset.grad.any()


def test_parts_add_up_to_the_whole():
    torch.manual_seed(1)
    offset, target = torch.rand(4, 6, 3, 3), torch.rand(4, 6, 3, 3)
    weight = (torch.rand(4, 6, 3, 3) > 0.7).float()
    parts = [dekr_offset_loss(offset[i], target[i], weight[i]) for i in range(4)]
    together = sum(p.total for p in parts) / sum(p.divisor for p in parts)
    torch.testing.assert_close(dekr_offset_loss(offset, target, weight).mean, together)
