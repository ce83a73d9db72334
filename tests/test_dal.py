"""DAL and its relatives: against dense algebra, and on what optax asks of a transformation."""

import os
import subprocess
import sys

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddlib import dal as room
from ddlib.curvature import hvp
from ddlib.dal import dal, finite_difference, scale_by_cdat, scale_by_dal, scale_by_secant

RNG = np.random.default_rng(0)
MATRIX = (lambda a: a @ a.T / 6 + 0.3 * np.eye(6))(RNG.normal(size=(6, 6)))


def quadratic(params):
    y = jnp.concatenate([params["a"].ravel(), params["b"]])
    return y @ jnp.asarray(MATRIX, y.dtype) @ y / 2


def start(dtype=jnp.float64):
    return {
        "a": jnp.asarray([[1.0, -2.0], [0.5, 1.5]], dtype),
        "b": jnp.asarray([1.0, -1.0], dtype),
    }


def flat(params):
    return np.concatenate([np.ravel(params["a"]), params["b"]])


WITH_PRODUCT = {
    "dal": lambda **k: scale_by_dal(**{"max_learning_rate": 5.0, **k}),
    "per parameter": lambda **k: scale_by_dal(max_learning_rate=5.0, per_parameter=True, **k),
    "cdat": lambda **k: scale_by_cdat(**{"max_learning_rate": 5.0, **k}),
}
ALL = {**WITH_PRODUCT, "secant": lambda **k: scale_by_secant(**{"max_learning_rate": 5.0, **k})}


def advance(tx, loss, params, state):
    grads = jax.grad(loss)(params)
    updates, state = tx.update(grads, state, params, hvp_fn=hvp(loss, params))
    return jax.tree.map(lambda p, u: p - u, params, updates), state


# -------------------------------------------------------------------------------------- the rates


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_the_rate_is_the_paper_s(power, factor):
    params = start()
    tx = scale_by_dal(power, max_learning_rate=100.0, factor=factor)
    grads = jax.grad(quadratic)(params)
    updates, state = tx.update(grads, tx.init(params), params, hvp_fn=hvp(quadratic, params))
    g = MATRIX @ flat(params)
    unit = g / np.linalg.norm(g)
    turn = np.linalg.norm(MATRIX @ unit)
    np.testing.assert_allclose(state.turn, turn, rtol=1e-12)
    np.testing.assert_allclose(state.curvature, unit @ MATRIX @ unit, rtol=1e-12)
    np.testing.assert_allclose(state.rate, factor / turn**power, rtol=1e-12)
    np.testing.assert_allclose(flat(updates), factor / turn**power * g, rtol=1e-12)


def test_each_parameter_has_its_own_rate_where_asked():
    params = start()
    tx = scale_by_dal(0.5, max_learning_rate=3.0, per_parameter=True)
    grads = jax.grad(quadratic)(params)
    updates, state = tx.update(grads, tx.init(params), params, hvp_fn=hvp(quadratic, params))
    g = MATRIX @ flat(params)
    turns = np.sqrt(6) * np.abs(MATRIX @ g / np.linalg.norm(g))
    rates = np.minimum(2 / np.sqrt(turns), 3.0)
    np.testing.assert_allclose(flat(updates), rates * g, rtol=1e-12)
    np.testing.assert_allclose(state.rate, rates.mean(), rtol=1e-12)


def test_dal_never_raises_a_quadratic_s_loss_and_a_lower_power_may():
    """ĝᵀHĝ ≤ |Hĝ| (Cauchy and Schwarz): the theorem, on random quadratics."""
    raised = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a = rng.normal(size=(5, 5)) * 3
        matrix, y = jnp.asarray(a @ a.T), jnp.asarray(rng.normal(size=5))

        def loss(y, matrix=matrix):
            return y @ matrix @ y / 2

        for power in (1.0, 0.5):
            tx = scale_by_dal(power, max_learning_rate=1e6)
            new, _ = advance(tx, loss, y, tx.init(y))
            change = float(loss(new) - loss(y))
            if power == 1:
                assert change <= 1e-12 * float(loss(y))
            else:
                raised += change > 0
    assert raised > 100  # these are sharp, |Hĝ| > 1


def test_units_leave_power_one_alone_and_move_the_others():
    for power, same in ((1.0, True), (0.5, False)):
        ends = []
        for c in (1.0, 7.0):
            tx, params = scale_by_dal(power, max_learning_rate=1e6), start()
            new, _ = advance(tx, lambda p, c=c: c * quadratic(p), params, tx.init(params))
            ends.append(flat(new))
        assert np.allclose(*ends, rtol=1e-12) == same


def test_it_is_twice_the_geometric_mean_of_the_barzilai_borwein_steps():
    """Of two successive gradient steps on a quadratic: Δθᵀ Δθ/ΔθᵀΔg and ΔθᵀΔg/ΔgᵀΔg."""
    params = start()
    g = MATRIX @ flat(params)
    step = -0.1 * g
    turned = MATRIX @ step
    long, short = step @ step / (step @ turned), step @ turned / (turned @ turned)
    tx = scale_by_dal(max_learning_rate=1e6)
    _, state = advance(tx, quadratic, params, tx.init(params))
    np.testing.assert_allclose(state.rate, 2 * np.sqrt(long * short), rtol=1e-12)


def test_uncapped_on_a_parabola_it_is_a_neutral_two_cycle_and_a_ceiling_ends_it():
    def parabola(y):
        return jnp.sum(y**2)

    for ceiling, converges in ((1e6, False), (0.1, True)):
        tx, y = scale_by_dal(max_learning_rate=ceiling), jnp.array([1.0, -2.0])
        state, first = tx.init(y), y
        for _ in range(100):
            y, state = advance(tx, parabola, y, state)
        if converges:
            assert np.abs(y).max() < 1e-6
        else:
            np.testing.assert_allclose(y, first, rtol=1e-9)


def test_momentum_is_that_of_the_paper_with_the_factor_shown():
    """v ← m·v − h·g, θ ← θ + v, by hand."""
    m, params = 0.8, start()
    for factor in (2.0, 0.5):
        tx = dal(1.0, max_learning_rate=100.0, momentum=m, factor=factor)
        p, state, y, v = params, tx.init(params), flat(params), 0.0
        for _ in range(5):
            updates, state = tx.update(jax.grad(quadratic)(p), state, p, hvp_fn=hvp(quadratic, p))
            p = optax.apply_updates(p, updates)
            g = MATRIX @ y
            v = m * v - factor * np.linalg.norm(g) / np.linalg.norm(MATRIX @ g) * g
            y = y + v
            np.testing.assert_allclose(flat(p), y, rtol=1e-10)


def test_cdat_is_the_averaged_ratio_and_bounds_dal():
    params, decay = start(), 0.7
    tx = scale_by_cdat(2.0, max_learning_rate=1e6, decay=decay)
    p, state, above, below = params, tx.init(params), 0.0, 0.0
    for _ in range(4):
        g = MATRIX @ flat(p)
        above = decay * above + (1 - decay) * g @ g
        below = decay * below + (1 - decay) * g @ MATRIX @ g
        p, state = advance(tx, quadratic, p, state)
        np.testing.assert_allclose(state.rate, 2 * above / below, rtol=1e-10)
    plain, own = (
        scale_by_cdat(max_learning_rate=1e6, decay=0.0),
        scale_by_dal(max_learning_rate=1e6),
    )
    _, one = advance(plain, quadratic, params, plain.init(params))
    _, other = advance(own, quadratic, params, own.init(params))
    assert one.rate >= other.rate


def test_secant_is_adgd_s_rule():
    """Malitsky and Mishchenko's λ, θ, by hand, with the factor ½ of the paper."""
    tx = scale_by_secant(0.5, max_learning_rate=1e6, initial=0.05)
    p, state = start(), None
    state = tx.init(p)
    y, rate, growth, last = flat(p), 0.05, 0.0, None
    for _ in range(12):
        g = MATRIX @ y
        if last is not None:
            secant = 0.5 * np.linalg.norm(y - last[0]) / np.linalg.norm(g - last[1])
            new = min(np.sqrt(1 + growth) * rate, secant)
            rate, growth = new, new / rate
        else:
            growth = 1.0
        last = (y, g)
        y = y - rate * g
        p, state = advance(tx, quadratic, p, state)
        np.testing.assert_allclose(state.rate, rate, rtol=1e-9)
        np.testing.assert_allclose(flat(p), y, rtol=1e-9)


def test_finite_differences_err_as_their_epsilon():
    """By half of ε times the third derivative; exact to rounding on a quadratic."""

    def loss(y):
        return jnp.sum(jnp.sin(y) + y**2)

    y, v = jnp.array([0.3, 1.0]), jnp.array([0.6, 0.8])
    exact = hvp(loss, y)(v)
    errors = []
    for epsilon in (1e-2, 5e-3):
        found = finite_difference(jax.grad(loss), y, jax.grad(loss)(y), epsilon)(v)
        errors.append(np.linalg.norm(found - exact))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    third = -jnp.cos(y) * v**2
    assert errors[0] == pytest.approx(0.005 * np.linalg.norm(third), rel=0.05)


# ------------------------------------------------------------------------- what optax asks of them


@pytest.mark.parametrize("name", ALL)
def test_a_zero_gradient_moves_nothing_and_raises_no_nan(name):
    tx, params = ALL[name](), start()
    zero, state = jax.tree.map(jnp.zeros_like, params), None
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(zero, state, params, hvp_fn=hvp(quadratic, params))
        assert not np.any(flat(updates))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


@pytest.mark.parametrize("name", WITH_PRODUCT)
def test_a_product_that_is_not_finite_takes_no_step_and_is_recorded(name):
    tx, params = WITH_PRODUCT[name](), start()
    grads = jax.grad(quadratic)(params)
    updates, state = tx.update(
        grads, tx.init(params), params, hvp_fn=lambda v: jax.tree.map(lambda x: x * jnp.nan, v)
    )
    assert not np.any(flat(updates)) and state.rate == 0
    if name != "cdat":
        assert not np.isfinite(state.turn)
    else:  # its averages go on as they were
        assert state.slope == 0
    again, state = tx.update(grads, state, params, hvp_fn=hvp(quadratic, params))
    assert np.isfinite(flat(again)).all() and state.rate > 0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_dtypes_are_kept_and_nothing_is_compiled_twice(name, dtype):
    tx, params, compiled = ALL[name](), start(dtype), []

    @jax.jit
    def step(params, state):
        compiled.append(1)
        grads = jax.grad(quadratic)(params)
        updates, state = tx.update(
            grads, state, params, hvp_fn=hvp(quadratic, params), value=1.0, unexpected="yes"
        )
        return optax.apply_updates(params, jax.tree.map(jnp.negative, updates)), state

    state = tx.init(params)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    for _ in range(3):
        params, state = step(params, state)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == shapes
    assert len(compiled) == 1

    taken = jax.jit(
        lambda flag: jax.lax.cond(
            flag,
            lambda: tx.update(
                jax.grad(quadratic)(params), state, params, hvp_fn=hvp(quadratic, params)
            )[1],
            lambda: state,
        )
    )(True)
    assert jax.tree.map(lambda x: x.dtype, taken) == jax.tree.map(lambda x: x.dtype, state)


@pytest.mark.parametrize("name", ALL)
def test_they_descend_alone_in_chains_and_under_wrappers(name):
    made = {
        "chain": lambda: optax.chain(
            optax.clip_by_global_norm(100.0), ALL[name](max_learning_rate=0.3)
            if name != "per parameter" else scale_by_dal(max_learning_rate=0.3, per_parameter=True)
        ),
        "multi": lambda: optax.MultiSteps(
            ALL[name](max_learning_rate=0.3)
            if name != "per parameter" else scale_by_dal(max_learning_rate=0.3, per_parameter=True),
            every_k_schedule=2,
        ),
    }  # fmt: skip
    for make in made.values():
        tx, params = make(), start()
        first, state = float(quadratic(params)), tx.init(params)

        @jax.jit
        def step(params, state, tx=tx):
            return advance(tx, quadratic, params, state)

        for _ in range(150):
            params, state = step(params, state)
        assert quadratic(params) < 1e-2 * first


def test_hyperparameters_may_be_injected_and_scheduled():
    tx = optax.inject_hyperparams(scale_by_dal)(
        power=1.0, max_learning_rate=optax.linear_schedule(0.5, 0.1, 10), factor=2.0
    )
    params = start()
    state = tx.init(params)
    seen = []
    for _ in range(12):
        params, state = advance(tx, quadratic, params, state)
        seen.append(float(state.hyperparams["max_learning_rate"]))
    assert seen[0] == pytest.approx(0.5) and seen[-1] == pytest.approx(0.1)


def test_one_program_serves_many_powers_and_ceilings():
    def train(power, ceiling):
        tx = scale_by_dal(power, max_learning_rate=ceiling)

        def step(carry, _):
            params, state = carry
            params, state = advance(tx, quadratic, params, state)
            return (params, state), state.rate

        return jax.lax.scan(step, (start(), tx.init(start())), length=5)[1]

    powers, ceilings = jnp.array([0.25, 0.5, 1.0]), jnp.array([0.1, 1.0, 1e6])
    together = jax.jit(jax.vmap(train))(powers, ceilings)
    alone = jnp.stack([train(float(p), float(c)) for p, c in zip(powers, ceilings, strict=True)])
    np.testing.assert_allclose(together, alone, rtol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_states_are_mapped_over_as_optax_does(name):
    tx, params = ALL[name](), start()
    state = tx.init(params)
    mapped = optax.tree_map_params(tx, lambda x: x + 1, state)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), mapped, state)
    if name == "secant":
        assert all(jax.tree.leaves((moved.params, moved.gradient)))
        assert not moved.rate
    else:
        assert not any(jax.tree.leaves(moved))


def test_two_players_each_have_their_own():
    """A zero-sum game: each player's rate from the curvature of its own loss."""

    def value(x, y):
        return x @ x / 2 * 3 + x @ y - y @ y / 2 * 5

    x, y = jnp.array([1.0, 0.5]), jnp.array([-1.0, 2.0])
    tx = scale_by_dal(max_learning_rate=0.2)
    sx, sy = tx.init(x), tx.init(y)
    for _ in range(200):
        ux, sx = tx.update(jax.grad(value)(x, y), sx, x, hvp_fn=hvp(lambda z, y=y: value(z, y), x))
        uy, sy = tx.update(
            -jax.grad(value, 1)(x, y), sy, y, hvp_fn=hvp(lambda z, x=x: -value(x, z), y)
        )
        x, y = x - ux, y - uy
    assert np.abs(x).max() < 1e-6 and np.abs(y).max() < 1e-6


def test_in_a_training_loop_of_flax():
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    x = jnp.asarray(RNG.normal(size=(20, 3)))
    target = x @ jnp.array([[1.0], [-2.0], [0.5]])
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params):
        return jnp.mean((nnx.merge(graph, params, rest)(x) - target) ** 2)

    tx = dal(max_learning_rate=0.5)
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        grads = jax.grad(loss)(params)
        updates, state = tx.update(grads, state, params, hvp_fn=hvp(loss, params))
        return optax.apply_updates(params, updates), state

    for _ in range(200):
        params, state = step(params, state)
    assert loss(params) < 1e-6


def test_parameters_may_be_sharded():
    code = """
import jax, jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from ddlib.curvature import hvp
from ddlib.dal import scale_by_dal
mesh = Mesh(jax.devices(), ("d",))
y = jax.device_put(jnp.arange(16.0) + 1, NamedSharding(mesh, P("d")))
loss = lambda y: (y**2 * jnp.linspace(1, 3, 16)).sum()
tx = scale_by_dal(max_learning_rate=1.0)
step = jax.jit(lambda y, s: tx.update(jax.grad(loss)(y), s, y, hvp_fn=hvp(loss, y)))
updates, state = step(y, tx.init(y))
one = scale_by_dal(max_learning_rate=1.0)
z = jnp.arange(16.0) + 1
alone, _ = one.update(jax.grad(loss)(z), one.init(z), z, hvp_fn=hvp(loss, z))
assert len(updates.sharding.device_set) == 8, updates.sharding
assert jnp.allclose(updates, alone, rtol=1e-6)
"""
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# --------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: scale_by_dal(-0.1, max_learning_rate=1.0),
            "power must be a number in .0, 2., got",
        ),
        (lambda: scale_by_dal(2.1, max_learning_rate=1.0), "power must be"),
        (lambda: scale_by_dal(float("nan"), max_learning_rate=1.0), "power must be"),
        (lambda: scale_by_dal(max_learning_rate=0.0), "max_learning_rate must be a positive"),
        (lambda: scale_by_dal(max_learning_rate=float("inf")), "max_learning_rate must be"),
        (lambda: scale_by_dal(max_learning_rate=1.0, factor=0), "factor must be a positive"),
        (lambda: dal(max_learning_rate=1.0, momentum=1.0), r"momentum must be a number in .0, 1\)"),
        (lambda: scale_by_cdat(max_learning_rate=1.0, decay=1.0), "decay must be"),
        (lambda: scale_by_cdat(0.0, max_learning_rate=1.0), "factor must be"),
        (lambda: scale_by_secant(max_learning_rate=-1.0), "max_learning_rate must be"),
        (lambda: scale_by_secant(max_learning_rate=1.0, initial=0.0), "initial must be"),
        (lambda: finite_difference(lambda p: p, 1.0, 1.0, 0.0), "epsilon must be"),
    ],
)
def test_what_will_not_do_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ALL)
def test_parameters_that_cannot_be_trained_are_refused(name):
    tx = ALL[name]()
    with pytest.raises(ValueError, match="floating-point"):
        tx.init({"a": jnp.arange(3)})
    with pytest.raises(ValueError, match="at least one array"):
        tx.update({}, tx.init({}), {}, hvp_fn=lambda v: v)


def test_a_missing_product_or_ceiling_is_python_s_own_error():
    tx = scale_by_dal(max_learning_rate=1.0)
    with pytest.raises(TypeError, match="hvp_fn"):
        tx.update(start(), tx.init(start()), start())
    with pytest.raises(TypeError, match="max_learning_rate"):
        scale_by_dal()
    secant = scale_by_secant(max_learning_rate=1.0)
    with pytest.raises(ValueError, match="params must be given"):
        secant.update(start(), secant.init(start()))
    assert room.DalState._fields == ("rate", "turn", "curvature")
