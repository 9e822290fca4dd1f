"""The losses have values that one can check in the head."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hqclip.config import TrainConfig
from hqclip.train import losses
from hqclip.train.batches import Batch, tag_targets
from hqclip.train.losses import Outputs

ONE = torch.tensor(1.0)
NONE = torch.zeros(0, 8)
LN2 = math.log(2)
Tensor = torch.Tensor


def contrastive(image_ND: Tensor, text_ND: Tensor, scale: Tensor, rows: slice = slice(None)) -> Tensor:
    outputs = Outputs(image_ND[rows], text_ND[rows], NONE, NONE, scale, image_ND, text_ND, rows)
    value, shown = losses.contrastive(outputs, Batch(NONE, NONE, NONE, NONE, NONE, 0, 0))
    assert not shown
    return value


def hard_negative_identification(
    image_PD: Tensor, positive_PD: Tensor, negative_PD: Tensor, scale: Tensor, number: float
) -> tuple[Tensor, Tensor]:
    """Loss and accuracy, among the rows of one image and text more without a negative."""
    image_BD, text_BD = (F.pad(rows_PD, (0, 0, 0, 1), value=9.0) for rows_PD in (image_PD, positive_PD))
    outputs = Outputs(image_BD, text_BD, negative_PD, NONE, scale, image_BD, text_BD, slice(None))
    value, shown = losses.hard_negative_identification(outputs, Batch(NONE, NONE, NONE, NONE, NONE, number, 0))
    return value, shown["negative_accuracy"]


def short_tag_classification(logits_BT: Tensor, target_BT: Tensor, weight_BT: Tensor, number: float) -> Tensor:
    outputs = Outputs(NONE, NONE, NONE, logits_BT, ONE, NONE, NONE, slice(None))
    value, shown = losses.short_tag_classification(outputs, Batch(NONE, NONE, NONE, target_BT, weight_BT, 0, number))
    assert not shown
    return value


def unit(rows: int, width: int, seed: int = 0) -> Tensor:
    """Random unit-length rows."""
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_contrast_is_ln_n_for_embeddings_that_say_nothing() -> None:
    same_BD = torch.ones(8, 4) / 2
    assert contrastive(same_BD, same_BD, 100 * ONE).item() == pytest.approx(math.log(8))
    assert contrastive(unit(64, 4096, 0), unit(64, 4096, 1), ONE).item() == pytest.approx(math.log(64), rel=1e-3)


def test_contrast_of_two_orthogonal_pairs() -> None:
    eye_BD = torch.eye(2)
    right, wrong = math.log(1 + math.exp(-3)), math.log(1 + math.exp(3))
    assert contrastive(eye_BD, eye_BD, 3 * ONE).item() == pytest.approx(right)
    assert contrastive(eye_BD, eye_BD.flip(0), 3 * ONE).item() == pytest.approx(wrong)


def test_contrast_treats_images_and_texts_alike() -> None:
    image_BD, text_BD = unit(6, 5, 0), unit(6, 5, 1)
    there, back = contrastive(image_BD, text_BD, 9 * ONE), contrastive(text_BD, image_BD, 9 * ONE)
    assert there.item() == pytest.approx(back.item())


def test_contrast_asks_in_both_directions() -> None:
    image_BD, text_BD = torch.tensor([[1.0, 0], [1, 0]]), torch.eye(2)
    to_text, to_image = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2, LN2
    assert contrastive(image_BD, text_BD, ONE).item() == pytest.approx((to_text + to_image) / 2)


def test_telling_a_description_from_itself_is_a_coin_toss() -> None:
    image_PD, text_PD = unit(5, 8, 0), unit(5, 8, 1)
    loss, accuracy = hard_negative_identification(image_PD, text_PD, text_PD.clone(), 50 * ONE, 5)
    assert (loss.item(), accuracy.item()) == (pytest.approx(LN2), 0)


def test_an_image_that_knows_its_description_has_little_to_lose() -> None:
    image_PD = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0]])
    right_PD, wrong_PD = image_PD.clone(), torch.tensor([[0.0, 1]]).expand(4, 2).clone()
    loss, accuracy = hard_negative_identification(image_PD, right_PD, wrong_PD, 10 * ONE, 4)
    assert (loss.item(), accuracy.item()) == (pytest.approx(math.log(1 + math.exp(-10))), 1)
    loss, accuracy = hard_negative_identification(image_PD, wrong_PD, right_PD, 10 * ONE, 4)
    assert (loss.item(), accuracy.item()) == (pytest.approx(10, rel=1e-4), 0)
    right_PD[0], wrong_PD[0] = wrong_PD[0].clone(), right_PD[0].clone()
    assert hard_negative_identification(image_PD, right_PD, wrong_PD, ONE, 4)[1].item() == 0.75


def test_without_negatives_there_is_nothing_to_tell_apart() -> None:
    none = torch.zeros(0, 8)
    loss, accuracy = hard_negative_identification(none, none, none, ONE, 0)
    assert (loss.item(), accuracy.item()) == (0, 0)


def test_a_tag_head_that_says_nothing_pays_ln_2_for_every_tag_of_the_vocabulary() -> None:
    target_BT, weight_BT = tag_targets([[0, 3]], [[]], 6, 2.0)
    assert short_tag_classification(torch.zeros(1, 6), target_BT, weight_BT, 2).item() == pytest.approx(6 * LN2 / 2)


def test_a_denied_tag_costs_its_weight() -> None:
    logits_BT = torch.tensor([[20.0, -20, 3]])
    unsaid = short_tag_classification(logits_BT, *tag_targets([[0]], [[]], 3, 2.0), 1).item()
    denied = short_tag_classification(logits_BT, *tag_targets([[0]], [[2]], 3, 2.0), 1).item()
    assert unsaid == pytest.approx(math.log(1 + math.exp(3)), rel=1e-6)
    assert denied == pytest.approx(2 * unsaid, rel=1e-6)


def test_images_without_tags_take_no_part() -> None:
    logits_BT = torch.tensor([[1.0, -1, 0], [9, 9, 9]], requires_grad=True)
    loss = short_tag_classification(logits_BT, *tag_targets([[0], []], [[], [1]], 3, 2.0), 1)
    alone = short_tag_classification(logits_BT[:1], *tag_targets([[0]], [[]], 3, 2.0), 1)
    assert loss.item() == pytest.approx(alone.item())
    loss.backward()
    assert logits_BT.grad is not None
    assert logits_BT.grad[0].abs().min() > 0
    assert logits_BT.grad[1].abs().max() == 0


@pytest.mark.parametrize("size", [0, 3])
def test_a_batch_without_tags_costs_nothing_and_can_still_be_differentiated(size: int) -> None:
    logits_BT = torch.full((2, size), 5.0, requires_grad=True)
    loss = short_tag_classification(logits_BT, *tag_targets([[], []], [[], []], size, 2.0), 0)
    assert loss.item() == 0
    loss.backward()
    assert logits_BT.grad is not None
    assert not logits_BT.grad.any()


def test_tags_become_targets_and_weights() -> None:
    target_BT, weight_BT = tag_targets([[0, 2], []], [[1], [1, 3]], 4, 2.5)
    assert target_BT.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]]
    assert weight_BT.tolist() == [[1, 2.5, 1, 1], [1, 2.5, 1, 2.5]]


def test_a_tag_both_said_and_denied_counts_as_said() -> None:
    target_BT, weight_BT = tag_targets([[1]], [[1]], 2, 2.5)
    assert (target_BT.tolist(), weight_BT.tolist()) == ([[0, 1]], [[1, 1]])


def test_the_mean_of_the_shares_is_the_loss_of_the_whole_and_so_are_the_gradients() -> None:
    """Two ranks with three images each, of which 2 and 0 have a negative and 1 and 3 a tag."""
    image_ND, text_ND, negative_PD = unit(6, 4, 0), unit(6, 4, 1), unit(2, 4, 2)
    target_NT, weight_NT = tag_targets([[0, 1], [], [], [2], [0], [1]], [[2]] + [[]] * 5, 3, 2.0)

    def measured(image_ND: Tensor, rows: slice, counts: tuple[float, float]) -> Tensor:
        number = len(range(*rows.indices(2)))
        own_PD, own_text_PD = image_ND[rows][:number], text_ND[rows][:number]
        hard, right = hard_negative_identification(own_PD, own_text_PD, negative_PD[:number], 3 * ONE, counts[0])
        tags = short_tag_classification(image_ND[rows, :3], target_NT[rows], weight_NT[rows], counts[1])
        return torch.stack([contrastive(image_ND, text_ND, 3 * ONE, rows), hard, right, tags])

    whole_ND, split_ND = image_ND.clone().requires_grad_(), image_ND.clone().requires_grad_()
    whole = measured(whole_ND, slice(0, 6), (2, 5))
    split = (measured(split_ND, slice(0, 3), (1, 2.5)) + measured(split_ND, slice(3, 6), (1, 2.5))) / 2
    assert torch.allclose(whole, split, atol=1e-6)
    assert all(whole)
    whole.sum().backward()
    split.sum().backward()
    assert whole_ND.grad is not None
    assert split_ND.grad is not None
    assert torch.allclose(whole_ND.grad, split_ND.grad, atol=1e-6)


def test_every_part_moves_the_image_towards_the_truth() -> None:
    image_PD = unit(4, 8).requires_grad_()
    positive_PD, negative_PD = unit(4, 8, 1), unit(4, 8, 2)
    scale = torch.tensor(5.0, requires_grad=True)
    (hard_negative_identification(image_PD, positive_PD, negative_PD, scale, 4)[0]).backward()
    assert image_PD.grad is not None
    step_PD = -image_PD.grad
    assert ((step_PD * (positive_PD - negative_PD)).sum(-1) > 0).all()
    assert scale.grad is not None
    assert scale.grad != 0

    image_BD, text_BD = unit(4, 8, 3).requires_grad_(), unit(4, 8, 4).requires_grad_()
    before = contrastive(image_BD, text_BD, scale)
    before.backward()
    assert image_BD.grad is not None
    assert text_BD.grad is not None
    with torch.no_grad():
        assert contrastive(image_BD - 0.05 * image_BD.grad, text_BD, scale) < before
        assert contrastive(image_BD, text_BD - 0.05 * text_BD.grad, scale) < before


def test_the_learning_rate_rises_in_a_line_and_falls_in_a_cosine_to_nothing() -> None:
    from hqclip.train.stage import learning_rate

    config = TrainConfig(store="s", dataset="d", run="r", learning_rate=0.1, warmup=10)
    rates = [learning_rate(step, 110, config) for step in range(110)]
    assert rates[:10] == pytest.approx([0.01 * step for step in range(1, 11)])
    assert rates[10] == max(rates) == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.05)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 1e-4


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_a_run_shorter_than_its_warm_up_still_reaches_the_peak(steps: int) -> None:
    from hqclip.train.stage import learning_rate

    config = TrainConfig(store="s", dataset="d", run="r", learning_rate=0.1, warmup=1000)
    rates = [learning_rate(step, steps, config) for step in range(steps)]
    assert max(rates) == pytest.approx(0.1)
    assert min(rates) > 0
