"""Gradient descent observed: on quadratics every number of a run is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddlib.descent import descend, follow, sharpness
from ddlib.flows import continued_alpha, ngf_alpha, spectral_field

EPS = np.finfo(float).eps
LAMBDAS = np.array([3.0, 1.0, 0.25])
START = jnp.array([1.0, -2.0, 0.5])


def quadratic(y):
    return 0.5 * y @ (jnp.asarray(LAMBDAS) * y)


def exact(h, steps):
    """(1 − hλ)ⁿ y₀, a row a step."""
    return (1 - h * LAMBDAS) ** np.asarray(steps)[:, None] * np.asarray(START)


@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize("remembering", [False, True])
@pytest.mark.parametrize("every", [1, 3])
def test_every_look_is_at_its_iterate(convolutional, remembering, every):
    h, ticks = 0.3, []

    def with_memory(y, count):
        return {"y": y, "looks": count}, count + 1

    found = descend(
        quadratic,
        START,
        h,
        6,
        observe=with_memory if remembering else lambda y: {"y": y},
        memory=jnp.array(0) if remembering else None,
        every=every,
        report=ticks.append,
        convolutional=convolutional,
    )
    steps = np.arange(0, 7, every)
    np.testing.assert_allclose(found.seen["y"], exact(h, steps), rtol=64 * EPS)
    np.testing.assert_allclose(found.params, exact(h, [6])[0], rtol=64 * EPS)
    assert ticks == list(steps[1:]) and found.diverged_at == -1
    if remembering:
        np.testing.assert_array_equal(found.seen["looks"], np.arange(len(steps)))
        assert int(found.memory) == len(steps)


def test_a_compiled_run_is_the_run():
    @jax.jit
    def compiled(params, h):
        return descend(quadratic, params, h, 4, observe=quadratic, every=2)

    found, loop = (
        compiled(START, 0.3),
        descend(quadratic, START, 0.3, 4, observe=quadratic, every=2),
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(loop), strict=True):
        np.testing.assert_allclose(a, b, rtol=64 * EPS)
    many = jax.vmap(lambda h: descend(quadratic, START, h, 4))(jnp.array([0.1, 0.3]))
    np.testing.assert_allclose(many.seen[1], exact(0.3, range(5)), rtol=64 * EPS)


def test_a_diverged_run_is_data():
    def quartic(y):
        return y**4 / 4  # y ← y − hy³: from 3 at h = 1 to −24, 1.4e4, …, infinite at the seventh

    y, steps = 3.0, 0
    with np.errstate(all="ignore"):
        path = [np.float64(y)]
        while np.isfinite(path[-1]):
            path.append(path[-1] - path[-1] ** 3)
            steps += 1
    for wrap in (lambda f: f, jax.jit):
        run = wrap(lambda y: descend(quartic, y, 1.0, 10))(jnp.array(y))
        assert int(run.diverged_at) == steps
        assert len(run.seen) == 11 and not np.isfinite(run.seen[-1])


def test_sharpness_is_the_largest_eigenvalue_and_starts_warm():
    cold = sharpness(quadratic, START)
    np.testing.assert_allclose(cold.value, LAMBDAS[0], rtol=64 * EPS)
    np.testing.assert_allclose(np.abs(cold.vector), [1, 0, 0], atol=64 * EPS**0.5)
    assert cold.residual <= 64 * EPS * LAMBDAS[0]
    warm = sharpness(quadratic, START, start=cold.vector, num_matvecs=1)
    np.testing.assert_allclose(warm.value, LAMBDAS[0], rtol=64 * EPS)


def test_sharpness_along_the_descent_on_a_curved_loss():
    def loss(y):
        return jnp.sum(jnp.cosh(y) * jnp.array([1.0, 2.0])) + 0.1 * y[0] * y[1]

    def observe(y, vector):
        found = sharpness(loss, y, start=vector)
        return (y, found.value, found.residual), found.vector

    run = descend(loss, jnp.array([1.0, 0.7]), 0.1, 5, observe=observe, memory=jnp.ones(2))
    ys, values, residuals = run.seen
    for y, value, residual in zip(ys, values, residuals, strict=True):
        dense = np.linalg.eigvalsh(jax.hessian(loss)(jnp.asarray(y)))[-1]
        np.testing.assert_allclose(value, dense, rtol=64 * EPS)
        assert residual <= 256 * EPS * dense


@pytest.mark.parametrize("alpha", [ngf_alpha, continued_alpha])
def test_a_flow_is_followed_along_the_descent(alpha):
    """On quadratics exp(α(hλ)λt): NGF is e^{−λt}, the principal flow meets gradient descent."""
    h, steps = 0.5, np.arange(4)  # hλ₀ = 1.5: complex
    path = follow(spectral_field(quadratic, alpha, h), START, h, 3, rtol=1e-10, atol=1e-12)
    if alpha is ngf_alpha:
        expected = np.exp(-h * steps[:, None] * LAMBDAS) * np.asarray(START)
        assert not jnp.iscomplexobj(path)
    else:
        expected = exact(h, steps)
    np.testing.assert_allclose(path, expected, atol=1e-8)  # a hundred times the tolerance


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: descend(lambda y: y, START, 0.1, 1), "loss must return a scalar"),
        (lambda: descend(quadratic, START, 0.0, 1), "h must be positive"),
        (lambda: descend(quadratic, START, float("nan"), 1), "h must be finite"),
        (lambda: descend(quadratic, jnp.arange(3), 0.1, 1), "params must hold floating"),
        (lambda: descend(quadratic, START, 0.1, 3, every=2), "multiple of every=2, got 3"),
        (
            lambda: jax.jit(lambda y: descend(quadratic, y, 0.1, 1, report=print))(START),
            "report must be None inside a trace",
        ),
        (lambda: sharpness(lambda y: y, START), "loss must return a scalar"),
        (lambda: follow(lambda h, y: y, START, 0.1), "field must be a field"),
        (lambda: follow(lambda y: y, START, -0.1), "h must be positive"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
