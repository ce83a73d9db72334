import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ddlib.curvature import eigh, hessian, hvp, krylov, matrix_function, top_eigenpairs

N = 40


def symmetric(values, seed=0):
    """A dense matrix of prescribed spectrum, and its eigenvectors."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values),) * 2))
    return jnp.asarray((q * values) @ q.T), jnp.asarray(q)


def small_net(seed=0):
    rng = np.random.default_rng(seed)
    params = {"a": jnp.asarray(rng.normal(size=(3, 4))), "b": jnp.asarray(rng.normal(size=4))}
    x, y = jnp.asarray(rng.normal(size=(12, 3))), jnp.asarray(rng.normal(size=12))

    def loss(p, batch=(x, y)):
        return jnp.mean((jnp.tanh(batch[0] @ p["a"]) @ p["b"] - batch[1]) ** 2)

    return loss, params, (x, y)


def test_hvp_is_the_product_with_the_dense_hessian():
    loss, params, batch = small_net()
    flat, unravel = ravel_pytree(params)
    dense = jax.hessian(lambda z: loss(unravel(z)))(flat)
    v = jnp.asarray(np.random.default_rng(1).normal(size=flat.size))
    for matvec in (
        hvp(loss, params),
        hvp(loss, params, batch),
        hvp(loss, params, batch, num_chunks=4),
    ):
        np.testing.assert_allclose(ravel_pytree(matvec(unravel(v)))[0], dense @ v, atol=1e-13)
    np.testing.assert_allclose(hessian(loss, params), dense, atol=1e-13)


def test_eigh_rebuilds_the_hessian():
    loss, params, _ = small_net()
    values, vectors = eigh(loss, params)
    assert np.all(np.diff(values) <= 0)
    u = jax.vmap(lambda v: ravel_pytree(v)[0])(vectors)
    np.testing.assert_allclose(u.T @ jnp.diag(values) @ u, hessian(loss, params), atol=1e-13)


@pytest.mark.parametrize("scan", [True, False])
def test_krylov_basis_is_orthonormal_and_compresses(scan):
    a, _ = symmetric(np.linspace(-1, 3, N))
    start = jnp.asarray(np.random.default_rng(2).normal(size=N))
    space, _ = jax.jit(lambda v: krylov(lambda x: a @ x, v, 15, scan=scan)[0])(start), None
    np.testing.assert_allclose(space.basis @ space.basis.T, np.eye(15), atol=1e-13)
    np.testing.assert_allclose(space.basis @ a @ space.basis.T, space.matrix, atol=1e-12)


@pytest.mark.parametrize("distinct", [1, 2, 5])
def test_exhausted_krylov_spaces_give_exact_answers(distinct):
    """With as many products as distinct eigenvalues and more, the answer is exact and stays so."""
    values = np.resize(np.arange(1.0, distinct + 1), N)
    a, q = symmetric(values)
    v = jnp.asarray(np.random.default_rng(3).normal(size=N))
    exact = q @ (jnp.exp(values) * (q.T @ v))
    for num in (distinct, distinct + 1, distinct + 7):
        got = matrix_function(lambda x: a @ x, v, jnp.exp, num)
        np.testing.assert_allclose(got, exact, rtol=1e-11)
    diagonal = matrix_function(lambda x: jnp.asarray(values) * x, v, jnp.exp, distinct + 3)
    np.testing.assert_allclose(diagonal, jnp.exp(values) * v, rtol=1e-11)


def test_matrix_function_converges_to_the_dense_answer_and_may_be_complex():
    values = np.concatenate([np.linspace(0, 1, N - 3), [1.4, 1.9, 2.2]])
    a, q = symmetric(values)
    v = jnp.asarray(np.random.default_rng(4).normal(size=N))

    def root(z):
        return jnp.sqrt(1.2 - z.astype(complex))

    exact = q @ (root(jnp.asarray(values)) * (q.T @ v))
    errors = [
        float(jnp.linalg.norm(matrix_function(lambda x: a @ x, v, root, k) - exact))
        for k in (6, 14, N)
    ]
    assert errors[1] < errors[0] / 10
    assert errors[2] < 1e-11 * np.linalg.norm(exact)


def test_complex_symmetric_is_not_treated_as_hermitian():
    rng = np.random.default_rng(5)
    b = rng.normal(size=(12, 12)) + 1j * rng.normal(size=(12, 12))
    a = jnp.asarray(b + b.T) / 6
    v = jnp.asarray(rng.normal(size=12) + 1j * rng.normal(size=12))
    values, vectors = np.linalg.eig(a)
    exact = vectors @ (np.exp(values) * np.linalg.solve(vectors, v))
    got = matrix_function(lambda x: a @ x, v, jnp.exp, 12)
    np.testing.assert_allclose(got, exact, rtol=1e-10)


def test_top_eigenpairs_and_their_residuals():
    values = np.concatenate([np.linspace(0, 1, N - 2), [3.0, 5.0]])
    a, _ = symmetric(values)
    start = jnp.asarray(np.random.default_rng(6).normal(size=N))
    pairs, residuals = top_eigenpairs(lambda x: a @ x, start, 2, num_matvecs=20)
    np.testing.assert_allclose(pairs.values, [5.0, 3.0], rtol=1e-8)
    for value, vector, residual in zip(pairs.values, pairs.vectors, residuals, strict=True):
        true = jnp.linalg.norm(a @ vector - value * vector)
        assert float(true) <= float(residual) + 1e-12
    low = top_eigenpairs(lambda x: -jnp.eye(N) @ x, start, 1, num_matvecs=5)[0]
    np.testing.assert_allclose(low.values, [-1.0])  # not the zero of an exhausted space


def test_zero_start_gives_zero():
    got = matrix_function(lambda x: 2 * x, jnp.zeros(5), jnp.exp, 3)
    np.testing.assert_array_equal(got, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hvp(lambda p: p, jnp.ones(2)), "loss must return a scalar"),
        (lambda: hvp(lambda p: p.sum(), jnp.arange(3)), "params must be floating point"),
        (
            lambda: hvp(lambda p: p[0].sum(), (jnp.ones(2), jnp.ones(2, jnp.float32))),
            "params must share one dtype",
        ),
        (lambda: hvp(lambda p: 1.0, {}), "at least one array"),
        (lambda: hvp(lambda p: p.sum(), jnp.ones(2), num_chunks=2), "no batch"),
        (
            lambda: hvp(lambda p, b: p.sum(), jnp.ones(2), jnp.ones(3), num_chunks=2),
            "must divide",
        ),
        (lambda: krylov(lambda v: v, jnp.ones(3), 4), "at most 3"),
        (lambda: krylov(lambda v: v, jnp.ones(3), 0), "num_matvecs must be"),
        (lambda: krylov(lambda v: v, jnp.array([1.0, jnp.nan]), 1), "start must be finite"),
        (lambda: top_eigenpairs(lambda v: v, jnp.zeros(3), 1, num_matvecs=2), "must not be zero"),
        (lambda: top_eigenpairs(lambda v: v, jnp.ones(9), 5, num_matvecs=4), "num must be at"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
