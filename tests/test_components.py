"""Tests that every registered component must pass; a new component file is enrolled by its name alone."""

import json
import math
import sys
from ast import literal_eval
from numbers import Integral
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

from helpers import Quieter, can_be_built, frame_size, random_frames, registered, torch_seed, with_sizes
from skastw import ASTWClassifier
from skastw.augment import Augment
from skastw.core.batching import Batch, length_mask, pad
from skastw.core.component import component_from_config, component_names, component_to_config, resolve_component
from skastw.core.sklearn_private import Interval, StrOptions
from skastw.datasets import make_tones
from skastw.encoders import Encoder
from skastw.errors import ComponentError
from skastw.features import Features, Precomputed
from skastw.normalization import Normalization
from skastw.pooling import MaxPooling, MeanPooling, Pooling
from skastw.training.transfer import build_front_end

KINDS = (Features, Normalization, Encoder, Pooling, Augment)
WEIGHT_NAMES = Path(__file__).parent / "data" / "weight_names.json"
#: Sizes that make any encoder fast and let it learn from few short clips, where it has these parameters.
SMALL = {"d_model": 32, "num_heads": 2, "num_layers": 1, "width": 8, "num_blocks": 1}
SMALL |= {"channels": 32, "hidden": 32, "embedding": 32, "se_channels": 8, "patch_frames": 4, "patch_bins": 80}
SMALL |= {"dropout": 0.0, "embedding_dropout": 0.0}
SAMPLE_RATE = 16000
N_FEATURES = 12
MAX_FRAMES = 33
#: A constant that is added to all keys does not change attention.
NO_INFLUENCE = ("k_proj.bias",)


def enrol(argument, components):
    """Parametrize a test over components."""
    return pytest.mark.parametrize(argument, components, ids=lambda component: f"{component.kind}-{component.name}")


COMPONENTS = [component for base in KINDS for component in registered(base)]
FRONT_ENDS = [c for c in registered(Features) if not isinstance(c, Precomputed) and can_be_built(c)]
FRONT_ENDS_OF_FRAMES = [component for component in FRONT_ENDS if component.frames_per_second(16000) > 0]
TRAINABLE_FRONT_ENDS = [component for component in FRONT_ENDS if component.trainable]
ENCODERS = [with_sizes(component, SMALL) for component in registered(Encoder)]
NORMALIZATIONS = registered(Normalization)
POOLINGS = registered(Pooling)
AUGMENTS = registered(Augment)


def kind_of(component):
    return next(base for base in KINDS if isinstance(component, base))


def is_valid(component, param, value):
    try:
        clone(component).set_params(**{param: value}).check_params()
    except ComponentError:
        return False
    return True


def changed(component):
    """Return the component with every parameter at another valid value than its default."""
    other = clone(component)
    for param, value in component.get_params(deep=False).items():
        near = [value + 1, value - 1, value / 2] if isinstance(value, int | float) else []
        words = [o for c in component._parameter_constraints[param] if isinstance(c, StrOptions) for o in c.options]
        others = (
            *near,
            *sorted(words),
            3,
            1.5,
            0.5,
            None,
            True,
            False,
            ["a.wav"],
            ["gain", "mixup"],
            ["pitch", "level"],
            [1, 3],
            "text",
            {"a": 1},
        )
        candidates = [v for v in others if v != value and is_valid(component, param, v)]
        assert candidates, f"no other valid value of {param} is known to this test"
        other.set_params(**{param: candidates[0]})
    return other


def out_of_range(component):
    """Yield (parameter, value) just beyond each end of each interval."""
    for param, constraints in component._parameter_constraints.items():
        for interval in (c for c in constraints if isinstance(c, Interval)):
            step = 1 if interval.type is Integral else 0.5
            if interval.left is not None:
                yield param, interval.left - step
            if interval.right is not None:
                yield param, interval.right + step


def built(component, *sizes, seed=0):
    with torch_seed(seed):
        return component.build(*sizes).eval()


# ------------------------------------------------------------------ every component


def test_there_are_components_of_every_kind():
    assert FRONT_ENDS
    assert ENCODERS
    assert POOLINGS
    assert AUGMENTS


@enrol("component", COMPONENTS)
def test_a_name_stands_for_the_object_with_its_defaults(component):
    base = kind_of(component)
    assert component.name in component_names(base.kind)
    assert type(component)().get_params() == resolve_component(base, component.name).get_params()
    assert resolve_component(base, component) is component
    component.check_params()


@enrol("component", COMPONENTS)
def test_parameters_survive_clone_and_repr(component):
    for original in (component, changed(component)):
        assert component_to_config(clone(original)) == component_to_config(original)
        from_repr = eval(repr(original), {type(other).__name__: type(other) for other in [*COMPONENTS, Quieter()]})
        assert component_to_config(from_repr) == component_to_config(original)


@enrol("component", COMPONENTS)
def test_parameters_survive_json(component):
    for original in (component, changed(component)):
        config = json.loads(json.dumps(component_to_config(original)))
        rebuilt = component_from_config(kind_of(component), config)
        assert type(rebuilt) is type(original)
        assert component_to_config(rebuilt) == component_to_config(original)


@pytest.mark.parametrize("base", KINDS, ids=lambda base: base.kind)
@pytest.mark.parametrize("value", ["no_such", "", None, 3, ["astw"]], ids=repr)
def test_an_unknown_name_is_refused_with_the_choices(base, value):
    for refuse in (
        lambda: resolve_component(base, value),
        lambda: component_from_config(base, {"name": value, "params": {}}),
    ):
        with pytest.raises(ComponentError) as raised:
            refuse()
        message = str(raised.value)
        assert f"{base.kind}={value!r}" in message
        assert all(repr(name) in message for name in component_names(base.kind))


@pytest.mark.parametrize("base", KINDS, ids=lambda base: base.kind)
def test_a_misspelled_name_is_refused_with_the_name_that_was_meant(base):
    name = component_names(base.kind)[0]
    with pytest.raises(ComponentError, match=rf"or an object of type {base.__name__}; did you mean {name!r}\?$"):
        resolve_component(base, name + "s")


@pytest.mark.parametrize("base", KINDS, ids=lambda base: base.kind)
def test_a_component_of_another_kind_is_refused(base):
    other = MeanPooling() if base is not Pooling else ENCODERS[0]
    with pytest.raises(ComponentError, match=f"{base.kind}={type(other).__name__}"):
        resolve_component(base, other)


@enrol("component", COMPONENTS)
def test_an_unknown_parameter_is_refused_with_the_choices(component):
    with pytest.raises(ComponentError) as raised:
        component_from_config(kind_of(component), {"name": component.name, "params": {"no_such": 1}})
    message = str(raised.value)
    assert "no_such" in message
    assert repr(component.name) in message
    missing = [param for param in component.get_params(deep=False) if param not in message]
    assert not missing, f"the message does not name the known parameters {missing}: {message}"


@enrol("component", COMPONENTS)
def test_a_parameter_of_a_wrong_type_is_named(component):
    for param in component.get_params(deep=False):
        value = 3 if dict in component._parameter_constraints[param] else {"a": 1}
        with pytest.raises(ComponentError, match=param) as raised:
            component_from_config(kind_of(component), {"name": component.name, "params": {param: value}})
        assert str(value) in str(raised.value)


@enrol("component", COMPONENTS)
def test_a_parameter_out_of_range_is_named_with_its_value_and_the_range(component):
    for param, value in out_of_range(component):
        with pytest.raises(ComponentError, match=param) as raised:
            component_from_config(kind_of(component), {"name": component.name, "params": {param: value}})
        assert f"Got {value!r}" in str(raised.value)
        assert "range" in str(raised.value)


@pytest.mark.parametrize(
    "config",
    [None, "mean", [], {}, {"name": "mean"}, {"name": "mean", "params": []}, {"name": "mean", "params": {}, "x": 1}],
    ids=repr,
)
def test_a_config_of_another_form_is_refused(config):
    with pytest.raises(ComponentError, match="'name'"):
        component_from_config(Pooling, config)


# ------------------------------------------------------------------ features


def waveforms(lengths):
    """Return noise clips of very different levels as a zero-padded batch."""
    rng = np.random.default_rng(0)
    levels = 10.0 ** -(np.arange(len(lengths)) % 4)
    noise = [level * rng.normal(size=n) for n, level in zip(lengths, levels, strict=True)]
    return pad([torch.from_numpy(clip.astype(np.float32)) for clip in noise])


def front_end(component):
    """Return the built front end with its weights."""
    return build_front_end(component.resolved(SAMPLE_RATE, 30.0), SAMPLE_RATE)


@enrol("component", FRONT_ENDS)
def test_features_have_the_promised_shapes(component):
    module = front_end(component)
    frames, lengths = module(*waveforms([8000, 16000, 400]))
    assert frames.shape == (3, int(lengths.max()), module.n_features)
    assert (frames.dtype, lengths.dtype) == (torch.float32, torch.int64)
    if component in FRONT_ENDS_OF_FRAMES:
        assert lengths.argsort().tolist() == [2, 0, 1]
    else:
        assert lengths.tolist() == [1, 1, 1]


@enrol("component", FRONT_ENDS)
def test_frames_come_at_the_frame_rate(component):
    module = front_end(component)
    rate = component.frames_per_second(SAMPLE_RATE)
    samples = [1, 2, 159, 160, 161, 320, 321, 4000, 16000, 16001]
    counts = [int(module(*waveforms([n]))[1]) for n in samples]
    assert counts == sorted(counts)
    for n, count in zip(samples, counts, strict=True):
        assert count >= 1
        assert (n - component.n_lost) * rate / SAMPLE_RATE - count < 1 + 1e-9
        assert count - n * rate / SAMPLE_RATE < 1 + 1e-9


def assert_close_on_their_scale(found, expected):
    """Compare frames: those of cepstral coefficients are hundreds of decibels."""
    torch.testing.assert_close(found, expected, atol=1e-5 * max(1.0, float(expected.detach().abs().max())), rtol=0)


@enrol("component", FRONT_ENDS)
def test_padding_a_clip_changes_none_of_its_frames(component):
    module = front_end(component)
    samples = [1, 100, 401, 1600, 3001, 5000]
    waveform, lengths = waveforms(samples)
    together, n_frames = module(waveform, lengths)
    for clip, n in enumerate(samples):
        alone, count = module(waveform[clip : clip + 1, :n], lengths[clip : clip + 1])
        assert int(n_frames[clip]) == int(count) == alone.shape[1]
        assert_close_on_their_scale(together[clip, :count], alone[0])


@enrol("component", FRONT_ENDS)
def test_clips_that_are_taken_together_have_the_frames_that_each_has_alone(component):
    module = front_end(component)
    samples = [3001, 1, 5000, 401, 400_000]
    waveform, lengths = waveforms(samples)
    together = module.extract([clip[:n] for clip, n in zip(waveform, samples, strict=True)])
    assert len(together) == len(samples)
    for clip, n in enumerate(samples):
        alone, _ = module(waveform[clip : clip + 1, :n], lengths[clip : clip + 1])
        assert_close_on_their_scale(together[clip], alone[0])
    assert module.extract([]) == []


@enrol("component", FRONT_ENDS_OF_FRAMES)
def test_frames_beyond_a_clip_are_zero(component):
    frames, lengths = front_end(component)(*waveforms([1, 1000, 5000]))
    padding = ~length_mask(lengths, frames.shape[1])
    assert padding.any()
    assert not frames[padding].any()
    assert frames[~padding].any()


@enrol("component", FRONT_ENDS)
def test_the_shortest_clip_and_silence_are_finite(component):
    module = front_end(component)
    for waveform in (torch.ones(1, 1), torch.zeros(1, 1), torch.zeros(1, 8000), torch.full((1, 500), 1e-30)):
        frames, lengths = module(waveform, torch.tensor([waveform.shape[1]]))
        assert lengths.min() >= 1
        assert frames.isfinite().all()


@enrol("component", FRONT_ENDS)
def test_values_have_as_many_names(component):
    names = component.value_names(SAMPLE_RATE)
    if names is not None:
        assert len(set(names)) == len(names) == front_end(component).n_features


@enrol("component", FRONT_ENDS)
def test_only_trainable_features_have_weights_to_learn(component):
    learns = any(weight.requires_grad for weight in front_end(component).parameters())
    assert learns == component.trainable  # otherwise frames are computed once, before training


@enrol("component", TRAINABLE_FRONT_ENDS)
def test_gradient_reaches_every_parameter_of_a_trainable_front_end(component):
    module = component.build(SAMPLE_RATE).double()
    waveform, lengths = waveforms([5000, 800])
    assert_gradient_reaches_every_parameter(module, module(waveform.double(), lengths)[0])


# ------------------------------------------------------------------ normalization


def learned(normalization, n_features=N_FEATURES):
    module = normalization.build(n_features)
    module.learn(3 * item + 5 for item in random_frames([20, 7, 1], n_features, seed=3)[0])
    return module


@enrol("normalization", NORMALIZATIONS)
def test_padding_changes_no_normalized_frame_and_stays_zero(normalization):
    module = learned(normalization)
    frames, lengths = random_frames([1, 4, 9], N_FEATURES)
    together = module(frames, lengths)
    assert together.shape == frames.shape
    assert not together[~length_mask(lengths, 9)].any()
    for item, length in enumerate(lengths.tolist()):
        alone = module(frames[item : item + 1, :length], lengths[item : item + 1])
        torch.testing.assert_close(together[item, :length], alone[0], atol=1e-5, rtol=0)


@enrol("normalization", NORMALIZATIONS)
def test_normalized_silence_is_finite(normalization):
    module = normalization.build(N_FEATURES)
    module.learn([torch.full((3, N_FEATURES), -1.5)])
    for level in (-1.5, 0.0):
        assert module(torch.full((2, 3, N_FEATURES), level), torch.tensor([3, 1])).isfinite().all()


@enrol("normalization", NORMALIZATIONS)
def test_what_a_normalization_learned_is_in_its_state(normalization):
    module, fresh = learned(normalization), normalization.build(N_FEATURES)
    fresh.load_state_dict(module.state_dict())
    frames, lengths = random_frames([5], N_FEATURES)
    assert torch.equal(fresh(frames, lengths), module(frames, lengths))


def test_per_bin_takes_the_training_clips_to_mean_zero_and_deviation_one():
    clips = [item * torch.arange(1, 13) + 7 for item in random_frames([50, 80], N_FEATURES)[0]]
    module = resolve_component(Normalization, "per_bin").build(N_FEATURES)
    module.learn(clips)
    normalized = torch.cat([module(clip[None], torch.tensor([len(clip)]))[0] for clip in clips])
    torch.testing.assert_close(normalized.mean(dim=0), torch.zeros(N_FEATURES), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalized.std(dim=0, correction=0), torch.ones(N_FEATURES), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["per_clip", "level"])
def test_a_clips_level_does_not_pass_normalization_by_the_clip(name):
    module = resolve_component(Normalization, name).build(N_FEATURES)
    frames, lengths = random_frames([9], N_FEATURES)
    torch.testing.assert_close(module(frames + 3, lengths), module(frames, lengths), atol=1e-5, rtol=0)


# ------------------------------------------------------------------ encoders


@enrol("encoder", ENCODERS)
def test_encoders_have_the_promised_shapes(encoder):
    size = frame_size(encoder, N_FEATURES)
    module = built(encoder, size, MAX_FRAMES)
    items = [MAX_FRAMES, 1, 8]
    encoded, lengths = module(*random_frames(items, size))
    assert encoded.shape == (3, int(lengths.max()), module.n_outputs)
    assert lengths.dtype == torch.int64
    assert all(1 <= out <= item for item, out in zip(items, lengths.tolist(), strict=True))
    assert encoded.isfinite().all()


@enrol("encoder", ENCODERS)
def test_padding_changes_none_of_an_encoders_outputs(encoder):
    size = frame_size(encoder, N_FEATURES)
    module = built(encoder, size, MAX_FRAMES)
    frames, lengths = random_frames([1, 2, 3, 7, 8, 20, MAX_FRAMES], size)
    together, n_outputs = module(frames, lengths)
    for item, length in enumerate(lengths.tolist()):
        alone, count = module(frames[item : item + 1, :length], lengths[item : item + 1])
        assert int(n_outputs[item]) == int(count) == alone.shape[1]
        torch.testing.assert_close(together[item, :count], alone[0], atol=1e-5, rtol=0)


@enrol("encoder", ENCODERS)
def test_every_frame_reaches_an_encoders_output(encoder):
    size = frame_size(encoder, N_FEATURES)
    module = built(encoder, size, MAX_FRAMES)
    frames, lengths = random_frames([21], size)
    plain = module(frames, lengths)[0]
    for t in range(21):
        nudged = frames.clone()
        nudged[0, t] += 1
        assert (module(nudged, lengths)[0] - plain).abs().max() > 1e-6, f"frame {t}"


@enrol("encoder", ENCODERS)
def test_an_encoder_takes_a_clip_of_one_frame(encoder):
    size = frame_size(encoder, N_FEATURES)
    for max_frames in (1, MAX_FRAMES):
        module = built(encoder, size, max_frames).train()
        frames, lengths = random_frames([1], size)
        encoded, n_outputs = module(frames, lengths)
        assert n_outputs.tolist() == [1]
        if encoded.requires_grad:
            encoded.square().sum().backward()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in module.parameters())


def assert_gradient_reaches_every_parameter(module, output):
    """Compare gradients with the largest one: in float64 a parameter without influence has 1e-16 of it."""
    generator = torch.Generator().manual_seed(1)
    (output * torch.randn(output.shape, generator=generator, dtype=output.dtype)).sum().backward()
    learning = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    gradients = {name: w.grad for name, w in learning.items() if not name.endswith(NO_INFLUENCE)}
    reached = {name: 0.0 if g is None else float(g.abs().max()) for name, g in gradients.items()}
    largest = max(reached.values(), default=0.0)
    dead = [name for name, value in reached.items() if value <= 1e-10 * largest]
    assert not dead, f"no gradient reaches {dead}"


@enrol("encoder", ENCODERS)
def test_gradient_reaches_every_parameter_of_an_encoder(encoder):
    size = frame_size(encoder, N_FEATURES)
    module = built(encoder, size, MAX_FRAMES).double()
    with torch.no_grad():
        for weight in module.parameters():
            if not weight.any():  # weights that are zero at first let no gradient pass
                weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    frames, lengths = random_frames([MAX_FRAMES, 10], size)
    if list(module.parameters()):
        assert_gradient_reaches_every_parameter(module, module(frames.double(), lengths)[0])


@enrol("component", ENCODERS + POOLINGS)
def test_one_seed_gives_one_set_of_weights(component):
    sizes = (frame_size(component, N_FEATURES), MAX_FRAMES) if isinstance(component, Encoder) else (N_FEATURES,)
    first, second, other = (built(component, *sizes, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not first or any(not torch.equal(first[name], other[name]) for name in first)


# ------------------------------------------------------------------ pooling


@enrol("pooling", POOLINGS)
def test_poolings_have_the_promised_shape(pooling):
    module = built(pooling, N_FEATURES)
    embedding = module(*random_frames([5, 9, 1], N_FEATURES))
    assert embedding.shape == (3, module.n_outputs)
    assert embedding.isfinite().all()


@enrol("pooling", POOLINGS)
def test_what_lies_beyond_a_clip_does_not_reach_its_embedding(pooling):
    module = built(pooling, N_FEATURES)
    frames, lengths = random_frames([1, 4, 9], N_FEATURES)
    together = module(frames, lengths)
    alone = torch.cat([module(item[None, :n], n[None]) for item, n in zip(frames, lengths, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    for rubbish in (1e3, -1e3):
        dirty = frames.masked_fill(~length_mask(lengths, frames.shape[1])[:, :, None], rubbish)
        torch.testing.assert_close(module(dirty, lengths), together, atol=1e-5, rtol=0)


@enrol("pooling", POOLINGS)
def test_a_pooling_takes_a_clip_of_one_frame(pooling):
    module = built(pooling, N_FEATURES)
    frames, lengths = random_frames([1], N_FEATURES)
    embedding = module(frames.requires_grad_(), lengths)
    assert embedding.isfinite().all()
    embedding.square().sum().backward()
    gradients = [frames.grad, *(weight.grad for weight in module.parameters() if weight.grad is not None)]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert frames.grad.any()


@enrol("pooling", POOLINGS)
def test_gradient_reaches_every_parameter_of_a_pooling(pooling):
    module = built(pooling, N_FEATURES).double()
    frames, lengths = random_frames([20, 10], N_FEATURES)
    assert_gradient_reaches_every_parameter(module, module(frames.double().requires_grad_(), lengths))


@pytest.mark.parametrize("name", ["mean", "max", "attentive_stats"])
def test_these_poolings_do_not_depend_on_the_order_of_frames(name):
    module = built(resolve_component(Pooling, name), N_FEATURES)
    frames, lengths = random_frames([30], N_FEATURES)
    shuffled = frames[:, torch.from_numpy(np.random.default_rng(0).permutation(30))]
    assert not torch.equal(shuffled, frames)
    torch.testing.assert_close(module(shuffled, lengths), module(frames, lengths), atol=1e-5, rtol=0)


def test_mean_and_max_are_those_of_the_real_frames():
    frames, lengths = random_frames([30, 4], N_FEATURES)
    frames -= 10  # padding would be the maximum
    for pooling, expected in ((MeanPooling(), torch.mean), (MaxPooling(), torch.amax)):
        embedding = pooling.build(N_FEATURES)(frames, lengths)
        by_item = torch.stack([expected(item[:n], dim=0) for item, n in zip(frames, lengths, strict=True)])
        torch.testing.assert_close(embedding, by_item)


def test_attentive_statistics_of_equal_frames_are_the_frame_and_no_spread():
    module = built(resolve_component(Pooling, "attentive_stats"), N_FEATURES)
    frame, _ = random_frames([1], N_FEATURES)
    mean, deviation = module(frame.repeat(1, 7, 1), torch.tensor([7])).chunk(2, dim=1)
    torch.testing.assert_close(mean, frame[0])
    assert deviation.max() < 2e-3  # the floor under the root
    frames, lengths = random_frames([50], N_FEATURES)
    wide, narrow = (module(scale * frames, lengths).chunk(2, dim=1)[1] for scale in (1.0, 0.1))
    assert (wide > 5 * narrow).all()


# ------------------------------------------------------------------ augmentation


def training_batch(component, lengths=(40, 25, 1, 2, 40), n_features=80):
    """Return a batch of frames, or of waveforms for an augmentation of waveforms."""
    frames, lengths = random_frames(lengths, 1 if component.stage == "waveform" else n_features)
    return Batch(frames, lengths, torch.arange(len(lengths)), torch.ones(len(lengths)))


def prepared(component, n_features=80):
    """Return what training calls; a component that reads files gets frames in their place."""
    if component.get_params().get("paths", 0) is None:
        component = clone(component).set_params(paths=["rain.wav", "street.wav"])
    recordings = [random_frames([length], n_features, seed=1)[0][0] for length in (7, 100)]
    return component.prepare(lambda paths: recordings, SAMPLE_RATE)


def augmented(component, batch, seed):
    return prepared(component, batch.inputs.shape[2])(batch, torch.Generator().manual_seed(seed))


def tensors(batch):
    given = [batch.inputs, batch.lengths, batch.targets, batch.weights, batch.partners, batch.shares]
    return [tensor for tensor in given if tensor is not None]


@enrol("component", AUGMENTS)
def test_an_augmentation_leaves_its_argument_alone(component):
    batch = training_batch(component)
    before = [tensor.clone() for tensor in tensors(batch)]
    for seed in range(5):
        augmented(component, batch, seed)
    assert all(torch.equal(old, new) for old, new in zip(before, tensors(batch), strict=True))


@enrol("component", AUGMENTS)
def test_an_augmented_batch_has_as_many_items_and_bins_and_clean_padding(component):
    batch = training_batch(component)
    for seed in range(20):
        result = augmented(component, batch, seed)
        assert result.inputs.shape[::2] == batch.inputs.shape[::2]
        assert result.inputs.dtype == batch.inputs.dtype
        assert (result.lengths.shape, result.lengths.dtype) == (batch.lengths.shape, batch.lengths.dtype)
        assert torch.equal(result.targets, batch.targets)
        assert torch.equal(result.weights, batch.weights)
        assert (result.lengths >= 1).all()
        assert result.lengths.max() <= result.inputs.shape[1]
        assert not result.inputs[~length_mask(result.lengths, result.inputs.shape[1])].any()


@enrol("component", AUGMENTS)
def test_all_randomness_of_an_augmentation_comes_from_its_generator(component):
    batch = training_batch(component)
    state = torch.random.get_rng_state()
    first = augmented(component, batch, 0)
    assert torch.equal(torch.random.get_rng_state(), state)
    again = augmented(component, batch, 0)
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(again), strict=True))
    assert any(not torch.equal(first.inputs, augmented(component, batch, seed).inputs) for seed in range(1, 4))
    generator = torch.Generator().manual_seed(0)
    transform = prepared(component, batch.inputs.shape[2])
    draws = [transform(batch, generator).inputs for _ in range(4)]
    assert any(not torch.equal(draws[0], draw) for draw in draws[1:])


@enrol("component", AUGMENTS)
def test_an_augmentation_changes_something(component):
    batch = training_batch(component)
    assert any(not torch.equal(augmented(component, batch, seed).inputs, batch.inputs) for seed in range(3))


@enrol("component", AUGMENTS)
@pytest.mark.parametrize("n_features", [1, 2, 80])
def test_an_augmentation_takes_one_frame_and_silence_and_stays_finite(component, n_features):
    for batch in (training_batch(component, [1], n_features), training_batch(component, [1, 3, 2], n_features)):
        for inputs in (batch.inputs, torch.zeros_like(batch.inputs), batch.inputs * 1e4):
            for seed in range(10):
                result = augmented(component, Batch(inputs, *tensors(batch)[1:]), seed)
                assert all(tensor.isfinite().all() for tensor in tensors(result))


@enrol("component", AUGMENTS)
def test_a_mixing_augmentation_says_what_it_mixed_and_no_other_does(component):
    batch = training_batch(component)
    for seed in range(10):
        result = augmented(component, batch, seed)
        assert (result.partners is None) == (result.shares is None) == (not component.mixes)
        if component.mixes:
            assert ((result.partners >= 0) & (result.partners < 5)).all()
            assert (result.partners != torch.arange(5)).all()
            assert ((result.shares >= 0) & (result.shares <= 1)).all()


@enrol("first", [component for component in AUGMENTS if component.mixes])
@enrol("second", [component for component in AUGMENTS if component.mixes])
def test_an_item_is_mixed_once_at_most(first, second):
    batch = training_batch(first)
    once = augmented(clone(first).set_params(p=0.5), batch, 0)
    twice = augmented(clone(second).set_params(p=1.0), once, 1)
    before = once.shares < 1
    assert before.any()
    assert torch.equal(twice.inputs[before], once.inputs[before])
    assert torch.equal(twice.partners[before], once.partners[before])
    assert torch.equal(twice.shares[before], once.shares[before])


@enrol("component", AUGMENTS)
def test_an_augmentation_of_probability_zero_changes_nothing(component):
    batch = training_batch(component)
    for seed in range(3):
        never = augmented(clone(component).set_params(p=0.0), batch, seed)
        torch.testing.assert_close(never.inputs, batch.inputs, atol=1e-6, rtol=0)
        assert torch.equal(never.lengths, batch.lengths)


# ------------------------------------------------------------------ names of weights


def weight_names():
    """Return the weights of each trainable front end, encoder and pooling with default parameters, by kind and name."""
    with torch.device("meta"):
        modules = {f"encoder {c.name}": c.build(frame_size(c, 80), max_frames=3000) for c in registered(Encoder)}
        modules |= {f"features {c.name}": c.build(SAMPLE_RATE) for c in TRAINABLE_FRONT_ENDS}
        modules |= {f"pooling {c.name}": c.build(n_inputs=384) for c in registered(Pooling)}
    return {
        name: {weight: str(tuple(tensor.shape)) for weight, tensor in module.state_dict().items()}
        for name, module in modules.items()
    }


@pytest.fixture(scope="module")
def found_weight_names():
    return weight_names()


@enrol("component", [*TRAINABLE_FRONT_ENDS, *registered(Encoder), *POOLINGS])
def test_names_and_shapes_of_weights_are_those_of_saved_models(component, found_weight_names):
    key = f"{component.kind} {component.name}"
    stored = json.loads(WEIGHT_NAMES.read_text(encoding="utf-8"))
    command = "python tests/test_components.py --write"
    assert key in stored, f"{WEIGHT_NAMES.name} has no entry for {key!r}: run `{command}` and commit the file"
    assert found_weight_names[key] == stored[key], (
        f"models saved before would no longer load; if that is meant, raise format_version and run `{command}`"
    )


def test_no_stored_weight_names_are_left_over(found_weight_names):
    assert set(json.loads(WEIGHT_NAMES.read_text(encoding="utf-8"))) <= set(found_weight_names)


def test_the_default_encoder_has_the_announced_size(found_weight_names):
    shapes = (literal_eval(shape) for shape in found_weight_names["encoder astw"].values())
    assert sum(math.prod(shape) for shape in shapes) == pytest.approx(15.3e6, rel=0.005)


# ------------------------------------------------------------------ together


def pairs():
    """Yield each encoder with each pooling; one of them for each encoder, in turn, is in the usual tests."""
    for i, encoder in enumerate(ENCODERS):
        for j, pooling in enumerate(POOLINGS):
            marks = () if j == i % len(POOLINGS) else pytest.mark.slow
            yield pytest.param(encoder, pooling, marks=marks, id=f"{encoder.name}-{pooling.name}")


@pytest.mark.parametrize(("encoder", "pooling"), pairs())
def test_every_encoder_learns_with_every_pooling(encoder, pooling):
    clips, y = make_tones(n_clips=72, n_classes=3, duration=(0.1, 0.2), random_state=0)
    clf = ASTWClassifier(encoder=encoder, pooling=pooling, epochs=24, precision="float32", device="cpu")
    # the classes are tones, whose frequencies the default augmentation changes
    clf.set_params(augment="spec_augment", normalization="none", ema_decay=None)
    if frame_size(encoder, None) == 1:
        clf.set_params(features="waveform", augment=None)
    clf.fit(clips[:48], y[:48])
    assert clf.score(clips[48:], y[48:]) >= 0.8  # 24 clips; chance is 1/3


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/test_components.py --write")
    WEIGHT_NAMES.parent.mkdir(exist_ok=True)
    WEIGHT_NAMES.write_text(json.dumps(weight_names(), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {WEIGHT_NAMES}")
