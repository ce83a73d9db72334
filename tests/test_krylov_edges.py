"""Krylov spaces that are degenerate or badly scaled, held against the full decomposition."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddlib import flows
from ddlib.curvature import gradient, hvp, matrix_function, top_eigenpairs
from ddlib.curvature.programs import compiled_text


def of_spectrum(values, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values),) * 2))
    return (q * values) @ q.T


@partial(jax.jit, static_argnums=(2, 3, 4))
def pairs_of(matrix, start, num, num_matvecs, scan=True):
    return top_eigenpairs(lambda v: matrix @ v, start, num, num_matvecs=num_matvecs, scan=scan)


@partial(jax.jit, static_argnums=(2, 3, 4))
def function_of(matrix, v, fn, num_matvecs, scan=True):
    return matrix_function(lambda x: matrix @ x, v, fn, num_matvecs, scan=scan)


def checked(matrix, start, num, num_matvecs, scan=True):
    """The pairs, after a look at what every eigenpair must satisfy."""
    pairs, residuals = pairs_of(jnp.asarray(matrix), start, num, num_matvecs, scan)
    vectors = np.asarray(pairs.vectors)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(num), atol=1e-12)
    size = np.abs(np.asarray(matrix)).max()
    for value, vector, residual in zip(pairs.values, vectors, residuals, strict=True):
        true = np.linalg.norm(matrix @ vector - value * vector)
        assert true <= residual + 1e-12 * size
    return np.asarray(pairs.values), np.asarray(residuals)


SPECTRA = [[5, 5, 3], [5, 5, 5], [0, 0, 0], [2, 2, -1], [4, 0, 0], [-3, -3, -7]]


@pytest.mark.parametrize("scan", [True, False])
def test_repeated_eigenvalues_are_found_as_often_as_they_are(scan):
    """As many products as entries: what the full decomposition gives, from any start."""
    for values in SPECTRA:
        values = np.array(values, float)
        for matrix in (np.diag(values), of_spectrum(values)):
            got, _ = checked(matrix, jnp.ones(3), 3, 3, scan)
            allowed = 1e-13 * (1 + np.abs(values).max())
            np.testing.assert_allclose(got, np.sort(values)[::-1], atol=allowed)


def test_a_start_inside_an_invariant_space_does_not_hide_the_others():
    start = jnp.array([0.0, 0.0, 1.0, 0.0])
    got, _ = checked(np.diag([7.0, 5.0, 3.0, 1.0]), start, 2, 4)
    np.testing.assert_allclose(got, [7, 5], atol=1e-13)


def test_what_is_not_there_is_never_given_as_found():
    """Two products of a matrix of rank one: the second pair is one of eigenvalue zero, truly."""
    u = np.array([3.0, 4.0, 0.0]) / 5
    got, _ = checked(9 * np.outer(u, u), jnp.asarray(u), 2, 2)
    np.testing.assert_allclose(got, [9, 0], atol=1e-13)
    bad, _ = top_eigenpairs(lambda v: v * jnp.nan, jnp.ones(3), 2, num_matvecs=2)
    assert np.isnan(bad.values).all()


def test_under_a_trace_a_zero_start_still_finds_eigenvectors():
    matrix = jnp.asarray(of_spectrum([4.0, 2.0, 1.0]))
    got = jax.jit(lambda v: top_eigenpairs(lambda x: matrix @ x, v, 1, num_matvecs=3)[0].values)
    np.testing.assert_allclose(got(jnp.zeros(3)), [4.0], rtol=1e-12)


SINGULAR = {
    "log": jnp.log,
    "reciprocal": lambda z: 1 / z,
    "pole at two": lambda z: 1 / (z - 2),
    "root": jnp.sqrt,
}


@pytest.mark.parametrize("name", SINGULAR)
def test_functions_singular_off_the_spectrum(name):
    """Three distinct eigenvalues, up to six products: the space is exhausted at the third."""
    fn, values = SINGULAR[name], np.array([1.0, 1.0, 3.0, 3.0, 4.0, 4.0])
    v = np.random.default_rng(1).normal(size=6)
    for num in (3, 6):
        got = function_of(jnp.diag(values), jnp.asarray(v), fn, num)
        np.testing.assert_allclose(got, np.asarray(fn(values)) * v, rtol=1e-11, atol=1e-13)
        exact = of_spectrum(np.asarray(fn(values))) @ v
        got = function_of(jnp.asarray(of_spectrum(values)), jnp.asarray(v), fn, num)
        np.testing.assert_allclose(got, exact, rtol=1e-10, atol=1e-11)


def test_an_eigenvector_as_start_needs_one_product_and_stays_exact():
    matrix = np.diag([0.0, 2.0, 5.0])  # log is singular at the first, which has no part in v
    got = matrix_function(lambda x: jnp.asarray(matrix) @ x, jnp.array([0, 1.0, 0]), jnp.log, 3)
    np.testing.assert_allclose(got, [0, np.log(2), 0], atol=1e-15)


def identity(z):
    return z


@pytest.mark.parametrize("scan", [True, False])
def test_starts_and_matrices_of_any_size(scan):
    """In single precision, whose squares leave its range beyond 1e±19."""
    values, v = np.array([1.0, -2.0, 3.0]), np.array([1.0, -2.0, 1.5])

    def single(x):
        return jnp.asarray(x, jnp.float32)

    sizes = [(1, 1e-35), (1, 1e-25), (1, 1e25), (1, 1e35)]
    sizes += [(1e-30, 1), (1e-25, 1), (1e12, 1), (1e30, 1), (1e-15, 1e-15)]
    for of_matrix, of_start in sizes:
        matrix, start = single(of_matrix * np.diag(values)), single(of_start * v)
        pairs, residuals = pairs_of(matrix, start, 3, 3, scan)
        np.testing.assert_allclose(np.float64(pairs.values) / of_matrix, [3, 1, -2], rtol=1e-5)
        assert (np.float64(residuals) < 1e-5 * of_matrix).all()
        got = np.float64(function_of(matrix, start, identity, 3, scan))
        np.testing.assert_allclose(got / of_matrix / of_start, values * v, rtol=1e-5)


@pytest.mark.parametrize("size", [1e-23, 1e20])
def test_gradients_of_any_size_along_a_flow(size):
    values = np.array([1.0, 2.0, 3.0])

    def loss(y):
        return size * jnp.sum(values * y) + 0.5 * jnp.sum(values * y**2)

    with jax.enable_x64(False):
        y = jnp.zeros(3, jnp.float32)
        expected = -(1 + 0.05 * values) * size * values
        for products in (None, 3):
            got = flows.spectral_field(loss, flows.igr_alpha, 0.1, products)(y)
            np.testing.assert_allclose(np.float64(got), expected, rtol=1e-5)


@pytest.mark.parametrize("products", [None, 2])
def test_a_direction_in_which_one_step_lands_at_the_minimum_is_minus_infinity_alone(products):
    """h·(1, 2) = (½, 1): log(½)/½·1 = −1.386, and −∞ beside it, along the axes or turned."""
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    for axes in (np.eye(2), turn):
        matrix = jnp.asarray((axes * [1.0, 2.0]) @ axes.T)

        def loss(y, matrix=matrix):
            return y @ matrix @ y / 2

        alone = flows.spectral_field(loss, flows.principal_alpha, 0.5, products)
        # with a part in the first direction alone the other's infinity is not felt
        got = alone(jnp.asarray(axes[:, 0]))
        np.testing.assert_allclose(got, 2 * np.log(0.5) * axes[:, 0], rtol=1e-9, atol=1e-12)
        if products is None or axes is not turn:
            got = np.asarray(alone(jnp.asarray(axes.sum(1))))
            assert np.isnan(got).sum() == 0
            along = axes[:, 1] != 0
            assert np.isinf(got.real[along]).all()
            assert (np.sign(got.real[along]) == -np.sign(axes[along, 1])).all()
            np.testing.assert_allclose(got.real[~along], 2 * np.log(0.5), rtol=1e-9)
        assert not np.any(
            np.isnan(flows.critical_jacobian(loss, flows.principal_alpha, jnp.zeros(2), 0.5))
        )
    _, coefficients = flows.stability_coefficients(
        lambda y: 0.5 * (y[0] ** 2 + 2 * y[1] ** 2), jnp.ones(2), 0.5
    )
    assert coefficients[0].real == -np.inf and coefficients[0].imag == 0
    np.testing.assert_allclose(coefficients[1], 2 * np.log(0.5), rtol=1e-12)


@pytest.mark.parametrize("alpha", [flows.principal_alpha, flows.continued_alpha])
def test_alpha_at_one_is_minus_infinity_and_nothing_else(alpha):
    for z in (1.0, 1.0 + 0j):
        got = complex(alpha(jnp.asarray(z)))
        assert got.real == -np.inf and got.imag == 0


class Weighted:
    """A loss that is an object, may change, and compares equal to itself as it was."""

    def __init__(self, weight):
        self.weight = weight

    def loss(self, p, batch):
        return jnp.mean(batch) * jnp.sum(self.weight) * p**2


class Frozen:
    """A loss that hashes like any other of its kind."""

    def __init__(self, weight):
        self.weight = weight

    def __hash__(self):
        return 0

    def __eq__(self, other):
        return True

    def __call__(self, p, batch):
        return jnp.mean(batch) * jnp.sum(self.weight) * p**2


class Unhashable(Frozen):
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("kind", [Frozen, Unhashable])
def test_a_loss_in_chunks_is_the_loss_that_it_is_now(kind):
    batch = jnp.array([1.0, 2.0, 3.0, 6.0])
    for weight in (1.0, 10.0, jnp.array([1.0, 2.0])):
        for loss in (kind(weight), Weighted(weight).loss):
            total = 3.0 * np.sum(weight)
            assert gradient(loss, 3.0, batch, num_chunks=2).item() == 6 * total
            assert hvp(loss, 3.0, batch, num_chunks=2)(1.0).item() == 2 * total
    model = Weighted(1.0)
    first = gradient(model.loss, 3.0, batch, num_chunks=2).item()
    model.weight = 10.0
    assert gradient(model.loss, 3.0, batch, num_chunks=2).item() == 10 * first


def test_chunks_compile_once_for_a_program():
    def loss(p, batch):
        return jnp.mean((batch @ p) ** 2)

    compiled_text.cache_clear()
    batch = jnp.ones((4, 3))
    for k in range(5):
        gradient(loss, jnp.full(3, float(k)), batch, num_chunks=2)
    assert compiled_text.cache_info().misses == 1
