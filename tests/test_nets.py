from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

from ddlib.curvature import hvp
from ddlib.nets import (
    count,
    cross_entropy,
    functional,
    mean_squared_error,
    mlp,
    resnet18,
    stateful,
    vgg11,
)

KEY = jax.random.key(0)
TINY = 1e-9  # one channel in every layer: each shape of a kernel costs a second to compile
HOLOMORPHIC = ("tanh", "sigmoid", "softplus", "silu")


def images(n=4, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(n, 32, 32, 3)).astype(dtype)


def small(activation="tanh", dtype=jnp.float64, key=KEY):
    return functional(mlp(3, [5, 4], 2, activation=activation, key=key, dtype=dtype))


def shapes(make, **options):
    """Parameters without numbers: nothing is computed."""
    return jax.eval_shape(lambda key: functional(make(key=key, **options))[0], KEY)


# --- Models


def vgg11_count(width, norm, outputs=10, channels=3):
    sizes = [max(1, round(c * width)) for c in (64, 128, 256, 256, 512, 512, 512, 512)]
    kernels = sum(9 * a * b for a, b in zip([channels, *sizes], sizes, strict=False))
    each = 1 if norm == "none" else 2  # a bias, or a norm's scale and bias
    return kernels + each * sum(sizes) + (sizes[-1] + 1) * outputs


def resnet18_count(width, norm, outputs=10, channels=3):
    a, b, c, d = (max(1, round(n * width)) for n in (64, 128, 256, 512))
    kernels = 9 * channels * a + 4 * 9 * a * a
    for small, large in ((a, b), (b, c), (c, d)):
        kernels += 9 * small * large + 3 * 9 * large * large + small * large
    each = 1 if norm == "none" else 2
    biases = a + 4 * a + 5 * (b + c + d)
    return kernels + each * biases + (d + 1) * outputs


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("width", [1, 1 / 8, 0.3, 1e-9])
@pytest.mark.parametrize(("make", "formula"), [(vgg11, vgg11_count), (resnet18, resnet18_count)])
def test_image_nets_have_the_parameters_of_the_papers(make, formula, width, norm):
    assert count(shapes(make, width=width, norm=norm)) == formula(width, norm)


def test_image_nets_take_other_channels_and_outputs():
    for make, formula in ((vgg11, vgg11_count), (resnet18, resnet18_count)):
        params = shapes(make, channels=1, outputs=100, width=TINY)
        assert count(params) == formula(TINY, "none", outputs=100, channels=1)


def test_mlp_is_its_formula():
    params, apply = small()
    x = np.random.default_rng(0).normal(size=(6, 3))
    y = x
    for name in sorted(params)[:-1]:
        y = np.tanh(y @ params[name]["kernel"] + params[name]["bias"])
    y = y @ params["layer_2"]["kernel"] + params["layer_2"]["bias"]
    np.testing.assert_allclose(apply(params, x), y, rtol=1e-13)
    assert count(params) == 3 * 5 + 5 + 5 * 4 + 4 + 4 * 2 + 2


def convolve(x, part, stride=1):
    kernel, pad = part["conv"]["kernel"], [(part["conv"]["kernel"].shape[0] // 2,) * 2] * 2
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, pad, dimension_numbers=layout)
    return y + part["conv"]["bias"]


def test_vgg11_is_its_table():
    params, apply = functional(vgg11(width=TINY, activation="tanh", key=KEY, dtype=jnp.float64))

    def table(params, x):
        for i, step in enumerate("1M 1M 1 1M 1 1M 1 1M".split()):
            x = jnp.tanh(convolve(x, params[f"layer_{i}"]))
            if "M" in step:
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *[(1, 2, 2, 1)] * 2, "VALID")
        assert x.shape[1:3] == (1, 1)
        return x[:, 0, 0] @ params["layer_8"]["kernel"] + params["layer_8"]["bias"]

    x = images(3, dtype=np.float64)
    np.testing.assert_allclose(jax.jit(apply)(params, x), jax.jit(table)(params, x), rtol=1e-12)


def test_resnet18_is_its_table():
    params, apply = functional(resnet18(width=TINY, activation="tanh", key=KEY, dtype=jnp.float64))

    def table(params, x):
        x = jnp.tanh(convolve(x, params["layer_0"]))
        for i in range(1, 9):
            part, stride = params[f"layer_{i}"], 2 if i in (3, 5, 7) else 1
            y = convolve(jnp.tanh(convolve(x, part["first"], stride)), part["second"])
            x = jnp.tanh(y + (convolve(x, part["shortcut"], stride) if stride == 2 else x))
        assert x.shape[1:3] == (4, 4)
        return x.mean((1, 2)) @ params["layer_9"]["kernel"] + params["layer_9"]["bias"]

    x = images(3, dtype=np.float64)
    np.testing.assert_allclose(jax.jit(apply)(params, x), jax.jit(table)(params, x), rtol=1e-12)


@pytest.mark.parametrize(("norm", "ratio"), [("none", 8), ("batch", 1)])
def test_residual_blocks_without_norm_start_with_small_last_kernels(norm, ratio):
    @jax.jit
    def variances(key):
        block = functional(resnet18(width=1 / 2, norm=norm, key=key))[0]["layer_2"]
        return [block[name]["conv"]["kernel"].var() for name in ("first", "second")]

    first, second = variances(KEY)
    assert float(first / second) == pytest.approx(ratio, rel=0.05)


def test_params_are_plain_named_and_in_the_order_of_the_data():
    params = shapes(mlp, inputs=3, widths=range(1, 13), outputs=2)
    assert list(params) == sorted(params) == [f"layer_{i:02}" for i in range(13)]
    assert [params[name]["bias"].shape[0] for name in sorted(params)] == [*range(1, 13), 2]
    params = shapes(resnet18, norm="batch")
    assert sorted(params["layer_3"]) == ["first", "second", "shortcut"]
    for path, _ in jax.tree.leaves_with_path(params):
        assert all(isinstance(key, jax.tree_util.DictKey) for key in path)
        assert all(type(key.key) is str for key in path)
    assert {type(leaf) for leaf in jax.tree.leaves(small()[0])} == {type(jnp.zeros(()))}


@pytest.mark.parametrize(("activation", "gain"), [("relu", 2), ("tanh", 1), (jax.nn.relu, 2)])
def test_kernels_start_with_the_variance_that_is_said(activation, gain):
    params, _ = functional(mlp(400, [300], 10, activation=activation, key=KEY))
    kernel = params["layer_0"]["kernel"]
    assert float(kernel.var() * 400) == pytest.approx(gain, rel=0.02)
    assert not params["layer_0"]["bias"].any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("make", [vgg11, resnet18])
def test_dtype_is_kept_whatever_the_data(make, norm, dtype):

    def traced(key, x):
        params, state, apply = stateful(make(width=TINY, norm=norm, key=key, dtype=dtype))
        return params, state, [apply(params, state, x, train=train) for train in (True, False)]

    for other in (np.float32, np.float64):
        x = jax.ShapeDtypeStruct((2, 32, 32, 3), other)
        params, state, results = jax.eval_shape(traced, KEY, x)
        assert [outputs.shape for outputs, _ in results] == [(2, 10)] * 2
        assert all(jax.tree.structure(new) == jax.tree.structure(state) for _, new in results)
        leaves = jax.tree.leaves((params, state, results))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("make", [vgg11, resnet18])
def test_examples_do_not_meet_without_batch_norm(make):
    model = make(width=TINY, norm="layer", activation="tanh", key=KEY, dtype=jnp.float64)
    params, apply = functional(model)
    x, order = images(5, dtype=np.float64), np.array([3, 1, 4, 0, 2])
    apply = jax.jit(apply)
    whole = apply(params, x)
    np.testing.assert_allclose(apply(params, x[order]), whole[order], rtol=1e-12, atol=1e-13)
    assert np.ptp(whole, axis=0).min() > 0


# --- The functional edge


def test_apply_is_pure_and_leaks_nothing():
    params, apply = small()
    before = jax.tree.map(np.array, params)
    x = np.random.default_rng(0).normal(size=(6, 3))
    loss = cross_entropy(apply, x, np.array([0, 1, 1, 0, 1, 0]))
    with jax.checking_leaks():
        value = jax.jit(loss)(params)
        jax.jit(jax.grad(loss))(params)
        jax.jit(hvp(loss, params))(params)
    np.testing.assert_array_equal(jax.jit(loss)(params), value)
    np.testing.assert_array_equal(apply(params, x), apply(params, x))
    jax.tree.map(np.testing.assert_array_equal, before, params)


def test_seeds_are_mapped_and_one_apply_serves_all():
    keys = jax.random.split(KEY, 3)
    _, apply = small()
    many = jax.vmap(lambda key: small(key=key)[0])(keys)
    x = np.random.default_rng(0).normal(size=(6, 3))
    together = jax.jit(jax.vmap(apply, in_axes=(0, None)))(many, x)
    for i, key in enumerate(keys):
        alone = jax.jit(apply)(small(key=key)[0], x)
        np.testing.assert_allclose(together[i], alone, rtol=1e-12)
    assert float(jnp.abs(together[0] - together[1]).max()) > 1e-3


def test_apply_made_while_tracing_is_free_of_tracers():
    made = []

    def start(key):
        params, apply = functional(vgg11(width=TINY, norm="batch", key=key))
        made.append(apply)
        return params

    with jax.checking_leaks():
        params = jax.eval_shape(start, KEY)
    assert jax.eval_shape(made[0], params, images(2)).shape == (2, 10)


def test_batch_norm_uses_the_batch_in_training_and_the_running_statistics_else():
    model = vgg11(width=TINY, norm="batch", activation="tanh", key=KEY, dtype=jnp.float64)
    params, state, apply = stateful(model)
    _, alone = functional(model)
    apply = jax.jit(apply, static_argnames="train")
    x = images(6, dtype=np.float64)
    outputs, moved = apply(params, state, x, train=True)
    np.testing.assert_allclose(jax.jit(alone)(params, x), outputs, rtol=1e-12)
    first = params["layer_0"]["conv"]["kernel"]
    z = jax.lax.conv_general_dilated(
        x, first, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    statistics = moved["layer_0"]["norm"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * z.mean((0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * z.var((0, 1, 2)), rtol=1e-9)
    evaluated, kept = apply(params, moved, x, train=False)
    jax.tree.map(np.testing.assert_array_equal, kept, moved)
    one_by_one = apply(params, moved, x[::-1], train=False)[0][::-1]
    np.testing.assert_allclose(one_by_one, evaluated, rtol=1e-10, atol=1e-12)
    assert float(jnp.abs(evaluated - outputs).max()) > 1e-3


def test_other_models_come_through_and_their_state_is_refused_or_kept():
    class Dropped(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(3, 2, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)])

        def __call__(self, x):
            return self.layers[1](self.layers[0](x))

    model = Dropped(nnx.Rngs(0))
    with pytest.raises(ValueError, match="nothing but parameters and batch statistics"):
        functional(model)
    params, state, apply = stateful(model)
    x = jnp.ones((50, 3))
    outputs, new = apply(params, state, x, train=True)
    assert 0 < float((outputs == 0).mean()) < 1
    assert float(jnp.abs(apply(params, new, x, train=True)[0] - outputs).max()) > 0  # drawn anew
    assert not (apply(params, state, x, train=False)[0] == 0).any()


# --- Complex parameters


def complex_point(params):
    """Off the real axis, at another phase in each entry."""
    flat, unravel = ravel_pytree(params)
    shift = np.random.default_rng(1).normal(size=flat.shape)
    return jax.tree.map(
        jax.lax.complex, params, jax.tree.map(lambda x: 0.1 * x, unravel(jnp.asarray(shift)))
    )


@pytest.mark.parametrize("activation", [*HOLOMORPHIC, lambda x: x**2])
@pytest.mark.parametrize("kind", ["cross entropy", "squares"])
def test_losses_are_holomorphic_in_complex_parameters(activation, kind):
    params, apply = small(activation)
    rng = np.random.default_rng(0)
    x, labels, y = rng.normal(size=(6, 3)), rng.integers(0, 2, 6), rng.normal(size=(6, 2))
    loss = (
        cross_entropy(apply, x, labels)
        if kind == "cross entropy"
        else mean_squared_error(apply, x, y)
    )
    flat, unravel = ravel_pytree(complex_point(params))
    f = jax.jit(lambda z: loss(unravel(z)))
    assert f(flat).dtype == jnp.complex128
    gradient = jax.grad(f, holomorphic=True)(flat)
    v, eps = rng.normal(size=flat.size), 1e-5
    along = {
        unit: (f(flat + eps * unit * v) - f(flat - eps * unit * v)) / (2 * eps * unit)
        for unit in (1, 1j)
    }
    # Cauchy–Riemann: the slope is the same along the real and the imaginary axis.
    np.testing.assert_allclose(along[1j], along[1], rtol=1e-7)
    np.testing.assert_allclose(gradient @ v, along[1], rtol=1e-7)
    # On the real axis it is the real loss, gradient and Hessian product.
    real = jax.tree.map(lambda p: p.astype(complex), params)
    np.testing.assert_allclose(loss(real), loss(params), rtol=1e-14)
    direction = unravel(jnp.asarray(v, complex))
    product = jax.jit(hvp(loss, real))(direction)
    expected = jax.jit(hvp(loss, params))(jax.tree.map(jnp.real, direction))
    np.testing.assert_allclose(
        ravel_pytree(product)[0], ravel_pytree(expected)[0], rtol=1e-9, atol=1e-12
    )


def test_resnet_without_norm_may_be_complex():
    params, apply = functional(resnet18(width=TINY, activation="tanh", key=KEY, dtype=jnp.float64))
    point, x = complex_point(params), images(2, dtype=np.float64)
    direction = complex_point(params)
    eps, apply = 1e-6, jax.jit(apply)

    def slope(unit):
        ends = [
            apply(jax.tree.map(lambda p, d, s=s: p + s * eps * unit * d, point, direction), x)
            for s in (1, -1)
        ]
        return (ends[0] - ends[1]) / (2 * eps * unit)

    np.testing.assert_allclose(slope(1j), slope(1), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (partial(mlp, 2, [3], 1, activation="relu"), "activation relu"),
        (partial(mlp, 2, [3], 1, activation=jax.nn.elu), "activation elu"),
        (partial(vgg11, width=TINY, activation="tanh"), "pooling by maximum"),
        (partial(resnet18, width=TINY, activation="tanh", norm="layer"), "norm layer"),
    ],
)
def test_what_is_not_holomorphic_is_named(model, what):
    x = jnp.zeros((1, 2)) if "activation" in what else images(1)

    def traced(key):
        params, apply = functional(model(key=key))
        return apply(jax.tree.map(lambda p: p.astype(complex), params), x)

    with pytest.raises(ValueError, match=f"not holomorphic are: .*{what}.*tanh or"):
        jax.eval_shape(traced, KEY)


# --- Losses


def test_losses_are_their_formulas():
    rng = np.random.default_rng(0)
    z, labels, y = rng.normal(size=(7, 4)), rng.integers(0, 4, 7), rng.normal(size=(7, 4))

    def apply(params, x):
        return params * x

    loss = cross_entropy(apply, z, labels)
    expected = optax.softmax_cross_entropy_with_integer_labels(3.0 * z, labels).mean()
    np.testing.assert_allclose(loss(3.0), expected, rtol=1e-14)
    np.testing.assert_allclose(
        mean_squared_error(apply, z, y)(3.0), ((3 * z - y) ** 2).sum(1).mean() / 2, rtol=1e-14
    )
    # An affine function of the parameters: the Hessian is the mean of x xᵀ.
    x = rng.normal(size=(9, 3))
    squares = mean_squared_error(lambda p, x: x @ p, x, rng.normal(size=9))
    np.testing.assert_allclose(
        jax.hessian(squares)(jnp.zeros(3)), np.einsum("ni,nj->ij", x, x) / 9, rtol=1e-13
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_keep_the_dtype_and_survive_large_logits(dtype):
    scale = dtype(1e30)
    z, labels = np.array([[1, -1], [-1, 1]], dtype), np.array([0, 0])
    loss = cross_entropy(lambda p, x: p * jnp.asarray(x), z, labels)
    value = loss(jnp.asarray(scale))
    assert value.dtype == dtype
    np.testing.assert_allclose(value, scale, rtol=1e-6)
    assert np.isfinite(jax.grad(loss)(jnp.asarray(scale)))
    y = np.ones((2, 2), np.float64)
    assert mean_squared_error(lambda p, x: p * x, z, y)(jnp.ones((), dtype)).dtype == dtype


def test_losses_take_a_batch_and_its_chunks():
    params, apply = small()
    rng = np.random.default_rng(0)
    x, labels = jnp.asarray(rng.normal(size=(6, 3))), jnp.asarray(rng.integers(0, 2, 6))
    fixed, free = cross_entropy(apply, x, labels), cross_entropy(apply)
    np.testing.assert_array_equal(fixed(params), free(params, (x, labels)))
    np.testing.assert_array_equal(
        fixed(params, (x[:2], labels[:2])), free(params, (x[:2], labels[:2]))
    )
    whole = jax.jit(hvp(fixed, params))(params)
    chunked = hvp(free, params, (x, labels), num_chunks=3)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-14), whole, chunked)


# --- Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mlp(3, [4], 2, activation="tanhh", key=KEY), "activation must be one of tanh"),
        (lambda: mlp(3, [4], 2, activation=7, key=KEY), "activation must be one of tanh"),
        (lambda: mlp(3, [0], 2, key=KEY), r"widths\[0\] must be an integer of at least 1, got 0"),
        (lambda: mlp(3, [4, 2.5], 2, key=KEY), r"widths\[1\] must be"),
        (lambda: mlp(3, 4, 2, key=KEY), "widths must be a sequence"),
        (lambda: mlp(0, [4], 2, key=KEY), "inputs must be"),
        (lambda: mlp(3, [4], -2, key=KEY), "outputs must be"),
        (lambda: mlp(3, [4], 2, key=KEY, dtype=jnp.int32), "dtype must be float32 or float64"),
        (lambda: mlp(3, [4], 2, key=KEY, dtype=complex), "dtype must be float32 or float64"),
        (lambda: vgg11(width=0, key=KEY), "width must be positive, got 0"),
        (lambda: resnet18(width=-1, key=KEY), "width must be positive, got -1"),
        (lambda: vgg11(norm="instance", key=KEY), "norm must be one of none, batch, layer"),
        (lambda: resnet18(channels=0, key=KEY), "channels must be"),
        (lambda: vgg11(0, key=KEY), "outputs must be"),
    ],
)
def test_bad_models_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_float64_wants_x64():
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        mlp(3, [4], 2, key=KEY, dtype=jnp.float64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, p: a(p, jnp.zeros((6, 4))), r"x must have shape \(batch, 3\), got \(6, 4\)"),
        (lambda a, p: a(p, jnp.zeros(3)), r"x must have shape \(batch, 3\), got \(3,\)"),
        (lambda a, p: a(p, 1.0), r"x must have shape \(batch, 3\), got \(\)"),
        (lambda a, p: cross_entropy(a)(p), "batch is missing"),
        (
            lambda a, p: cross_entropy(a, np.zeros((2, 3)), np.zeros((2, 2), int))(p),
            "one class for each row",
        ),
        (lambda a, p: cross_entropy(a, np.zeros((2, 3)), np.zeros(2))(p), "must be integers"),
        (
            lambda a, p: jax.jit(cross_entropy(a, np.zeros((2, 3)), np.array([0, 2])))(p),
            "labels must lie from 0 to 1, got 0 to 2",
        ),
        (
            lambda a, p: mean_squared_error(a, np.zeros((2, 3)), np.zeros(2))(p),
            r"y must be shaped as outputs \(2, 2\), got \(2,\)",
        ),
    ],
)
def test_bad_batches_are_named(call, message):
    params, apply = small()
    with pytest.raises(ValueError, match=message):
        call(apply, params)


def test_images_of_another_shape_are_named():
    params, apply = functional(vgg11(width=TINY, key=KEY))
    with pytest.raises(ValueError, match=r"x must have shape \(batch, 32, 32, 3\), got"):
        apply(params, np.zeros((2, 28, 28, 1)))
