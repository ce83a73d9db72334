"""What a step does, said in numbers and words: against quadratics, where all of it is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ddlib
from ddlib.diagnosis import diagnose, watch

CURVATURES = jnp.array([6.0, 3.0, 1.0, 0.5])
START = jnp.array([1.0, -2.0, 0.5, 1.0])


def quadratic(y):
    return jnp.sum(CURVATURES * y**2) / 2


@pytest.mark.parametrize("h", [0.2, 0.5, 0.9])
def test_of_a_quadratic_every_number_is_exact(h):
    found = diagnose(quadratic, START, h, num=3)
    k, y = np.asarray(CURVATURES), np.asarray(START)
    g = k * y
    after = (1 - h * k) * y
    np.testing.assert_allclose(found.values, k[:3], rtol=1e-9)
    np.testing.assert_allclose(found.slopes, np.abs(g[:3]), rtol=1e-9)
    np.testing.assert_allclose(found.loss, (k * y**2).sum() / 2, rtol=1e-12)
    change = (k * after**2).sum() / 2 - found.loss
    np.testing.assert_allclose([found.predicted, found.observed], change, rtol=1e-9)
    np.testing.assert_allclose(found.along, -h * g[:3] ** 2 * (1 - h * k[:3] / 2), rtol=1e-9)
    np.testing.assert_allclose(found.drift, h**2 / 2 * np.linalg.norm(k * g), rtol=1e-9)
    alpha = np.log(1 - h * k[:3] + 0j) / (h * k[:3])
    np.testing.assert_allclose(found.coefficients, alpha * np.abs(g[:3]), rtol=1e-9)
    np.testing.assert_allclose(found.safe, 2 / 6.0, rtol=1e-9)
    np.testing.assert_allclose(found.falling, 2 * (g @ g) / (g @ (k * g)), rtol=1e-9)
    assert found.unstable == int((h * k[:3] > 2).sum()) and found.converged
    said = str(found)
    assert said.startswith("Unstable" if h * 6 > 2 else "Stable")
    assert ("rises" if change > 0 else "falls") in said


def test_the_sharpest_layer_leads():
    def loss(params):
        return params["soft"] @ params["soft"] + 5 * params["sharp"] @ params["sharp"]

    found = diagnose(loss, {"soft": jnp.ones(3), "sharp": jnp.ones(2)}, 0.1)
    assert [block.name for block in found.layers] == ["['sharp']", "['soft']"]
    np.testing.assert_allclose([block.value for block in found.layers], [10, 2], rtol=1e-9)
    assert "['sharp']" in str(found)
    assert (
        diagnose(loss, {"soft": jnp.ones(3), "sharp": jnp.ones(2)}, 0.1, layers=False).layers == []
    )


def test_at_rest_and_where_nothing_is_finite_it_says_so():
    assert "rests here" in str(diagnose(quadratic, jnp.zeros(4), 0.1))
    lost = diagnose(lambda y: jnp.log(y[0]) + y[1], jnp.array([-1.0, 1.0]), 0.1)
    assert "not finite" in str(lost) and lost.layers == []
    flat = diagnose(lambda y: -jnp.sum(y**2), jnp.ones(2), 0.1)
    assert flat.safe == np.inf and flat.unstable == 0


def test_too_few_products_are_owned_up_to():
    values = jnp.linspace(1.0, 10.0, 60)
    found = diagnose(lambda y: jnp.sum(values * y**2) / 2, jnp.ones(60), 0.1, num=2, num_matvecs=4)
    assert not found.converged and "Not converged" in str(found)


def test_in_chunks_it_says_the_same():
    rng = np.random.default_rng(0)
    batch = (jnp.asarray(rng.normal(size=(12, 4))), jnp.asarray(rng.normal(size=12)))

    def loss(y, batch):
        return jnp.mean(jnp.tanh(batch[0] @ y - batch[1]) ** 2)

    whole = diagnose(loss, START, 0.5, batch, num=2, layers=False)
    parts = diagnose(loss, START, 0.5, batch, num=2, num_chunks=3, layers=False)
    for name in ("loss", "values", "slopes", "predicted", "observed", "drift"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-6)


@pytest.mark.parametrize("h", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(h):
    with pytest.raises(ValueError, match="h must"):
        diagnose(quadratic, START, h)


def test_it_is_at_hand_from_the_library_itself():
    assert ddlib.diagnose is diagnose
    with pytest.raises(AttributeError, match="no attribute 'diagnos'"):
        _ = ddlib.diagnos


def test_an_observer_watches_a_loop_and_changes_nothing():
    def loss(y, batch):
        return batch * quadratic(y)

    observed, plain = optax.chain(watch(loss, 2, every=2), optax.adam(0.05)), optax.adam(0.05)
    y, z = START, START
    state, other = observed.init(y), plain.init(z)
    assert not np.isfinite(state[0].sharpness)

    @jax.jit
    def step(y, state, batch):
        updates, state = observed.update(jax.grad(loss)(y, batch), state, y, batch=batch, more=1)
        return optax.apply_updates(y, updates), state

    for t in range(5):
        scale = jnp.asarray(1.0 + t)
        updates, other = plain.update(jax.grad(loss)(z, scale), other, z)
        z = optax.apply_updates(z, updates)
        y, state = step(y, state, scale)
        looked = t - t % 2  # the last look
        np.testing.assert_allclose(
            state[0].track.values, (1.0 + looked) * CURVATURES[:2], rtol=1e-6
        )
    np.testing.assert_allclose(y, z, rtol=1e-12)
    with pytest.raises(ValueError, match="params must be given"):
        observed.update(y, state)
