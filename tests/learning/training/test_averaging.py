import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from pipeline.learning.training.averaging import DECAY, MovingAverage, greedy_soup, holding, mean_of


def test_the_moving_average_is_torchs_with_the_decay_that_warms_up():
    model = nn.Linear(3, 2)
    average = MovingAverage(dict(model.named_parameters()))
    steps = iter(range(1000))

    def ema(averaged, current, _):
        step = next(steps) // 2  # of two tensors
        return torch.lerp(averaged, current, 1 - min(DECAY, (1 + step) / (10 + step)))

    oracle = AveragedModel(model, avg_fn=ema)
    oracle.n_averaged += 1  # the weights as they came are the first, here as there
    for _ in range(20):
        with torch.no_grad():
            for value in model.parameters():
                value.add_(torch.randn_like(value))
        average.after_step(dict(model.named_parameters()))
        oracle.update_parameters(model)
    for name, value in oracle.module.named_parameters():
        torch.testing.assert_close(average.values[name], value)


def test_a_soup_takes_what_does_no_harm_and_leaves_what_does():
    evaluate = lambda values: float((values["w"] - 1).square().sum())  # noqa: E731
    good, opposite, bad = ({"w": torch.tensor([value])} for value in (0.5, 1.6, 9.0))
    candidates = [(evaluate(values), values) for values in (bad, good, opposite)]
    soup = greedy_soup(candidates, evaluate)
    assert torch.equal(soup["w"], mean_of([good, opposite])["w"])
    assert evaluate(soup) < min(loss for loss, _ in candidates)


def test_a_soup_of_one_is_that_one():
    values = {"w": torch.tensor([3.0])}
    assert torch.equal(greedy_soup([(1.0, values)], lambda _: 0.0)["w"], values["w"])


def test_parameters_hold_other_values_for_a_while_only():
    values = {"w": nn.Parameter(torch.tensor([1.0]))}
    with holding({"w": torch.tensor([5.0])}, values):
        assert float(values["w"].detach()) == 5
    assert float(values["w"].detach()) == 1
