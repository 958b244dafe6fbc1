import copy
import dataclasses

import numpy as np
import pytest
import torch

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.probe import parts
from pipeline.learning.training.finetuning import PARTS, out_of_fold_losses, predict_logits, train
from pipeline.learning.training.frozen import Case, frozen_views, prefix_fingerprint
from pipeline.learning.training.strategies import CANDIDATES, STRATEGIES, candidates_of
from pipeline.stages.finetune.activation_cache import ActivationCache
from tests.conftest import TINY_ENCODER, classifier
from tests.learning.training.labelled import RECIPE, images, labelled, network, one_hot, setting


def accuracy(model, cases):
    return float((predict_logits(model, cases).argmax(dim=1) == cases.targets.argmax(dim=1)).float().mean())


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "lora"])
def test_every_strategy_learns_and_its_arguments_rebuild_the_network(name):
    model = network()
    cases = labelled(model)
    trained = train(model, STRATEGIES[name], cases, setting())
    validation = cases.whole()[1] if STRATEGIES[name].whole else cases.validation
    assert accuracy(model, validation) == 1
    assert (len(trained.curve) > 1) == STRATEGIES[name].trains
    again = Classifier({"name": TINY_ENCODER, "pooled_stages": 2}, {"channels": 3}, trained.head).eval()
    again.load_state_dict(model.state_dict())
    channels = images(4, seed=9).float()
    with torch.inference_mode():
        assert torch.equal(again(channels), model(channels))


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "lora"])
def test_a_strategy_trains_the_stages_that_its_name_says_and_no_other(name):
    model = network()
    before = copy.deepcopy(model.encoder.state_dict())
    cases = labelled(model, brightness_of(5.0))
    own = dataclasses.replace(
        cases, validation=cases.train, whole=lambda: (cases.whole()[0],) * 2
    )  # where it must gain
    train(model, STRATEGIES[name], own, setting(epochs=8, patience=8))
    moved = {
        int(key.split(".")[1])
        for key, value in model.encoder.state_dict().items()
        if not torch.equal(value, before[key])
    }
    last = len(model.encoder.stages) - 1
    expected = {"knn": set(), "probe": set(), "full": set(range(last + 1))}.get(name, {last})
    assert moved <= expected
    if name in ("last_stage", "lp_ft", "gradual"):
        assert moved == {last}


def brightness_of(amount):
    return images(brightness=amount)


def test_lora_trains_a_transformer_and_refuses_a_convolutional_network():
    model = network("test_vit")
    weight = model.encoder.stages[-1][0].attn.qkv.weight.detach().clone()
    recipe = setting(learning_rate=1e-2, epochs=6, patience=6)
    train(model, STRATEGIES["lora"], labelled(model, brightness_of(15.0)), recipe)
    moved = model.encoder.stages[-1][0].attn.qkv.weight.detach() - weight
    assert torch.linalg.matrix_rank(moved, rtol=1e-3) in (0, 2)  # 0 where the probe could not be beaten
    assert not any("parametrizations" in name for name in model.state_dict())
    with pytest.raises(ValueError, match="no attention"):
        train(network(), STRATEGIES["lora"], labelled(network()), setting())


def test_logits_speak_of_the_prevalence_of_the_training_cases():
    """On features that say nothing, both ways of evening out classes end at the share of the rare class."""
    channels = images(200, brightness=0.0)
    targets = torch.eye(2)[(torch.arange(200) % 10 == 0).long()]
    for balance in ("balanced", "sampling", "none"):
        model = network()
        cases = labelled(model, channels, targets)
        train(model, STRATEGIES["probe"], cases, setting(class_weights=balance))
        share = float(predict_logits(model, cases.train).softmax(dim=1)[:, 1].mean())
        assert share == pytest.approx(0.1, abs=0.05), balance


def test_grades_and_findings_are_learned_too():
    channels = torch.cat([images(30, seed, brightness) // 2 for seed, brightness in ((0, 0), (1, 100), (2, 150))])
    levels = (channels.float().mean(dim=(1, 2, 3)) > torch.tensor([[35.0], [55.0]])).sum(dim=0)
    order = torch.from_numpy(np.random.default_rng(0).permutation(90))
    model = network(n_classes=3)
    cases = labelled(model, channels[order], torch.eye(3)[levels[order]])
    trained = train(model, STRATEGIES["lp_ft"], cases, setting(task="ordinal"))
    assert trained.head["kind"] == "ordinal" and accuracy(model, cases.validation) > 0.8
    torch.testing.assert_close(predict_logits(model, cases.validation).exp().sum(dim=1), torch.ones(8))

    findings = torch.stack([(levels > 0).float(), (levels > 1).float(), torch.arange(90) % 2], dim=1)[order]
    findings[::3, 0] = float("nan")
    model = network(n_classes=3)
    cases = labelled(model, channels[order], findings)
    train(model, STRATEGIES["lp_ft"], cases, setting(task="multilabel"))
    known = ~cases.validation.targets[:, :2].isnan()
    right = (predict_logits(model, cases.validation)[:, :2] > 0).float() == cases.validation.targets[:, :2]
    assert right[known].float().mean() > 0.8


def test_losses_out_of_fold_are_of_models_that_did_not_see_the_patient():
    """Each patient has three equal images under a random label: a model that saw one knows the others."""
    channels = images(24, brightness=0.0).repeat_interleave(3, dim=0)
    targets = torch.eye(2)[torch.randint(2, (24,), generator=torch.Generator().manual_seed(3)).repeat_interleave(3)]
    model = network()
    cases = labelled(model, channels, targets)
    known = dataclasses.replace(cases, patients=np.arange(24).repeat(3)[: len(cases.patients)].astype(str))
    honest, _ = out_of_fold_losses(model, STRATEGIES["knn"], known, setting())
    leaking, _ = out_of_fold_losses(model, STRATEGIES["knn"], cases, setting())
    assert leaking.mean() < 0.5 < np.log(2) - 0.1 < honest.mean()


def test_model_with_trained_first_stages_is_evaluated_on_images():
    model = network()
    channels = brightness_of(5.0)
    cases = labelled(model, channels)
    own = dataclasses.replace(cases, validation=cases.train, whole=lambda: (cases.whole()[0],) * 2)
    how = setting(epochs=4, patience=4)
    losses, epochs = out_of_fold_losses(model, STRATEGIES["full"], own, how)
    assert epochs > 0
    for rest, held in parts(one_hot(28).numpy(), own.patients, most=PARTS, seed=how.seed, task="multiclass"):
        alone = copy.deepcopy(model)
        train(alone, STRATEGIES["full"], own.only(rest), how)
        with torch.inference_mode():
            expected = torch.nn.functional.cross_entropy(
                alone(channels[held].float()), one_hot()[held].argmax(dim=1), reduction="none"
            )
        np.testing.assert_allclose(losses[held], expected, atol=1e-4)


def test_full_sees_images_of_the_size_of_the_predictions():
    model, seen = network(), []
    cases = labelled(model)
    whole = cases.whole()[0]

    def prepare(channels):
        seen.append(channels.shape[-2:])
        return whole.prepare(channels)

    own = dataclasses.replace(cases, validation=None, whole=lambda: (dataclasses.replace(whole, prepare=prepare), None))
    train(model, STRATEGIES["full"], own, setting(epochs=1, sides=(16,)))
    assert set(seen) == {(16, 16)}


def test_the_network_that_recipes_are_tried_on_stays_what_it_is():
    model = network()
    before = copy.deepcopy(model.state_dict())
    out_of_fold_losses(model, STRATEGIES["last_stage"], labelled(model), setting())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_auto_leaves_out_repeated_trainings_and_frozen_stages():
    assert candidates_of(RECIPE, 5, frozen=False) == ["knn", "probe", "last_stage"]  # one stage: lp_ft is the same
    deep = dataclasses.replace(RECIPE, trainable_stages=5)
    assert candidates_of(deep, 5, frozen=False) == ["knn", "probe", "last_stage", "lp_ft"]
    assert candidates_of(RECIPE, 5, frozen=True) == ["knn", "probe"]


def test_auto_tries_strategies_from_cheap_to_expensive():
    stages = [STRATEGIES[name].recipe(RECIPE, 5).trainable_stages for name in CANDIDATES]
    assert stages == sorted(stages) and CANDIDATES[0] == "knn"


def test_prefix_fingerprint_depends_on_the_frozen_stages_alone():
    model = network()
    last = len(model.encoder.stages) - 1
    name = prefix_fingerprint(model, last)
    with torch.no_grad():
        model.head.weight.add_(1)
        model.feature_mean.add_(1)
        next(model.encoder.stages[last].parameters()).add_(1)
    assert prefix_fingerprint(model, last) == name
    with torch.no_grad():
        next(model.encoder.stages[0].parameters()).add_(1)
    assert prefix_fingerprint(model, last) != name != prefix_fingerprint(network(), last - 1)


@pytest.mark.parametrize("first", [1, 5])
@pytest.mark.parametrize("part", ["norm", "stages[0]", "stages[4]"])
def test_prefix_fingerprint_changes_with_what_changes_the_activations(first, part):
    model, images = classifier(encoder="test_convnext").eval(), torch.rand(2, 3, 64, 64) * 255

    def found():
        with torch.inference_mode():
            activations = model.activations(images, last=first)
        return prefix_fingerprint(model, first), (activations.maps, activations.pooled)

    (name, before), module = found(), eval(f"model.encoder.{part}", {"model": model})
    with torch.no_grad():
        [one.mul_(1.5) for one in module.parameters()]
    again, after = found()
    assert (again == name) == all(map(torch.equal, before, after))


def test_prefix_fingerprint_tells_apart_networks_of_the_same_weights():
    model = classifier(encoder="test_vit")
    name, last = prefix_fingerprint(model, 2), len(model.encoder.stages)
    pooled = prefix_fingerprint(model, last)
    model.encoder.pooled = slice(1, None)
    assert prefix_fingerprint(model, last) != pooled
    model = classifier(encoder="test_vit")
    next(block for block in model.encoder.stages[1].modules() if isinstance(block, torch.nn.GELU)).approximate = "tanh"
    assert prefix_fingerprint(model, 2) != name


def test_activations_that_are_kept_are_those_that_are_computed(tmp_path):
    model, channels, drawn = network(), images(4), []

    def case(row):
        def draw():
            drawn.append(row)
            return channels[row][None]

        return Case("", {str(row): draw})

    cache = ActivationCache(tmp_path, "key", 10**9)
    first, second = (frozen_views(model, [case(row) for row in range(4)], 2, keep=cache) for _ in range(2))
    plain = frozen_views(model, [case(row) for row in range(4)], 2)
    assert drawn == [0, 1, 2, 3] * 2
    assert all(map(torch.equal, first, second)) and all(map(torch.equal, first, plain))


@pytest.mark.parametrize("of_views", [False, True])
def test_full_ends_with_the_statistics_that_its_recipe_asks_for(of_views):
    """The first normalisation of the network sees the images themselves, so that its statistics have a closed form."""
    model = network()
    cases = labelled(model)
    whole, validation = cases.whole()
    darker = dataclasses.replace(whole, vary=lambda some, seeds: some.float() / 2)
    cases = dataclasses.replace(cases, whole=lambda: (darker, validation))
    recipe = setting(batch_statistics=True, average="ema", epochs=2, statistics_of_views=of_views)
    trained = train(model, STRATEGIES["full"], cases, recipe)
    convolution, norm = model.encoder.stages[0][0], model.encoder.stages[0][1]
    rows, seeds = torch.arange(len(cases.patients)), np.zeros(len(cases.patients), np.uint32)
    seen = darker.varied(rows, seeds) if of_views else darker.plain(rows)
    with torch.inference_mode():
        maps = convolution(seen[0].flatten(0, 1))
    torch.testing.assert_close(norm.running_mean, maps.mean(dim=(0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm.running_var, maps.var(dim=(0, 2, 3)), rtol=1e-2, atol=1e-4)
    assert trained.curve[0].train_loss < 0.3  # it starts from a probe on its own statistics
