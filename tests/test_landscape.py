"""Slices of a loss: filters, and the values themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddlib.landscape import filter_direction, line, plane
from ddlib.nets import functional, mlp


def test_filters_of_a_direction_are_as_long_as_the_network_s():
    params, _ = functional(mlp(5, [7], 3, key=jax.random.key(0), dtype=jnp.float64))
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 2, 4)))
    found = filter_direction(jax.random.key(1), {"net": params, "conv": kernel})
    for p, d in zip(
        jax.tree.leaves({"net": params, "conv": kernel}), jax.tree.leaves(found), strict=True
    ):
        assert p.shape == d.shape and p.dtype == d.dtype
        if p.ndim < 2:
            np.testing.assert_array_equal(d, 0)
        else:
            axes = tuple(range(p.ndim - 1))
            np.testing.assert_allclose(
                np.linalg.norm(d.reshape(-1, p.shape[-1]), axis=0),
                np.linalg.norm(p.reshape(-1, p.shape[-1]), axis=0),
                rtol=1e-12,
            )
            assert np.std(d, axis=axes).min() > 0
    other = filter_direction(jax.random.key(2), {"net": params, "conv": kernel})
    assert not np.allclose(found["conv"], other["conv"])


def test_a_slice_does_not_change_when_a_filter_is_scaled():
    """Of ReLU layers, one up and the next down by as much: what the normalisation is for."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(20, 4)))
    first, second = jnp.asarray(rng.normal(size=(4, 6))), jnp.asarray(rng.normal(size=(6, 1)))

    def loss(params):
        return jnp.mean((jax.nn.relu(x @ params[0]) @ params[1] - 1) ** 2)

    slices = []
    for c in (1.0, 50.0):
        params = (first * c, second / c)
        direction = filter_direction(jax.random.key(0), params)
        slices.append(line(loss, params, direction, jnp.linspace(-1, 1, 5)))
    np.testing.assert_allclose(*slices, rtol=1e-9)


def test_a_plane_holds_its_lines_and_a_zero_filter_stays():
    def loss(params):
        return jnp.sum(params["w"] ** 2) + params["w"][0, 0] * params["b"][0]

    params = {"w": jnp.array([[1.0, 0.0], [2.0, 0.0]]), "b": jnp.array([3.0, 1.0])}
    one, other = (filter_direction(jax.random.key(i), params) for i in (0, 1))
    np.testing.assert_array_equal(one["w"][:, 1], 0)
    at = jnp.array([-0.5, 0.0, 2.0])
    found = jax.jit(lambda p: plane(loss, p, (one, other), at, at[:2]))(params)
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found[:, 1], line(loss, params, one, at), rtol=1e-12)
    np.testing.assert_allclose(found[1], line(loss, params, other, at[:2]), rtol=1e-12)
    moved = jax.tree.map(lambda p, a, b: p + 2 * a - 0.5 * b, params, one, other)
    np.testing.assert_allclose(found[2, 0], loss(moved), rtol=1e-12)


@pytest.mark.parametrize(
    ("params", "message"), [({}, "at least one array"), ({"w": jnp.ones((2, 2), int)}, "floating")]
)
def test_params_that_are_none_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        filter_direction(jax.random.key(0), params)
