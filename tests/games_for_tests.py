"""Random smooth games and the errors that convergence tests look at."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ddlib.drift import modified_terms
from ddlib.games import Players, game_field


def random_parameters(seed, sizes=(3, 2)):
    """Coefficients of two random smooth losses, and a point."""
    rng = np.random.default_rng(seed)
    n = sum(sizes)

    def loss():
        linear, quadratic = rng.normal(size=n), rng.normal(size=(n, n)) / n
        return (
            linear,
            quadratic,
            rng.normal(size=(n, n, n)) / n**2,
            rng.normal(size=(n, n)) / n**0.5,
        )

    y = Players(*(jnp.asarray(rng.normal(size=size)) * 0.5 for size in sizes))
    return Players(loss(), loss()), y


def losses_of(parameters):
    """Cubic polynomials of bounded features: no derivative up to the sixth vanishes."""

    def loss(linear, quadratic, cubic, mix):
        def value(y):
            x = jnp.concatenate([jnp.atleast_1d(y.phi), jnp.atleast_1d(y.theta)])
            z = jnp.tanh(mix @ x) + 0.3 * x
            return linear @ z + z @ quadratic @ z + jnp.einsum("ijk,i,j,k", cubic, z, z, z)

        return value

    return Players(loss(*parameters.phi), loss(*parameters.theta))


def random_game(seed, sizes=(3, 2)):
    """A general-sum game of two random smooth losses: its losses, its field and a point."""
    parameters, y = random_parameters(seed, sizes)
    losses = losses_of(parameters)
    return losses, game_field(losses), y


def flat(y):
    """One vector of a pytree of arrays."""
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(y)])


def distance(a, b):
    """Euclidean distance of two states."""
    return float(np.linalg.norm(flat(a) - flat(b)))


# A program that runs once costs its compilation alone.
once = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


def flow(field, y, time):
    """The state after `time` (which may be traced), to rounding.

    Gauss's collocation at six points, order 12, in four parts; its equations by fixed-point turns,
    each of which gains a factor of order time/4. The field stands in the program once.
    """
    nodes, weights = np.polynomial.legendre.leggauss(6)
    nodes, weights = (nodes + 1) / 2, weights / 2
    powers = np.vander(nodes, increasing=True)
    integrals = nodes[:, None] * powers / np.arange(1, 7) @ np.linalg.inv(powers)
    rows, size = jnp.asarray(np.vstack([integrals, weights])), time / 4

    def part(y, _):
        def turn(_, states):
            slopes = jax.vmap(field)(jax.tree.map(lambda x: x[:-1], states))
            return jax.tree.map(lambda x, k: x + size * jnp.tensordot(rows, k, 1), y, slopes)

        states = jax.tree.map(lambda x: jnp.broadcast_to(x, (7, *jnp.shape(x))), y)
        return jax.tree.map(lambda x: x[-1], jax.lax.fori_loop(0, 16, turn, states)), None

    return jax.lax.scan(part, jax.tree.map(jnp.asarray, y), length=4)[0]


def norm(a, b):
    """Euclidean distance of two states, traceable."""
    squares = jax.tree.map(lambda x, z: jnp.sum((x - z) ** 2), a, b)
    return jnp.sqrt(sum(jax.tree.leaves(squares)))


def last_slope(sizes, errors, floor=1e-12):
    """The slope of log error against log h between the two smallest h whose errors exceed `floor`.

    Below the floor rounding shows, far above h = 0 the next order does.
    """
    sizes, errors = np.asarray(sizes), np.asarray(errors)
    kept = np.argsort(sizes)[np.sort(errors) > floor][:2]
    assert len(kept) == 2, f"no order can be seen in {errors}"
    return np.diff(np.log(errors[kept]))[0] / np.diff(np.log(sizes[kept]))[0]


def order_of(error, sizes):
    """The observed order of a traceable error(h), compiled once, and the errors."""
    errors = np.asarray(once(jax.vmap(error))(jnp.asarray(sizes)))
    return last_slope(sizes, errors), errors


def truncation_errors(step, y, sizes, order):
    """Distances of one step from the flows of its modified fields: one row an order, 0 to `order`.

    The order is a traced mask on the terms, so that one program serves all.
    """
    terms = modified_terms(step, order)

    def error(h, kept):
        def field(z):
            return jax.tree.map(
                lambda *f: sum(kept[k] * h**k * f[k] for k in range(order + 1)), *terms(z)
            )

        return norm(flow(field, y, h), step(h, y))

    masks = jnp.tril(jnp.ones((order + 1, order + 1)))
    rows = jax.vmap(lambda kept: jax.vmap(lambda h: error(h, kept))(jnp.asarray(sizes)))
    return np.asarray(once(rows)(masks))
