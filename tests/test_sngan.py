import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ddlib.gan.convolutions import convolve, double
from ddlib.gan.layers import BatchNorm, Kernel, Start
from ddlib.sngan import discriminator, generator

# These programs run once: what takes their time is the compiler.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

KEY = jax.random.key(0)
TINY = {"size": 8, "width": 1 / 32}  # 2, 2, 4, 4, 8, 8 and 16 channels
LAYOUT = ("NHWC", "HWIO", "NHWC")


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def filled(tree, seed=0):
    """Numbers for a tree of shapes, kernels of variance 1/fan-in, drawn without a compiler."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / max(1, np.prod(x.shape[:-1])) ** 0.5), tree
    )


def shapes(net):
    """Parameters and memory without numbers: nothing is computed."""
    return jax.eval_shape(net.init, KEY)


# --- Layers


def plain(x, kernel, stride):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(1, 1), (1, 1)], dimension_numbers=LAYOUT
    )


def transposed(x, kernel):
    """A convolution of the image with zeros between its pixels, with the kernel turned around."""
    return jax.lax.conv_general_dilated(
        x, kernel[::-1, ::-1], (1, 1), [(2, 2)] * 2, lhs_dilation=(2, 2), dimension_numbers=LAYOUT
    )


FORMS = {
    **{
        f"3×3 at {size}, {inputs} to {outputs}": (
            lambda x, k: convolve(x, k, 1),
            lambda x, k: plain(x, k, 1),
            (size, 3, inputs, outputs),
        )
        for size, inputs, outputs in (
            (1, 3, 4),  # a matrix
            (2, 3, 4),
            (3, 2, 4),  # odd: no pairs
            (4, 3, 2),  # pairs
            (4, 3, 17),  # too many for pairs
            (4, 17, 3),
            (6, 2, 16),
            (16, 3, 3),
        )
    },
    **{
        f"4×4 at {size}": (
            lambda x, k: convolve(x, k, 2),
            lambda x, k: plain(x, k, 2),
            (size, 4, 3, 2),
        )
        for size in (2, 4, 6, 16)
    },
    "4×4 at 6, many channels": (
        lambda x, k: convolve(x, k, 2),
        lambda x, k: plain(x, k, 2),
        (6, 4, 64, 128),
    ),
    **{f"transposed at {size}": (double, transposed, (size, 4, 3, 2)) for size in (1, 2, 3, 4, 8)},
    "transposed at 5, many channels": (double, transposed, (5, 4, 128, 64)),
}


@pytest.mark.parametrize("form", FORMS)
def test_layers_are_the_usual_convolutions(form):
    """Values and gradients with respect to images and kernels."""
    ours, usual, (size, taps, inputs, outputs) = FORMS[form]
    x = numbers(3, size, size, inputs)
    kernel = numbers(taps, taps, inputs, outputs, seed=1)

    @quick
    def both(x, kernel, seed):
        found = []
        for layer in (ours, usual):
            value, pull = jax.vjp(layer, x, kernel)
            found.append((value, pull(seed.reshape(value.shape))))
        return found

    shape = jax.eval_shape(usual, x, kernel).shape
    one, two = both(x, kernel, numbers(*shape, seed=2))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(b).max())


# --- The networks' tables


def test_full_size_is_the_table_of_the_papers():
    phi, vectors = shapes(discriminator())
    kernels = {name: x["kernel"].shape for name, x in phi.items()}
    assert kernels == {
        "layer_0": (3, 3, 3, 64),
        "layer_1": (4, 4, 64, 64),
        "layer_2": (3, 3, 64, 128),
        "layer_3": (4, 4, 128, 128),
        "layer_4": (3, 3, 128, 256),
        "layer_5": (4, 4, 256, 256),
        "layer_6": (3, 3, 256, 512),
        "layer_7": (4 * 4 * 512, 1),
    }
    for name, layer in phi.items():
        assert layer["bias"].shape == vectors[name]["left"].shape == kernels[name][-1:]
    theta, statistics = shapes(generator())
    assert {name: x["kernel"].shape for name, x in theta.items() if "layer" in name} == {
        "layer_0": (128, 4 * 4 * 512),
        "layer_1": (4, 4, 512, 256),
        "layer_2": (4, 4, 256, 128),
        "layer_3": (4, 4, 128, 64),
        "layer_4": (3, 3, 64, 3),
    }
    assert {name: x["scale"].shape for name, x in theta.items() if "norm" in name} == {
        "norm_1": (256,),
        "norm_2": (128,),
        "norm_3": (64,),
    }
    assert {name: x["mean"].shape for name, x in statistics.items()} == {
        "norm_1": (256,),
        "norm_2": (128,),
        "norm_3": (64,),
    }


@pytest.mark.parametrize("size", [8, 16, 32])
@pytest.mark.parametrize("width", [1, 0.5, 0.125, 1 / 64])
def test_numbers_of_parameters(size, width):
    def wide(base):
        return max(1, round(base * width))

    def count(net):
        return sum(x.size for x in jax.tree.leaves(shapes(net)[0]))

    a, b, c, d, pixels = wide(64), wide(128), wide(256), wide(512), (size // 8) ** 2
    judge = 9 * 3 * a + 16 * a * a + 9 * a * b + 16 * b * b + 9 * b * c + 16 * c * c + 9 * c * d
    judge += 2 * a + 2 * b + 2 * c + d  # biases
    judge += pixels * d + 1
    assert count(discriminator(size=size, width=width)) == judge
    draw = (128 + 1) * pixels * d + 16 * (d * c + c * b + b * a)
    draw += 2 * (c + b + a)  # of the norms
    draw += 9 * a * 3 + 3
    assert count(generator(size=size, width=width)) == draw


def test_discriminator_is_its_table():
    net = discriminator(**TINY, spectral_norm=False)
    phi, vectors = shapes(net)
    assert jax.tree.leaves(vectors) == []
    phi, x = filled(phi), numbers(3, 8, 8, 3)

    def table(phi, x):
        for i in range(7):
            layer = phi[f"layer_{i}"]
            x = plain(x, layer["kernel"], 1 + i % 2) + layer["bias"]
            x = jnp.maximum(x, 0) + 0.1 * jnp.minimum(x, 0)
        assert x.shape[1:3] == (1, 1)
        return (x.reshape(3, -1) @ phi["layer_7"]["kernel"] + phi["layer_7"]["bias"])[:, 0]

    logits = quick(net.apply)(phi, vectors, x)
    assert np.ptp(logits) > 1e-3
    np.testing.assert_allclose(logits, quick(table)(phi, x), rtol=1e-12)


@pytest.fixture(scope="module")
def drawing():
    """A small generator, compiled, and its parameters."""
    net = generator(**TINY, latents=5)
    theta, statistics = shapes(net)
    statistics = jax.tree.map(lambda x: jnp.zeros(x.shape), statistics)
    return quick(net.apply, static_argnames="train"), filled(theta), statistics


def test_generator_is_its_table(drawing):
    apply, theta, statistics = drawing
    z = numbers(4, 5)

    def table(theta, z):
        x = (z @ theta["layer_0"]["kernel"] + theta["layer_0"]["bias"]).reshape(4, 1, 1, -1)
        for i in (1, 2, 3):
            x, norm = transposed(x, theta[f"layer_{i}"]["kernel"]), theta[f"norm_{i}"]
            centred = x - x.mean((0, 1, 2))
            x = centred / jnp.sqrt((centred**2).mean((0, 1, 2)) + 1e-5)
            x = jnp.maximum(x * norm["scale"] + norm["bias"], 0)
        return jnp.tanh(plain(x, theta["layer_4"]["kernel"], 1) + theta["layer_4"]["bias"])

    images, _ = apply(theta, statistics, z, train=True)
    assert images.shape == (4, 8, 8, 3)
    np.testing.assert_allclose(images, quick(table)(theta, z), rtol=1e-10, atol=1e-12)


def test_running_statistics_serve_evaluation_and_stay(drawing):
    """Evaluated with the statistics of one batch, that batch comes out as in training."""
    apply, theta, statistics = drawing
    z = numbers(4, 5)
    trained, moved = apply(theta, statistics, z, train=True)
    evaluated, kept = apply(theta, moved, z, train=False)
    np.testing.assert_allclose(evaluated, trained, rtol=1e-9, atol=1e-12)
    jax.tree.map(np.testing.assert_array_equal, kept, moved)
    other = apply(theta, moved, z * 2 + 1, train=False)[0]
    again = apply(theta, moved, np.concatenate([z[:1] * 2 + 1, z[1:]]), train=False)[0]
    np.testing.assert_allclose(again[0], other[0], rtol=1e-12)  # samples do not meet
    np.testing.assert_allclose(again[1:], evaluated[1:], rtol=1e-12)


# --- Batch norm


def test_batch_norm_normalises_and_remembers_what_has_been():
    """After k batches the running mean is Σ (1 − d) dᵏ⁻ⁱ mᵢ / (1 − dᵏ), also for small k."""
    graph, params, statistics = nnx.split(BatchNorm(3), nnx.Param, ...)
    batches = numbers(4, 5, 2, 2, 3) * [1, 2, 3] + [4, 5, 6]

    @quick
    def train(statistics, x):
        model = nnx.merge(graph, params, statistics)
        return model(x, True), nnx.state(model, nnx.Not(nnx.Param))

    weights = []
    for k, x in enumerate(batches):
        y, statistics = train(statistics, x)
        np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-14)
        spread = x.var((0, 1, 2))
        np.testing.assert_allclose(y.var((0, 1, 2)), spread / (spread + 1e-5), rtol=1e-12)
        weights = [0.999 * w for w in weights] + [0.001]
        seen = batches[: k + 1]
        for name, of in (("mean", seen.mean((1, 2, 3))), ("var", seen.var((1, 2, 3)))):
            running = statistics[name][...] / statistics["weight"][...]
            np.testing.assert_allclose(running, np.average(of, 0, weights), rtol=1e-12)
    np.testing.assert_allclose(statistics["weight"][...], 1 - 0.999**4, rtol=1e-12)
    x = batches[0]
    y = nnx.merge(graph, params, statistics)(x, False)
    mean, var = (statistics[name][...] / statistics["weight"][...] for name in ("mean", "var"))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-12)


def test_running_statistics_take_no_gradient():
    graph, *parts = nnx.split(BatchNorm(3), nnx.Param, ...)
    params, statistics = map(nnx.to_pure_dict, parts)

    def remembered(x):
        model = nnx.merge(graph, params, statistics)
        model(x, True)
        return model.mean[...].sum() + model.var[...].sum()

    assert not quick(jax.grad(remembered))(numbers(5, 2, 2, 3)).any()


# --- Spectral normalisation


def sigmas(phi, vectors):
    """One step of the power iteration in every layer, by hand: singular values, and vectors."""
    found = {}
    for name, layer in phi.items():
        matrix = np.asarray(layer["kernel"]).reshape(-1, layer["kernel"].shape[-1])
        right = matrix @ vectors[name]["left"]
        right /= np.linalg.norm(right)
        left = right @ matrix
        left /= np.linalg.norm(left)
        found[name] = right @ matrix @ left, left
    return found


def divided(phi, by):
    return {name: {**layer, "kernel": layer["kernel"] / by[name]} for name, layer in phi.items()}


@pytest.fixture(scope="module")
def judging():
    """A small discriminator, its apply and refresh compiled, and apply without normalisation."""
    net = discriminator(**TINY)
    phi, vectors = map(filled, shapes(net))
    bare = quick(discriminator(**TINY, spectral_norm=False).apply)
    return quick(net.apply), quick(net.refresh), bare, phi, vectors


def test_kernels_are_divided_by_the_value_that_one_step_finds(judging):
    """And biases are not. The vectors are those given, however far from converged."""
    apply, _, bare, phi, vectors = judging
    x = numbers(3, 8, 8, 3)
    before = jax.tree.map(np.array, vectors)
    logits = apply(phi, vectors, x)
    by = {name: sigma for name, (sigma, _) in sigmas(phi, vectors).items()}
    np.testing.assert_allclose(logits, bare(divided(phi, by), {}, x), rtol=1e-9)
    jax.tree.map(np.testing.assert_array_equal, vectors, before)
    np.testing.assert_array_equal(apply(phi, vectors, x), logits)  # the step is forgotten


def test_refresh_takes_that_step(judging):
    _, refresh, _, phi, vectors = judging
    for _ in range(2):
        expected = sigmas(phi, vectors)
        vectors = refresh(phi, vectors)
        for name, (_, left) in expected.items():
            np.testing.assert_allclose(vectors[name]["left"], left, rtol=1e-9, atol=1e-12)


def test_after_many_refreshes_the_largest_singular_value_is_one(judging):
    apply, refresh, bare, phi, vectors = judging
    for _ in range(400):
        vectors = refresh(phi, vectors)
    x = numbers(3, 8, 8, 3)
    by = {
        name: np.linalg.norm(layer["kernel"].reshape(-1, layer["kernel"].shape[-1]), 2)
        for name, layer in phi.items()
    }
    np.testing.assert_allclose(apply(phi, vectors, x), bare(divided(phi, by), {}, x), rtol=1e-6)


def test_the_scale_of_kernels_does_not_matter(judging):
    apply, refresh, _, phi, vectors = judging
    factors = {name: 2.0 ** (i % 3 - 1) for i, name in enumerate(phi)}
    x, scaled = numbers(3, 8, 8, 3), divided(phi, factors)
    np.testing.assert_allclose(apply(scaled, vectors, x), apply(phi, vectors, x), rtol=1e-8)
    for a, b in zip(
        *(map(jax.tree.leaves, (refresh(p, vectors) for p in (phi, scaled)))), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.fixture(scope="module")
def layer():
    """One layer at its start: drawing is what takes its time."""
    return Kernel((4, 4, 16, 24), Start(KEY, 0.5), spectral=True)


def test_gradient_flows_through_the_singular_value_and_not_through_its_vectors(layer):
    """∇⟨G, W/(vᵀWu)⟩ = G/σ − ⟨G, W⟩/σ² · v uᵀ: none along W itself."""
    graph, params, rest = nnx.split(layer, nnx.Param, ...)
    kernel, weights = np.asarray(layer.kernel[...]), numbers(4, 4, 16, 24)
    matrix = kernel.reshape(-1, 24)
    right = matrix @ np.asarray(layer.left[...])
    right /= np.linalg.norm(right)
    left = right @ matrix
    left /= np.linalg.norm(left)
    sigma = right @ matrix @ left

    @quick
    @jax.grad
    def gradient(params):
        return jnp.sum(weights * nnx.merge(graph, params, rest).normalised())

    found = gradient(params)["kernel"][...]
    outer = np.outer(right, left).reshape(kernel.shape)
    expected = weights / sigma - (weights * kernel).sum() / sigma**2 * outer
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    assert abs((found * kernel).sum()) < 1e-10
    assert sum(x.size for x in jax.tree.leaves(params)) == kernel.size + 24


def test_starts(layer):
    """Kernels truncated, with scale/√fan-in; biases zero."""
    assert layer.kernel[...].std() == pytest.approx(0.8796 / 32, rel=0.03)
    assert not layer.bias[...].any()
    assert float(jnp.sum(layer.left[...] ** 2)) == pytest.approx(1)
    kernel = Start(KEY, 1).kernel((4, 4, 16, 24)) * 16
    assert kernel.std() == pytest.approx(0.8796, rel=0.03)  # of a normal number cut at ±2
    assert 1.9 < np.abs(kernel).max() <= 2
    norm = BatchNorm(3)
    assert (norm.scale[...] == 1).all() and not norm.bias[...].any() and not norm.weight[...].any()


# --- Bad input


@pytest.mark.parametrize("make", [generator, discriminator])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 20}, "size must be a multiple of 8, got 20"),
        ({"size": 0}, "size must be an integer of at least 8, got 0"),
        ({"size": 16.0}, "size must be an integer"),
        ({"width": 0}, "width must be positive, got 0"),
        ({"width": -1}, "width must be positive, got -1"),
        ({"width": 1 / 65}, "width must leave a channel of 64"),
        ({"initial_scale": 0}, "initial_scale must be positive, got 0"),
        ({"channels": 0}, "channels must be an integer of at least 1, got 0"),
    ],
)
def test_bad_sizes_are_named(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_bad_latents_are_named():
    with pytest.raises(ValueError, match="latents must be an integer of at least 1, got 0"):
        generator(latents=0)


def test_bad_arguments_are_named():
    """Before anything is computed."""
    net = generator(**TINY, latents=5)
    for shape in ((3, 4), (5,), (3, 5, 1)):
        with pytest.raises(ValueError, match=r"z must have shape \(n, 5\), got"):
            jax.eval_shape(lambda t, s, z: net.apply(t, s, z, True), *shapes(net), jnp.ones(shape))
    net = discriminator(**TINY)
    for shape in ((3, 16, 16, 3), (3, 8, 8, 1), (8, 8, 3)):
        with pytest.raises(ValueError, match=r"images must have shape \(n, 8, 8, 3\), got"):
            jax.eval_shape(net.apply, *shapes(net), jnp.ones(shape))


@pytest.mark.parametrize("make", [generator, discriminator])
def test_other_channels(make):
    net = make(**TINY, channels=1)
    assert net.shape == (8, 8, 1)
    parts = shapes(net)
    if make is generator:
        images, _ = jax.eval_shape(
            lambda t, s, z: net.apply(t, s, z, True), *parts, jnp.ones((2, 128))
        )
        assert images.shape == (2, 8, 8, 1)
    else:
        assert jax.eval_shape(net.apply, *parts, jnp.ones((2, 8, 8, 1))).shape == (2,)
