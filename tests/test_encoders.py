"""Tests of single encoders: published sizes, plain torch beside them, and what training does with padding."""

import copy
import json
import pickle
import re
import warnings
from pathlib import Path

import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.nn import functional as F

import skastw.encoders
from helpers import (
    IMAGE_NETWORKS,
    NETWORKS,
    frame_size,
    random_frames,
    registered,
    small_image_network,
    small_network,
    torch_seed,
    with_sizes,
)
from skastw.core.batching import pad
from skastw.core.component import component_from_config, component_names, component_to_config, resolve_component
from skastw.encoders import (
    ASTWEncoder,
    BEATsEncoder,
    CNN10Encoder,
    CNN14Encoder,
    ConvTransformerEncoder,
    CRNNEncoder,
    Encoder,
    ParallelCNNEncoder,
    PatchTransformerEncoder,
    ResNetEncoder,
    RNNEncoder,
    StackedCNNEncoder,
    TDNNEncoder,
)
from skastw.encoders._conv2d import BatchNorm, ConvNorm, time_mask
from skastw.encoders.panns import _average
from skastw.errors import ComponentError

GUIDE = Path(__file__).parent.parent / "docs" / "user_guide.md"
MAX_FRAMES = 70
SMALL = {"d_model": 16, "num_heads": 2, "num_layers": 2, "width": 4, "channels": 16, "hidden": 8, "embedding": 8}
SMALL |= {"patch_frames": 4, "patch_bins": 5}
SMALL |= dict.fromkeys(("dropout", "embedding_dropout", "drop_path", "drop_frames"), 0.0)


#: Every encoder, and those beside the defaults that run other code.
VARIANTS = [with_sizes(encoder, SMALL) for encoder in registered(Encoder)]
VARIANTS += [
    with_sizes(RNNEncoder(cell="gru", bidirectional=True), SMALL),
    with_sizes(RNNEncoder(cell="lstm", bidirectional=True), SMALL),
    with_sizes(CRNNEncoder(cell="lstm", time_pools=4), SMALL),
    with_sizes(ConvTransformerEncoder(positions="none", num_stages=1), SMALL),
    with_sizes(TDNNEncoder(scale=1), SMALL),
    *(small_network(name) for name in list(NETWORKS)[1:]),
    small_network("wav2vec2 with layer norms", layer="weighted"),
    *(small_image_network(name) for name in list(IMAGE_NETWORKS)[1:]),
    small_image_network("resnet", scaling="standard"),
    with_sizes(CNN10Encoder(rounding="floor"), SMALL),
    with_sizes(CNN10Encoder(dense="clip"), SMALL),
    with_sizes(BEATsEncoder(rounding="floor", deep_norm=False), SMALL),
    RNNEncoder(hidden=8),
]

every_variant = pytest.mark.parametrize("encoder", VARIANTS, ids=lambda e: f"{e.name}-{VARIANTS.index(e)}")


def built(encoder, n_features, max_frames=MAX_FRAMES, seed=0):
    with torch_seed(seed):
        return encoder.build(n_features, max_frames)


def n_parameters(module):
    return sum(weight.numel() for weight in module.parameters())


def trained(module):
    """Return the module with every bias and every statistic where training may have left it: not at zero."""
    generator = torch.Generator().manual_seed(3)
    for name, value in module.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            value.copy_(0.5 * torch.randn(value.shape, generator=generator))
        elif name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return module


# ------------------------------------------------------------------ sizes


@pytest.mark.parametrize(("encoder", "published"), [(CNN10Encoder(), 5_219_279), (CNN14Encoder(), 80_753_615)], ids=str)
def test_panns_have_the_published_number_of_parameters(encoder, published):
    with torch.device("meta"):
        module = encoder.build(n_features=64, max_frames=1001)
        assert n_parameters(module) + n_parameters(nn.Linear(module.n_outputs, 527)) == published


def test_the_time_delay_network_has_the_published_number_of_parameters():
    module = TDNNEncoder().build(n_features=80, max_frames=200)
    width = module.n_outputs
    pooling = [nn.Linear(3 * width, 128), nn.Linear(128, width), nn.BatchNorm1d(2 * width)]  # the paper's own
    rest = [nn.Linear(2 * width, 192), nn.BatchNorm1d(192)]
    assert sum(map(n_parameters, [module, *pooling, *rest])) == pytest.approx(6.2e6, rel=0.005)


def test_the_guide_states_the_sizes_of_all_encoders():
    row = r"^\| `(\w+)` \|.*\| (?:([\d.]+) million|of the checkpoint) \|"
    stated = dict(re.findall(row, GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert sorted(stated) == component_names("encoder")
    for name, millions in stated.items():
        if not millions:
            continue
        with torch.device("meta"):
            module = resolve_component(Encoder, name).build(n_features=80, max_frames=3000)
        digits = len(millions.partition(".")[2])
        assert round(n_parameters(module) / 1e6, digits) == float(millions), name


@pytest.mark.parametrize(
    "encoder",
    [
        PatchTransformerEncoder(d_model=10, num_heads=3),
        ConvTransformerEncoder(d_model=10, num_heads=3),
        TDNNEncoder(channels=10, scale=3),
    ],
    ids=lambda encoder: encoder.name,
)
def test_sizes_that_do_not_go_together_are_refused(encoder):
    with pytest.raises(ComponentError, match=r"=10, expected a multiple of \w+=3"):
        encoder.build(n_features=80, max_frames=100)


# ------------------------------------------------------------------ padding


@every_variant
@pytest.mark.parametrize("n_features", [1, 2, 3, 12])
def test_padding_changes_nothing_to_the_last_digit_of_trained_weights(encoder, n_features):
    n_features = frame_size(encoder, n_features)
    module = trained(built(encoder, n_features)).double().eval()
    frames, lengths = random_frames([1, 2, 3, 4, 5, 7, 16, 17, 33, 64, 65], n_features)
    frames = frames.double()
    together, n_outputs = module(frames, lengths)
    for item, length in enumerate(lengths.tolist()):
        alone, count = module(frames[item : item + 1, :length], lengths[item : item + 1])
        assert int(n_outputs[item]) == int(count) == alone.shape[1]
        torch.testing.assert_close(together[item, :count], alone[0], atol=1e-10, rtol=1e-10)


@every_variant
def test_more_padding_changes_neither_a_training_step_nor_its_gradients(encoder):
    n_features = frame_size(encoder, 12)
    frames, lengths = random_frames([33, 10, 1], n_features)
    results = []
    for extra in (0, 1, 30):
        module = trained(built(encoder, n_features)).double().train()
        encoded, n_outputs = module(F.pad(frames, (0, 0, 0, extra)).double(), lengths)
        real = [item[:n] for item, n in zip(encoded, n_outputs.tolist(), strict=True)]
        if torch.cat(real).requires_grad:
            (torch.cat(real) * torch.linspace(-1, 1, module.n_outputs)).square().sum().backward()
        results.append([*real, *(p.grad for p in module.parameters() if p.requires_grad), *module.buffers()])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("shape", [(), (5,)], ids=["sequences", "maps"])
def test_statistics_of_a_padded_batch_are_those_of_its_real_frames(shape):
    generator = torch.Generator().manual_seed(0)
    items = [5 + 3 * torch.randn(n, 4, *shape, generator=generator, dtype=torch.float64) for n in (9, 1, 6)]
    padded, lengths = pad(items)
    padded = padded.transpose(1, 2)  # (B, C, T, ...)
    ours, plain = BatchNorm(4).double(), nn.BatchNorm1d(4).double()
    for norm in (ours, plain):
        nn.init.normal_(norm.weight, generator=generator.manual_seed(1))
        nn.init.normal_(norm.bias, generator=generator.manual_seed(2))
    result = ours(padded, time_mask(padded, lengths)).transpose(1, 2)
    together = torch.cat(items).flatten(2) if shape else torch.cat(items)
    expected = plain(together).view(-1, 4, *shape)
    real = torch.cat([item[:n] for item, n in zip(result, lengths.tolist(), strict=True)])
    torch.testing.assert_close(real, expected)
    torch.testing.assert_close(ours.running_mean, plain.running_mean)
    torch.testing.assert_close(ours.running_var, plain.running_var)


@every_variant
def test_bfloat16_leaves_no_value_unset(encoder):
    """Layers on very few bins have left memory as they found it; it is filled here with what cannot be missed."""
    for n_features, lengths in ((1, [17]), (2, [33, 7]), (3, [17, 17]), (12, [1]), (12, [9, 2])):
        results, n_features = [], frame_size(encoder, n_features)
        for rubbish in (float("nan"), 1e30):
            blocks = [torch.full((size,), rubbish) for size in 2 ** torch.arange(6, 18) for _ in range(20)]
            module = built(encoder, n_features).train()
            frames, counts = random_frames(lengths, n_features)
            del blocks
            with torch.autocast("cpu", dtype=torch.bfloat16):
                encoded, _ = module(frames, counts)
            if encoded.requires_grad:
                encoded.float().square().sum().backward()
            results.append([encoded.detach(), *(p.grad for p in module.parameters() if p.requires_grad)])
        assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


# ------------------------------------------------------------------ plain torch beside them


@pytest.mark.parametrize(("cell", "layer"), [("rnn", nn.RNN), ("gru", nn.GRU), ("lstm", nn.LSTM)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_recurrent_network_is_that_of_torch(cell, layer, bidirectional):
    module = built(RNNEncoder(cell=cell, hidden=6, num_layers=2, bidirectional=bidirectional), 12).eval()
    plain = layer(12, 6, 2, batch_first=True, bidirectional=bidirectional)
    plain.load_state_dict(module.recurrent.layers.state_dict())
    frames, lengths = random_frames([9, 4], 12)
    encoded, _ = module(frames, lengths)
    for item, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(encoded[item, :length], plain(frames[item, :length])[0])


def test_dropout_is_between_recurrent_layers():
    frames, lengths = random_frames([9], 12)
    for num_layers, differs in ((1, False), (2, True)):
        module = built(RNNEncoder(hidden=6, num_layers=num_layers, dropout=0.5), 12)
        dropped, plain = module.train()(frames, lengths)[0], module.eval()(frames, lengths)[0]
        assert torch.equal(dropped, plain) != differs


def test_parallel_convolutions_keep_the_length_as_torch_does():
    module = built(ParallelCNNEncoder(channels=4), 12)
    frames, lengths = random_frames([9], 12)
    x = frames.transpose(1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an even kernel costs torch a copy
        outputs = [F.relu(F.conv1d(x, conv.weight, conv.bias, padding="same")) for conv in module.convs]
    expected = F.relu(module.dense2(F.relu(module.dense1(torch.cat(outputs, dim=1).transpose(1, 2)))))
    torch.testing.assert_close(module(frames, lengths)[0], expected)


def test_stacked_convolutions_are_six_with_three_maxima():
    module = built(StackedCNNEncoder(channels=4), 12)
    convs = iter(module.convs)
    layers = []
    for size in (3, 3, 1, 1, 1, 3):
        layers += [next(convs), nn.ReLU(), nn.MaxPool1d(size)]
    frames, lengths = random_frames([54], 12)
    x = nn.Sequential(*layers)(frames.transpose(1, 2)).transpose(1, 2)
    encoded, n_outputs = module(frames, lengths)
    assert n_outputs.tolist() == [2]
    torch.testing.assert_close(encoded, F.relu(module.dense2(F.relu(module.dense1(x)))))


@pytest.mark.parametrize("encoder", [CNN10Encoder(width=4), CNN14Encoder(width=2)], ids=lambda encoder: encoder.name)
def test_panns_are_plain_where_sizes_halve_evenly(encoder):
    module = trained(built(encoder, 32)).eval()
    frames, lengths = random_frames([64], 32)

    def normalized(x, norm):
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    x = normalized(frames.transpose(1, 2), module.input_norm).transpose(1, 2)[:, None]
    for index, block in enumerate(module.blocks):
        for layer in (block.first, block.second):
            x = F.relu(normalized(F.conv2d(x, layer.conv.weight, padding=1), layer.norm))
        x = F.avg_pool2d(x, 2) if index < 5 else x
    expected = F.relu(module.dense(x.mean(dim=3).transpose(1, 2)))
    torch.testing.assert_close(module(frames, lengths)[0], expected)


def test_a_window_that_sticks_out_averages_what_it_holds():
    ones, lengths = pad([torch.ones(5, 3), torch.ones(2, 3), torch.ones(1, 3)])
    x = ones[:, None]
    average = _average(x, time_mask(x, lengths))
    assert average[:, 0].tolist() == [[[1.0, 1.0]] * n + [[0.0, 0.0]] * (3 - n) for n in (3, 1, 1)]
    torch.testing.assert_close(_average(x[:1], None), average[:1])


def test_embedding_dropout_drops_the_same_channels_of_all_frames_of_a_clip():
    module = built(CNN10Encoder(width=4, dropout=0.0), 12).train()
    nn.init.constant_(module.dense.bias, 100.0)  # no value is zero but by dropout
    encoded, _ = module(*random_frames([64, 64], 12))
    dropped = encoded == 0
    assert dropped.any()
    assert not dropped.all()
    assert (dropped == dropped[:, :1]).all()
    assert (dropped[0] != dropped[1]).any()


def test_the_residual_network_tells_bands_apart():
    torch.manual_seed(0)
    module = ResNetEncoder(width=8).build(n_features=64, max_frames=100).eval()
    frames = torch.tensor([96])
    for band in (4, 28, 60):
        tone = torch.zeros(1, 96, 64)
        tone[..., band] = 1.0
        with torch.no_grad():
            change = module(tone, frames)[0] - module(torch.zeros_like(tone), frames)[0]
        assert change[0, 6].view(8, -1).norm(dim=1).argmax() == band // 8


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_takes_on_batch_norm_in_evaluation(stride):
    torch.manual_seed(0)
    layer = ConvNorm(3, 5, stride=stride)
    for _ in range(3):
        layer(torch.randn(4, 3, 12, 10) * 2 + 1, None)
    nn.init.uniform_(layer.norm.weight, 0.5, 2.0)
    nn.init.normal_(layer.norm.bias)
    layer.eval()
    maps = torch.randn(2, 3, 12, 10)
    torch.testing.assert_close(layer(maps, None), layer.norm(layer.conv(maps)), atol=1e-5, rtol=1e-5)


def test_patches_are_those_of_a_convolution_with_as_wide_steps():
    encoder = PatchTransformerEncoder(d_model=8, num_heads=2, patch_frames=4, patch_bins=5)
    module = built(encoder, 12)
    frames, _ = random_frames([10], 12)
    image = F.pad(frames, (0, 3, 0, 2))[:, None]
    expected = F.conv2d(image, module.embed.weight.view(8, 1, 4, 5), module.embed.bias, stride=(4, 5))
    torch.testing.assert_close(module.embed(module._patches(frames)), expected.permute(0, 2, 3, 1))


def test_a_patch_is_no_higher_than_there_are_bins():
    module = built(PatchTransformerEncoder(d_model=8, num_heads=2, num_layers=1), 3)
    assert module.embed.in_features == 16 * 3


def test_sinusoids_tell_positions_apart_and_leave_them_out_on_request():
    frames = torch.ones(1, 64, 12)
    inside = slice(3, 5)  # frames that see no edge of the clip through the convolutions
    for positions, same in (("sinusoidal", False), ("none", True)):
        encoder = ConvTransformerEncoder(
            width=4, num_stages=2, num_blocks=1, d_model=8, num_heads=2, positions=positions
        )
        first, second = built(encoder, 12).eval()(frames, torch.tensor([64]))[0][0, inside]
        assert torch.allclose(first, second, atol=1e-6) == same


def test_weights_that_were_multiplied_out_follow_the_learned_ones():
    torch.manual_seed(0)
    module = ResNetEncoder(width=4, num_stages=2, num_blocks=1).build(n_features=16, max_frames=100).eval()
    frames, lengths = torch.randn(2, 40, 16), torch.tensor([40, 31])

    def outputs(module):
        with torch.inference_mode():
            return module(frames, lengths)[0].clone()

    size = len(pickle.dumps(module))
    before = outputs(module)
    assert len(pickle.dumps(module)) == size  # what was multiplied out stays behind
    changes = [
        lambda: module.trunk.stem.conv.weight.mul_(2.0),
        lambda: module.trunk.stem.norm.running_var.mul_(3.0),
        lambda: module.trunk.stem.norm.bias.add_(1.0),
        lambda: setattr(module.trunk.stem.conv.weight, "data", module.trunk.stem.conv.weight.data * 0.5),
        lambda: module.load_state_dict({k: v + 0.1 for k, v in module.state_dict().items()}, assign=True),
    ]
    for change in changes:
        with torch.no_grad():
            change()
        found = outputs(module)
        assert not torch.equal(found, before)
        with torch.no_grad():  # nothing is kept where gradients could be asked for
            torch.testing.assert_close(found, module(frames, lengths)[0], rtol=0, atol=0)
        assert torch.equal(found, outputs(copy.deepcopy(module)))
        before = found
    frames.requires_grad_()
    module(frames, lengths)[0].sum().backward()
    assert bool(frames.grad.abs().sum() > 0)


def test_weights_made_in_inference_mode_work_too():
    with torch.inference_mode():
        module = ResNetEncoder(width=4, num_stages=1, num_blocks=1).build(n_features=16, max_frames=100).eval()
        first = module(torch.ones(1, 20, 16), torch.tensor([20]))[0]
        module.trunk.stem.conv.weight.mul_(2.0)
        assert not torch.equal(first, module(torch.ones(1, 20, 16), torch.tensor([20]))[0])


# ------------------------------------------------------------------ channels of each layer

#: Encoders, the name of their parameter, and the lists that single numbers stand for.
LISTS = [
    (StackedCNNEncoder(channels=8, hidden=8), "channels", [8] * 6),
    (ParallelCNNEncoder(channels=8, hidden=8), "channels", [8] * 4),
    (CRNNEncoder(width=8, num_blocks=3, hidden=8), "width", [8] * 3),
    (ResNetEncoder(width=8, num_blocks=1), "width", [8, 16, 32]),
    (
        ConvTransformerEncoder(width=8, num_stages=2, num_blocks=1, d_model=8, num_heads=2, num_layers=1),
        "width",
        [8, 16],
    ),
    (CNN10Encoder(width=4), "width", [4, 8, 16, 32]),
    (CNN14Encoder(width=2), "width", [2, 4, 8, 16, 32, 64]),
]
every_list = pytest.mark.parametrize(("encoder", "name", "channels"), LISTS, ids=[item[0].name for item in LISTS])


@every_list
def test_a_number_of_channels_stands_for_a_list(encoder, name, channels):
    single = built(encoder, 12).state_dict()
    listed = built(clone(encoder).set_params(**{name: channels}), 12).state_dict()
    assert list(single) == list(listed)
    assert all(torch.equal(single[key], listed[key]) for key in single)


@every_list
def test_each_layer_has_its_own_number_of_channels(encoder, name, channels):
    channels = [3 + 2 * index for index in range(len(channels))]
    listed = clone(encoder).set_params(**{name: channels})
    rebuilt = component_from_config(Encoder, json.loads(json.dumps(component_to_config(listed))))
    assert repr(eval(repr(listed), vars(skastw.encoders))) == repr(rebuilt) == repr(listed)
    module = built(rebuilt, 12).eval()
    sizes = [layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv1d | nn.Conv2d)]
    assert list(dict.fromkeys(sizes)) == channels
    frames, lengths = random_frames([33, 10], 12)
    encoded, n_outputs = module(frames, lengths)
    assert encoded.shape == (2, int(n_outputs[0]), module.n_outputs)


@every_list
def test_a_list_of_another_length_is_refused(encoder, name, channels):
    wrong = clone(encoder).set_params(**{name: [8] * (len(channels) + 1)})
    wrong.check_params()
    with pytest.raises(
        ComponentError, match=rf"{name}=\[.*\] with {len(channels) + 1} numbers, expected {len(channels)}"
    ):
        wrong.build(n_features=12, max_frames=MAX_FRAMES)
    for values in ([], [8, 0], [8, 9000], [8.5], "8"):
        with pytest.raises(ComponentError, match=name):
            clone(encoder).set_params(**{name: values}).check_params()


def test_new_blocks_of_the_default_encoder_return_their_input():
    module = ASTWEncoder(d_model=16, num_heads=2, num_layers=3).build(n_features=8, max_frames=100).eval()
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    for block in module.blocks:
        torch.testing.assert_close(block(x, None), x, atol=0, rtol=0)
    distances = torch.cdist(module.positions, module.positions)
    assert (distances + torch.eye(len(distances)) > 0.05).all()  # every position differs from every other


def test_stochastic_depth_skips_branches_in_training_only_and_keeps_their_mean():
    module = ASTWEncoder(d_model=8, num_heads=2, num_layers=3, dropout=0.0, drop_path=0.5)
    blocks = module.build(n_features=4, max_frames=50).blocks
    assert [block.drop_path for block in blocks] == [0.0, 0.25, 0.5]

    block, x = blocks[2], torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0))
    torch.nn.init.ones_(block.down.bias)  # the attention still returns zero, and the feed-forward layer one
    changes = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(400):
            changes.append(float((block.train()(x, None) - x).mean()))
    assert {round(change, 4) for change in changes} == {0.0, 2.0}
    assert sum(changes) / 400 == pytest.approx(1.0, abs=0.15)
    torch.testing.assert_close(block.eval()(x, None), x + 1)


def test_frames_are_dropped_in_training_only_and_never_all_of_a_clip():
    module = ASTWEncoder(d_model=8, num_heads=2, num_layers=1, dropout=0.0, drop_frames=0.7, drop_path=0.0)
    module = module.build(n_features=4, max_frames=100)
    frames, lengths = random_frames([60, 31, 1], 4)
    assert module.eval()(frames, lengths)[1].tolist() == [30, 16, 1]
    for seed in range(20):
        with torch_seed(seed):
            kept, n_kept = module.train()(frames, lengths)
        assert kept.shape[1] == n_kept[0] == 10
        assert 1 <= n_kept[1] <= 10
        assert n_kept[2] == 1
        with torch_seed(seed):
            alone, _ = module(frames[1:2], lengths[1:2])
        torch.testing.assert_close(alone[0, : n_kept[1]], kept[1, : n_kept[1]], atol=1e-5, rtol=1e-5)
