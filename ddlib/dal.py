"""Learning rates from the drift of the step itself: DAL and its relatives, for optax.

Along the gradient's direction ĝ one product with the Hessian says how far a step of size h ends
beside the gradient flow: h²‖g‖‖Hĝ‖/2. DAL (PF, Eq. 18) takes the rate 2/‖Hĝ‖, at which that is the
length of the step. Since ĝᵀHĝ ≤ ‖Hĝ‖, it never exceeds 2/ĝᵀHĝ: to second order the loss does not
rise. It reaches it where g is an eigenvector, on a parabola in particular, where the step is a
neutral two-cycle: hence a ceiling, which every rate here has.

    tx = dal(power=0.5, max_learning_rate=1.0)
    updates, state = tx.update(grads, state, params, hvp_fn=hvp(loss, params))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ddlib._check import is_concrete

Product = Callable[[PyTree], PyTree]


class DalState(NamedTuple):
    """What the last step rested on: its `rate` (per parameter: the mean), ‖Hĝ‖ and ĝᵀHĝ.

    >>> DalState(0.1, 20.0, 5.0).rate
    0.1
    """

    rate: Array
    turn: Array
    curvature: Array


def scale_by_dal(
    power: float | Array = 1.0,
    *,
    max_learning_rate: float | Array,
    factor: float | Array = 2.0,
    per_parameter: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Scale gradients by min(factor/‖Hĝ‖ᵖ, ceiling), ĝ the gradient's direction.

    Rosca et al. (TMLR 2023, arXiv:2302.01952), Eqs. 18 and 19: p = 1 is DAL, p < 1 takes more drift
    for more speed, p = 0 is a fixed rate. Only p = 1 is free of the loss's units: scaled by c, its
    rate falls by c, and its step is the same.

    `update` takes `hvp_fn`, a function v ↦ Hv at the parameters where the gradient was taken: of
    `ddlib.curvature.hvp`, or `finite_difference` of the gradient. Under `optax.MultiSteps` it is
    that of the last minibatch.

    Args:
      power: p, between 0 and 2; may be traced.
      max_learning_rate: the ceiling, positive; may be traced. It is what bounds the rate where the
        loss is flat, and what makes p = 1 converge on a parabola.
      factor: 2 in Eq. 18; Eq. 21, with momentum, prints ½.
      per_parameter: factor/(√D·|(Hĝ)ᵢ|)ᵖ for each of the D parameters, which is the same where all
        |(Hĝ)ᵢ| are (PF, Figures 51 and 52).

    Returns:
      A transformation whose state is a `DalState`. A zero gradient moves nothing. Where the product
      is not finite no step is taken, and the state says so (`turn` is not finite).

    Raises:
      ValueError: a power outside [0, 2], a ceiling or a factor that is not positive; parameters
        that are none, or integers. A missing `hvp_fn` is a `TypeError`.

    >>> tx = scale_by_dal(max_learning_rate=10.0)
    >>> params = jnp.array([1.0, 1.0])
    >>> h = jnp.array([4.0, 2.0])  # E = (4x² + 2y²)/2
    >>> _, state = tx.update(h * params, tx.init(params), params, hvp_fn=lambda v: h * v)
    >>> round(float(state.rate), 4), round(float(2 / state.curvature), 4)
    (0.5423, 0.5556)
    """
    _check_between("power", power, 0, 2)
    _check_positive("max_learning_rate", max_learning_rate)
    _check_positive("factor", factor)

    def init(params: PyTree) -> DalState:
        zero = jnp.zeros((), _precision(params))
        return DalState(zero, zero, zero)

    def update(
        updates: PyTree, state: DalState, params: PyTree = None, *, hvp_fn: Product, **others: Any
    ) -> tuple[PyTree, DalState]:
        dtype = state.rate.dtype
        direction, _ = _direction(updates, dtype)
        product = hvp_fn(jax.tree.map(lambda d, g: d.astype(g.dtype), direction, updates))
        product = jax.tree.map(lambda x: x.astype(dtype), product)
        turn = _norm(product, dtype)
        curvature = _dot(direction, product, dtype)
        ceiling = jnp.asarray(max_learning_rate, dtype)
        p = jnp.asarray(power, dtype)

        def rate(size: Array) -> Array:
            # the logarithm: no power overflows before the ceiling takes hold
            some = size > 0
            found = jnp.asarray(factor, dtype) * jnp.exp(-p * jnp.log(jnp.where(some, size, 1)))
            found = jnp.where(some | (p == 0), found, ceiling)
            return jnp.where(jnp.isfinite(turn), jnp.minimum(found, ceiling), 0)

        if per_parameter:
            root = math.sqrt(sum(x.size for x in jax.tree.leaves(product)))
            rates = jax.tree.map(lambda x: rate(root * jnp.abs(x)), product)
            shown = sum(jnp.sum(x) for x in jax.tree.leaves(rates)) / root**2
        else:
            shown = rate(turn)
            rates = jax.tree.map(lambda x: shown, product)
        moved = jax.tree.map(lambda r, g: _times(r, g), rates, updates)
        return moved, DalState(jnp.asarray(shown, dtype), turn, curvature)

    return optax.GradientTransformationExtraArgs(init, update)


def dal(
    power: float | Array = 1.0,
    *,
    max_learning_rate: float | Array,
    momentum: float | None = None,
    factor: float | Array = 2.0,
    per_parameter: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent with DAL's rate; with momentum, PF's Eqs. 20 and 21.

    v ← m·v − h_DAL·g, θ ← θ + v: the rate scales the gradient before it enters the momentum, since
    it is the gradient's part of the step that drifts.

    Args, returns and errors as `scale_by_dal`; and
      momentum: m in [0, 1), or None.

    >>> tx = dal(0.5, max_learning_rate=0.4)
    >>> params, h = jnp.array([1.0, 1.0]), jnp.array([4.0, 2.0])
    >>> state = tx.init(params)
    >>> for _ in range(40):
    ...     updates, state = tx.update(h * params, state, params, hvp_fn=lambda v: h * v)
    ...     params = optax.apply_updates(params, updates)
    >>> bool((h * params**2).sum() < 1e-4)
    True
    """
    scaled = scale_by_dal(
        power, max_learning_rate=max_learning_rate, factor=factor, per_parameter=per_parameter
    )
    if momentum is None:
        return optax.chain(scaled, optax.scale(-1.0))
    _check_between("momentum", momentum, 0, 1, open_above=True)
    return optax.chain(scaled, optax.trace(momentum), optax.scale(-1.0))


class CdatState(NamedTuple):
    """The last `rate`, and the averages of ‖g‖² and gᵀHg that it is the ratio of.

    >>> CdatState(0.1, 1.0, 10.0).rate
    0.1
    """

    rate: Array
    slope: Array
    curvature: Array


def scale_by_cdat(
    factor: float | Array = 2.0,
    *,
    max_learning_rate: float | Array,
    decay: float | Array = 0.9,
) -> optax.GradientTransformationExtraArgs:
    """Scale gradients by factor·‖g‖²/|gᵀHg|, both averaged over steps, up to a ceiling.

    Curvature dynamics aware tuning: Roulet et al., "Stepping on the edge" (2024,
    arXiv:2407.06183), of the gradient's direction. `factor` 2 is the edge; `hvp_fn` and what is not
    finite as in `scale_by_dal`. With decay 0 the rate is never below DAL's.

    >>> tx = scale_by_cdat(max_learning_rate=10.0, decay=0.0)
    >>> params, h = jnp.array([1.0, 1.0]), jnp.array([4.0, 2.0])
    >>> _, state = tx.update(h * params, tx.init(params), params, hvp_fn=lambda v: h * v)
    >>> round(float(state.rate), 4)
    0.5556
    """
    _check_positive("factor", factor)
    _check_positive("max_learning_rate", max_learning_rate)
    _check_between("decay", decay, 0, 1, open_above=True)

    def init(params: PyTree) -> CdatState:
        zero = jnp.zeros((), _precision(params))
        return CdatState(zero, zero, zero)

    def update(
        updates: PyTree, state: CdatState, params: PyTree = None, *, hvp_fn: Product, **others: Any
    ) -> tuple[PyTree, CdatState]:
        dtype = state.rate.dtype
        direction, norm = _direction(updates, dtype)
        product = hvp_fn(jax.tree.map(lambda d, g: d.astype(g.dtype), direction, updates))
        bend = _dot(direction, product, dtype) * norm**2
        keep = jnp.asarray(decay, dtype)
        good = jnp.isfinite(bend) & jnp.isfinite(norm)
        slope = jnp.where(good, keep * state.slope + (1 - keep) * norm**2, state.slope)
        curvature = jnp.where(good, keep * state.curvature + (1 - keep) * bend, state.curvature)
        size = jnp.abs(curvature)
        found = jnp.asarray(factor, dtype) * slope / jnp.where(size > 0, size, 1)
        ceiling = jnp.asarray(max_learning_rate, dtype)
        rate = jnp.where(size > 0, jnp.minimum(found, ceiling), ceiling)
        rate = jnp.where(good, rate, 0)
        return jax.tree.map(lambda g: _times(rate, g), updates), CdatState(rate, slope, curvature)

    return optax.GradientTransformationExtraArgs(init, update)


class SecantState(NamedTuple):
    """The last `rate`, its growth from the one before, and the last parameters and gradient.

    >>> SecantState(0.1, 1.0, None, None, 0).rate
    0.1
    """

    rate: Array
    growth: Array
    params: Any
    gradient: Any
    step: Array


def scale_by_secant(
    factor: float | Array = 1.0,
    *,
    max_learning_rate: float | Array,
    initial: float | Array = 1e-3,
) -> optax.GradientTransformationExtraArgs:
    """Scale gradients by factor·‖Δθ‖/‖Δg‖ of the last step: DAL's shape without a product.

    ‖Δg‖/‖Δθ‖ is ‖Hĝ‖ along the last step. The rate grows by at most √(1 + its last growth) a step,
    which is what keeps it from exploding: Malitsky and Mishchenko (2020, arXiv:1910.09529), whose
    AdGD is the factor ½. DAL's own factor, 2, is too large without the limit.

    `update` needs the parameters. On minibatches Δg is the difference of two batches' gradients,
    mostly noise: it is a rule for full batches.

    Args:
      factor: positive.
      max_learning_rate: the ceiling, positive.
      initial: the first step's rate.

    >>> tx = scale_by_secant(max_learning_rate=1.0, initial=0.01)
    >>> params, h = jnp.array([1.0, 1.0]), 2.0
    >>> state = tx.init(params)
    >>> for _ in range(20):
    ...     updates, state = tx.update(h * params, state, params)
    ...     params = params - updates
    >>> round(float(state.rate), 4)  # 1/‖H‖
    0.5
    """
    _check_positive("factor", factor)
    _check_positive("max_learning_rate", max_learning_rate)
    _check_positive("initial", initial)

    def init(params: PyTree) -> SecantState:
        dtype = _precision(params)
        some = jax.tree.map(jnp.zeros_like, params)
        return SecantState(
            jnp.asarray(initial, dtype), jnp.zeros((), dtype), some, some, jnp.zeros((), jnp.int32)
        )

    def update(
        updates: PyTree, state: SecantState, params: PyTree = None, **others: Any
    ) -> tuple[PyTree, SecantState]:
        if params is None:
            raise ValueError("params must be given to update, got None: the secant is between two")
        _check_some(updates)
        dtype = state.rate.dtype
        moved = _norm(jax.tree.map(jnp.subtract, params, state.params), dtype)
        turned = _norm(jax.tree.map(jnp.subtract, updates, state.gradient), dtype)
        ceiling = jnp.asarray(max_learning_rate, dtype)
        limit = jnp.sqrt(1 + state.growth) * state.rate
        secant = jnp.asarray(factor, dtype) * moved / jnp.where(turned > 0, turned, 1)
        found = jnp.where(turned > 0, jnp.minimum(limit, secant), limit)
        found = jnp.where(state.step == 0, state.rate, found)
        found = jnp.where(moved > 0, found, state.rate)  # nothing was learnt
        good = jnp.isfinite(turned) & jnp.isfinite(moved)
        rate = jnp.where(good, jnp.minimum(found, ceiling), state.rate)
        growth = jnp.where(good, rate / state.rate, state.growth)
        applied = jnp.where(good, rate, 0)
        new = SecantState(rate, growth, params, updates, state.step + 1)
        return jax.tree.map(lambda g: _times(applied, g), updates), new

    return optax.GradientTransformationExtraArgs(init, update)


def finite_difference(
    gradient: Callable[[PyTree], PyTree], params: PyTree, at: PyTree, epsilon: float = 1e-2
) -> Product:
    """A product with the Hessian by one more gradient: v ↦ (∇E(θ + εv) − ∇E(θ))/ε.

    For v of unit length, as DAL's. The error is ε/2 times the third derivative along v, and
    rounding over ε: ε = 0.01, which PF's code takes, suits single precision and networks.

    Args:
      gradient: params -> the gradient.
      params: where.
      at: the gradient there, which has been computed anyway.
      epsilon: ε, positive.

    >>> product = finite_difference(jax.grad(lambda y: (y**2).sum()), jnp.ones(2), 2 * jnp.ones(2))
    >>> product(jnp.array([1.0, 0.0])).round(3).tolist()
    [2.0, 0.0]
    """
    _check_positive("epsilon", epsilon)

    def product(v: PyTree) -> PyTree:
        near = jax.tree.map(lambda p, d: p + jnp.asarray(epsilon, p.dtype) * d, params, v)
        return jax.tree.map(lambda a, b: (a - b) / epsilon, gradient(near), at)

    return product


def _precision(params: PyTree) -> Any:
    """The dtype of rates: the widest of the parameters', single at least."""
    leaves = jax.tree.leaves(params)
    if not leaves:  # so asks `optax.tree_map_params` for the shape of a state; `update` refuses
        return jnp.float32
    dtype = jnp.result_type(*leaves)
    if not jnp.issubdtype(dtype, jnp.floating) or any(
        not jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in leaves
    ):
        raise ValueError(f"params must hold real floating-point numbers, got {dtype}")
    return jnp.promote_types(dtype, jnp.float32)


def _norm(tree: PyTree, dtype: Any) -> Array:
    """The Euclidean norm, of entries whose squares may be out of range."""
    leaves = [jnp.abs(x.astype(dtype)) for x in jax.tree.leaves(tree)]
    size = jnp.stack([jnp.max(x, initial=0) for x in leaves]).max()
    safe = jnp.where((size > 0) & jnp.isfinite(size), size, 1)
    return safe * jnp.sqrt(sum(jnp.sum((x / safe) ** 2) for x in leaves))


def _dot(a: PyTree, b: PyTree, dtype: Any) -> Array:
    return jnp.asarray(
        sum(
            jnp.sum(x.astype(dtype) * y.astype(dtype))
            for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        ),
        dtype,
    )


def _direction(updates: PyTree, dtype: Any) -> tuple[PyTree, Array]:
    """The unit vector along the gradient, zero where that is, and its norm."""
    _check_some(updates)
    norm = _norm(updates, dtype)
    safe = jnp.where(norm > 0, norm, 1)
    return jax.tree.map(lambda g: g.astype(dtype) / safe, updates), norm


def _times(rate: Array, g: Array) -> Array:
    """rate·g in g's dtype; a rate of zero moves nothing, whatever g is."""
    return jnp.where(rate == 0, 0, rate * g.astype(rate.dtype)).astype(g.dtype)


def _check_some(updates: PyTree) -> None:
    if not jax.tree.leaves(updates):
        raise ValueError("updates must hold at least one array, got none")


def _check_positive(name: str, value: Any) -> None:
    if is_concrete(value) and not (jnp.ndim(value) == 0 and math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number, got {value!r}")


def _check_between(
    name: str, value: Any, low: float, high: float, *, open_above: bool = False
) -> None:
    if not is_concrete(value):
        return
    good = jnp.ndim(value) == 0 and math.isfinite(value) and low <= value <= high
    if not good or (open_above and value == high):
        end = ")" if open_above else "]"
        raise ValueError(f"{name} must be a number in [{low}, {high}{end}, got {value!r}")
