"""Where numbers were wrong without a word: scales behind spectral norm, labels that name no class,
arrays that a step takes over, constants that a fingerprint does not see."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ddlib import gan, nets
from ddlib.games import Players
from ddlib.gan.layers import Kernel, Start
from ddlib.loop import run_steps
from ddlib.sweep import program_fingerprint

# --- Spectral norm of kernels of any scale


class Layer:
    """One spectrally normalised kernel, by itself."""

    def __init__(self, kernel, left):
        self.layer = Kernel(kernel.shape, Start(jax.random.key(0), 1), spectral=True)
        self.layer.left[...] = jnp.asarray(left, kernel.dtype)
        self.layer.kernel[...] = jnp.asarray(kernel)

    def normalised(self, kernel):
        graph, _, rest = nnx.split(self.layer, nnx.Param, ...)
        return nnx.merge(graph, {"kernel": kernel, "bias": jnp.zeros(5)}, rest).normalised()


rng = np.random.default_rng(0)
KERNEL = rng.normal(size=(2, 2, 3, 5))
SINGULAR = np.linalg.svd(KERNEL.reshape(-1, 5))
SCALES = [1e-30, 1e-20, 1e-12, 1e-7, 1e-5, 1.0, 1e5, 1e20, 1e30]


@pytest.mark.parametrize("scale", SCALES)
def test_a_kernels_scale_is_not_seen_behind_spectral_norm(scale):
    """From the left singular vector of a dense decomposition, the value is the largest one."""
    kernel = (KERNEL * scale).astype(np.float32)
    layer = Layer(kernel, SINGULAR[2][0])
    expected = KERNEL / SINGULAR[1][0]
    np.testing.assert_allclose(layer.layer.normalised(), expected, rtol=1e-5)
    np.testing.assert_allclose(layer.layer.power_step()[2], SINGULAR[2][0], rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-150, 1e-12, 1e-6, 1.0, 1e6, 1e150])
def test_the_slope_of_a_normalised_kernel_is_that_of_the_dense_decomposition(scale):
    """∇⟨G, W/σ⟩ = G/σ − ⟨G, W⟩/σ² · v uᵀ, with σ, v and u of the decomposition, in float64."""
    layer = Layer(KERNEL * scale, SINGULAR[2][0])
    weights = rng.normal(size=KERNEL.shape)
    found = jax.grad(lambda kernel: jnp.sum(weights * layer.normalised(kernel)))(KERNEL * scale)
    vectors, values, others = SINGULAR
    outer = np.outer(vectors[:, 0], others[0]).reshape(KERNEL.shape)
    expected = weights / values[0] - (weights * KERNEL).sum() / values[0] ** 2 * outer
    np.testing.assert_allclose(found * scale, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e20])
def test_the_slope_in_single_precision_neither_vanishes_nor_overflows(scale):
    layer = Layer((KERNEL * scale).astype(np.float32), SINGULAR[2][0])
    weights = rng.normal(size=KERNEL.shape).astype(np.float32)

    def value(kernel):
        return jnp.sum(weights * layer.normalised(kernel))

    small, plain = (
        jax.grad(value)(jnp.asarray(KERNEL * factor, jnp.float32)) * np.float32(factor)
        for factor in (scale, 1.0)
    )
    np.testing.assert_allclose(small, plain, rtol=1e-4, atol=1e-5)


def test_a_kernel_of_zeros_stays_one_and_may_leave():
    layer = Layer(np.zeros((2, 2, 3, 5), np.float32), SINGULAR[2][0])
    assert not layer.layer.normalised().any()
    slope = jax.grad(lambda kernel: layer.normalised(kernel).sum())(jnp.zeros((2, 2, 3, 5)))
    np.testing.assert_array_equal(slope, 1)  # that of the kernel itself
    left = layer.layer.power_step()[2]
    np.testing.assert_allclose(left, SINGULAR[2][0], rtol=1e-6)  # what is remembered stays
    step = jax.grad(lambda kernel: jnp.sum(layer.normalised(kernel) ** 2))
    grown = jax.jvp(step, (jnp.zeros((2, 2, 3, 5)),), (jnp.ones((2, 2, 3, 5)),))[1]
    assert np.isfinite(grown).all()


def test_a_vector_that_the_kernel_maps_to_zero_is_left_behind():
    """Two kernels of rank one in turn: the vector of the first says nothing of the second."""
    kernel = np.zeros((6, 4), np.float32)
    kernel[2, 1], kernel[4, 1] = 3, 4  # one singular value, 5
    layer = Layer(kernel, np.eye(4)[0])
    layer.layer.left[...] = layer.layer.power_step()[2]
    np.testing.assert_allclose(np.abs(layer.layer.left[...]), np.eye(4)[1])
    np.testing.assert_allclose(layer.layer.normalised(), kernel / 5, rtol=1e-6)


def test_a_diverged_kernel_is_not_made_finite():
    for bad in (np.nan, np.inf):
        kernel = KERNEL.astype(np.float32)
        kernel[0, 0, 0, 0] = bad
        assert not np.isfinite(Layer(kernel, SINGULAR[2][0]).layer.normalised()).all()


# --- Arrays that a step takes over


def small_game():
    return gan.Game(gan.mlp_networks(widths=(3,), latents=2), gan.saturating())


def test_what_an_observer_keeps_of_training_survives():
    """Each kept state is that of a run that ended there."""
    game = small_game()
    start = gan.init(game, jax.random.key(0), gan.Setting(Players(0.1, 0.1)))
    data = np.random.default_rng(0).normal(size=(10, 2))
    last, seen = gan.train(game, start, data, 4, batch_size=6, every=2, observe=lambda s: s)
    assert [int(state.step) for state in seen] == [0, 2, 4]
    for number, kept in enumerate(seen):
        alone, _ = gan.train(game, start, data, 2 * number, batch_size=6, every=2)
        jax.tree.map(np.testing.assert_array_equal, kept, alone)
    jax.tree.map(np.testing.assert_array_equal, last, seen[-1])
    again, _ = gan.train(game, seen[1], data, 4, batch_size=6, every=2)  # and one may go on there
    jax.tree.map(np.testing.assert_array_equal, again, last)
    gan.sample(game, start, jax.random.key(0), 2)  # the caller's state is still there


def test_what_an_observer_keeps_of_steps_is_not_overwritten():
    """Large enough for NumPy to look into JAX's memory rather than to copy it."""
    start = jnp.zeros(100_000)
    _, seen = run_steps(lambda t, y: y + 1, start, 3, observe=lambda y: y)
    np.testing.assert_array_equal(seen, np.arange(4.0)[:, None] * np.ones(100_000))
    np.testing.assert_array_equal(start, 0)


# --- Labels that name no class


LOGITS = rng.normal(size=(4, 3))


def loss_of(labels):
    return nets.cross_entropy(lambda params, x: params)(LOGITS, (0, labels))


@pytest.mark.parametrize("bad", [3, 1000, -1, -3, -4])
def test_a_label_that_names_no_class_is_an_error_or_nan(bad):
    labels = np.array([0, 2, bad, 1])
    with pytest.raises(ValueError, match="labels must lie from 0 to 2, got"):
        loss_of(labels)
    assert np.isnan(jax.jit(loss_of)(labels))
    assert np.isnan(jax.vmap(loss_of)(np.stack([labels, labels]))).all()

    def loss(params, labels):
        return nets.cross_entropy(lambda params, x: params)(params, (0, labels))

    slope = np.asarray(jax.jit(jax.grad(loss))(LOGITS, labels))
    assert np.isnan(slope[2]).all() and np.isfinite(np.delete(slope, 2, 0)).all()


def test_good_labels_under_a_trace_are_as_without():
    labels = np.array([0, 2, 2, 1], np.uint8)
    exact = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    expected = -np.log(exact[np.arange(4), labels]).mean()
    np.testing.assert_allclose([loss_of(labels), jax.jit(loss_of)(labels)], expected, rtol=1e-13)


# --- Constants of a program


FINGERPRINTS = """
import jax, jax.numpy as jnp, numpy as np
from ddlib.sweep import program_fingerprint as fingerprint
x = jnp.zeros(100)
a, b = jnp.arange(100.0), jnp.arange(100.0) + 1
def of(c):
    inner = jax.jit(lambda x: x * c)
    return [
        fingerprint(lambda x: x + c, x),
        fingerprint(lambda x: x + np.asarray(c), x),
        fingerprint(lambda x: inner(x) + 1, x),
        fingerprint(lambda x: jax.lax.fori_loop(0, 3, lambda i, x: x + c, x), x),
        fingerprint(lambda x: jax.lax.cond(x[0] > 0, lambda x: x + c, lambda x: x - c, x), x),
    ]
one, two, again = of(a), of(b), of(jnp.array(a))
assert one == again, "the same constants"
assert not set(one) & set(two), "other constants"
swapped = [fingerprint(lambda x: x * p + q, x) for p, q in ((a, b), (b, a))]
assert swapped[0] != swapped[1], "constants in another order"
"""


@pytest.mark.parametrize("simplified", ["0", "1"])
def test_a_fingerprint_sees_constants_however_jax_treats_them(simplified):
    environment = {**os.environ, "JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS": simplified}
    done = subprocess.run(
        [sys.executable, "-c", FINGERPRINTS],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    assert done.returncode == 0, done.stderr


def test_a_program_that_calls_python_has_no_fingerprint():
    """What it calls is in no text: two of them would look alike."""

    def called(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    with pytest.raises(ValueError, match="function must not call back to Python"):
        program_fingerprint(called, jnp.ones(3))
    with pytest.raises(ValueError, match="function must not call back to Python"):
        program_fingerprint(lambda x: jax.lax.map(called, x), jnp.ones((2, 3)))
