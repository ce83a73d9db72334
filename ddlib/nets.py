"""Networks: Flax NNX models, functional at the edge, and losses.

`functional` turns a model into parameters, a nested dict of arrays, and a function of them; from
there on everything is a function of a pytree::

    params, apply = functional(mlp(784, [100, 100], 10, key=jax.random.key(0)))
    loss = cross_entropy(apply, images, labels)
    gradient = jax.grad(loss)(params)

Parameters may become complex, as the principal flow makes them, where all parts of the network are
holomorphic; elsewhere complex parameters raise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree

from ddlib._check import check_count, check_inexact, check_step_size, is_concrete

Apply = Callable[[PyTree, Any], Array]
Activation = str | Callable[[Any], Array]
Norm = Literal["none", "batch", "layer"]

_HOLOMORPHIC: dict[str, Callable[[Any], Array]] = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
}
_PIECEWISE: dict[str, Callable[[Any], Array]] = {"relu": jax.nn.relu, "elu": jax.nn.elu}
_ACTIVATIONS = _HOLOMORPHIC | _PIECEWISE


def functional(model: nnx.Module) -> tuple[PyTree, Apply]:
    """The parameters of a model and the function (params, x) -> outputs.

    Batch norm uses the statistics of the batch x itself, so that a batch's loss is a function of
    the parameters alone, as full-batch gradient descent has it; cut into chunks it is another
    function. `stateful` has running statistics. `apply` holds no arrays: it serves the parameters
    of any model made with the same sizes.

    Args:
      model: an NNX module that holds parameters and batch statistics only.

    Returns:
      params: nested dict of arrays; the networks here have `layer_0`, `layer_1`, … in the order in
        which data pass them.
      apply: function of a batch x, leading axis the example, and of a pytree like params, possibly
        complex. It computes in the precision of the parameters.

    Raises:
      ValueError: a model with other state, such as dropout's. When applied: params that are
        integers, complex x where params are real, batch norm in half precision.

    >>> params, apply = functional(mlp(3, [4], 2, key=jax.random.key(0)))
    >>> jax.tree.map(jnp.shape, params)["layer_0"]
    {'bias': (4,), 'kernel': (3, 4)}
    >>> apply(params, jnp.zeros((5, 3))).shape
    (5, 2)
    """
    other = nnx.to_flat_state(nnx.state(model, nnx.Not(nnx.Any(nnx.Param, nnx.BatchStat))))
    if names := [".".join(map(str, path)) for path, _ in other]:
        raise ValueError(
            f"model must hold nothing but parameters and batch statistics, has {names}"
        )
    params, state, apply = stateful(model)
    shapes = jax.tree.map(jnp.shape, state, is_leaf=lambda x: isinstance(x, jax.Array))

    def apply_alone(params: PyTree, x: Any) -> Array:
        dtype = _precision(params)
        blank = jax.tree.map(
            lambda shape: jnp.zeros(shape, dtype), shapes, is_leaf=lambda x: isinstance(x, tuple)
        )
        return apply(params, blank, x, train=True)[0]

    return params, apply_alone


def stateful(model: nnx.Module) -> tuple[PyTree, PyTree, Callable[..., tuple[Array, PyTree]]]:
    """The parameters of a model, its other state, and the function of both.

    Args:
      model: an NNX module.

    Returns:
      params: as `functional`.
      state: nested dict of arrays: the running statistics of batch norm, or all that a model of
        one's own holds beside parameters.
      apply: function (params, state, x, *, train) -> (outputs, state). With `train`, batch norm
        uses the statistics of x and moves the running ones a tenth of the way to them; else it uses
        the running ones, and the state stays.

    >>> params, state, apply = stateful(mlp(3, [], 2, key=jax.random.key(0)))
    >>> outputs, state = apply(params, state, jnp.zeros((5, 3)), train=True)
    >>> outputs.shape, state
    ((5, 2), {})
    """
    graph, *parts = nnx.split(model, nnx.Param, ...)
    params, state = map(nnx.to_pure_dict, parts)

    def apply(params: PyTree, state: PyTree, x: Any, *, train: bool) -> tuple[Array, PyTree]:
        x = _in_precision_of(params, x)
        model = nnx.merge(graph, params, state)
        model.train() if train else model.eval()
        outputs = model(x)
        return outputs, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))

    return params, state, apply


def _precision(params: PyTree) -> Any:
    """The real type of a tree's numbers; JAX's own of a tree without any."""
    check_inexact("params", params)
    leaves = jax.tree.leaves(params)
    return jnp.finfo(jnp.result_type(*leaves) if leaves else jnp.result_type(float)).dtype


def _in_precision_of(params: PyTree, x: Any, name: str = "x") -> Array:
    """Real x in the precision of the parameters: float64 data make no float64 net."""
    x = jnp.asarray(x)
    dtype = _precision(params)
    if jnp.iscomplexobj(x) and not any(map(jnp.iscomplexobj, jax.tree.leaves(params))):
        raise ValueError(f"{name} must be real, as the parameters are, got {x.dtype}")
    return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x


def count(params: PyTree) -> int:
    """The number of parameters.

    >>> count({"kernel": np.zeros((3, 4)), "bias": np.zeros(4)})
    16
    """
    return sum(x.size for x in jax.tree.leaves(params))


def mlp(
    inputs: int,
    widths: Sequence[int],
    outputs: int,
    *,
    activation: Activation = "tanh",
    key: Array,
    dtype: Any = jnp.float32,
) -> nnx.Module:
    """A multilayer perceptron: linear maps with an activation between them.

    In this network and the next two, kernels start as truncated normal numbers of variance
    gain / fan-in, with gain 2 for relu, elu and silu (He et al., 2015) and 1 for all others (LeCun
    et al., 1998), and biases start at zero.

    Args:
      inputs, outputs: numbers of entries of an example and of its outputs.
      widths: of the hidden layers, one for each; with none of them the model is linear.
      activation: "tanh", "sigmoid", "softplus", "silu": holomorphic; "relu", "elu": not; or an
        elementwise function, which is trusted where parameters are complex.
      key: PRNG key of the start.
      dtype: of the parameters, float32 or float64.

    Raises:
      ValueError: sizes that are not positive integers, an unknown activation, another dtype,
        float64 while JAX has it off. When applied: x of another shape than (batch, inputs), or
        complex parameters where an activation is not holomorphic.

    >>> params, _ = functional(mlp(3, [4, 4], 2, activation="relu", key=jax.random.key(0)))
    >>> sorted(params), count(params)
    (['layer_0', 'layer_1', 'layer_2'], 46)
    """
    if not isinstance(widths, Sequence):
        raise ValueError(f"widths must be a sequence, such as [100, 100], got {widths!r}")
    sizes = [inputs, *widths, outputs]
    names = ["inputs", *(f"widths[{i}]" for i in range(len(widths))), "outputs"]
    for name, size in zip(names, sizes, strict=True):
        check_count(name, size)
    parts = _Parts(activation, "none", key, dtype)
    steps: list[Any] = []
    for a, b in itertools.pairwise(sizes):
        steps += [parts.linear(a, b), parts.activate]
    return _Chain(steps[:-1], (inputs,), parts.not_holomorphic)


def vgg11(
    outputs: int = 10,
    *,
    width: float = 1,
    norm: Norm = "none",
    activation: Activation = "relu",
    channels: int = 3,
    key: Array,
    dtype: Any = jnp.float32,
) -> nnx.Module:
    """VGG-11 for images of 32×32: eight 3×3 convolutions, five poolings, one linear map.

    Simonyan & Zisserman (2015), configuration A, in its usual form for CIFAR: one linear map after
    the last pooling stands for three, without dropout. Complex parameters will not do: pooling
    takes maxima.

    Args:
      outputs: number of outputs of an example.
      width: factor on all numbers of channels, which are then rounded, and at least 1. At 1 there
        are 9.2 million parameters.
      norm: what follows each convolution, which then has no bias: "none"; "batch" (Ioffe & Szegedy,
        2015), with which an example's outputs depend on its batch; "layer" (Ba et al., 2016), over
        an example's pixels and channels.
      channels: of the images.
      activation, key, dtype: as `mlp`.

    Raises:
      ValueError: as `mlp`; a width that is not positive, an unknown norm. When applied: x of
        another shape than (batch, 32, 32, channels), complex parameters.

    >>> count(jax.eval_shape(lambda key: functional(vgg11(key=key))[0], jax.random.key(0)))
    9225610
    """
    parts = _image_parts(outputs, channels, width, activation, norm, key, dtype)
    steps: list[Any] = []
    last = channels
    for stage in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for wide in (_scaled(base, width) for base in stage):
            steps += [_Convolution(parts, last, wide), parts.activate]
            last = wide
        steps.append(_halve)
    steps += [_average, parts.linear(last, outputs)]  # the average of one pixel
    return _Chain(steps, (32, 32, channels), [*parts.not_holomorphic, "pooling by maximum"])


def resnet18(
    outputs: int = 10,
    *,
    width: float = 1,
    norm: Norm = "none",
    activation: Activation = "relu",
    channels: int = 3,
    key: Array,
    dtype: Any = jnp.float32,
) -> nnx.Module:
    """ResNet-18 for images of 32×32: eight residual blocks of two 3×3 convolutions each.

    He et al. (2016), in its usual form for CIFAR: the first convolution is 3×3 with stride 1 and no
    pooling follows it; shortcuts that change the shape are 1×1 convolutions. Without norm, each
    block's last kernel starts with an eighth of its variance: eight sums of equals would double the
    signal's eight times. Without norm and with a holomorphic activation, parameters may be complex.

    Args and errors as `vgg11`; 11.2 million parameters at width 1.

    >>> count(jax.eval_shape(lambda key: functional(resnet18(key=key))[0], jax.random.key(0)))
    11169162
    """
    parts = _image_parts(outputs, channels, width, activation, norm, key, dtype)
    last = _scaled(64, width)
    steps: list[Any] = [_Convolution(parts, channels, last), parts.activate]
    for base, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        wide = _scaled(base, width)
        steps += [_Residual(parts, last, wide, stride), _Residual(parts, wide, wide)]
        last = wide
    steps += [_average, parts.linear(last, outputs)]
    return _Chain(steps, (32, 32, channels), parts.not_holomorphic)


def cross_entropy(
    apply: Apply, x: Any = None, labels: Any = None
) -> Callable[..., Float[Array, ""]]:
    """The mean over examples of log Σⱼ exp(zⱼ) − z_label, with logits z = apply(params, x).

    Holomorphic in complex logits: the principal branch of the logarithm.

    Args:
      apply: function (params, x) -> logits of shape (n, classes).
      x, labels: the batch that is meant where none is given: examples and integers, n of each.

    Returns:
      loss(params), and loss(params, (x, labels)) on another batch, as `ddlib.curvature.hvp` has it.

    Raises:
      ValueError: when called: no batch, labels that are not n integers, logits that are integers,
        labels that name no class; under a trace, which sees no numbers, such a label makes loss
        and gradient NaN.

    >>> loss = cross_entropy(lambda p, x: x * p, np.eye(2), np.array([0, 1]))
    >>> loss(jnp.zeros(2)).item()  # log 2
    0.6931...
    """

    def per_example(z: Array, labels: Any) -> Float[Array, " n"]:
        if z.ndim != 2 or np.shape(labels) != z.shape[:1]:
            raise ValueError(
                "labels must name one class for each row of logits, got labels of shape "
                f"{np.shape(labels)} for logits of shape {z.shape}"
            )
        check_inexact("logits", z)
        if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
            raise ValueError(f"labels must be integers, got {jnp.result_type(labels)}")
        top = z.shape[1] - 1
        if is_concrete(labels) and not set(found := np.unique(labels)) <= set(range(top + 1)):
            raise ValueError(f"labels must lie from 0 to {top}, got {found[0]} to {found[-1]}")
        labels = jnp.asarray(labels)
        picked = jnp.take_along_axis(z, labels[:, None], axis=1)[:, 0]
        known = jnp.where((labels >= 0) & (labels <= top), 1, jnp.nan).astype(z.real.dtype)
        # the sum shifts by a real constant: holomorphic
        return (jax.nn.logsumexp(z, axis=1) - picked) * known

    return _mean(per_example, apply, (x, labels))


def mean_squared_error(
    apply: Apply, x: Any = None, y: Any = None
) -> Callable[..., Float[Array, ""]]:
    """The mean over examples of ½ Σⱼ (f(x)ⱼ − yⱼ)², with f(x) = apply(params, x).

    The sum is over an example's outputs. The squares are not absolute squares: holomorphic.

    Args:
      apply: function (params, x) -> outputs of shape (n, …).
      x, y: the batch that is meant where none is given: examples, and targets shaped as outputs.

    Returns:
      loss(params), and loss(params, (x, y)) on another batch.

    Raises:
      ValueError: when called: no batch, targets of another shape than the outputs, integers for
        outputs, complex targets of real outputs.

    >>> loss = mean_squared_error(lambda p, x: x * p, jnp.array([[1.0], [2.0]]), jnp.zeros((2, 1)))
    >>> loss(2.0).item()  # (2² + 4²)/4
    5.0
    """

    def per_example(outputs: Array, y: Any) -> Float[Array, " n"]:
        if np.shape(y) != outputs.shape:
            raise ValueError(f"y must be shaped as outputs {outputs.shape}, got {np.shape(y)}")
        check_inexact("outputs", outputs)
        squares = (outputs - _in_precision_of(outputs, y, "y")) ** 2
        return squares.reshape(len(squares), -1).sum(1) / 2

    return _mean(per_example, apply, (x, y))


def _mean(per_example: Callable[..., Array], apply: Apply, given: Any) -> Callable[..., Array]:
    def loss(params: PyTree, batch: Any = given) -> Array:
        x, y = batch
        if x is None or y is None:
            raise ValueError("batch is missing: give one to the loss, or where the loss is made")
        return per_example(apply(params, x), y).mean()

    return loss


class _Chain(nnx.Module):
    """Steps one after another: modules, which become layer_0, layer_1, …, and functions."""

    def __init__(self, steps: list[Any], shape: tuple[int, ...], not_holomorphic: list[str]):
        modules = [i for i, step in enumerate(steps) if isinstance(step, nnx.Module)]
        digits = len(str(len(modules) - 1))  # padded: names sort as the data pass
        names = {i: f"layer_{number:0{digits}}" for number, i in enumerate(modules)}
        for i, name in names.items():
            setattr(self, name, steps[i])
        self.steps = tuple(names.get(i, step) for i, step in enumerate(steps))
        self.shape, self.not_holomorphic = shape, tuple(not_holomorphic)

    def __call__(self, x: Array) -> Array:
        if x.ndim == 0 or x.shape[1:] != self.shape:
            wanted = ", ".join(map(str, ("batch", *self.shape)))
            raise ValueError(f"x must have shape ({wanted}), got {x.shape}")
        leaves = [x, *jax.tree.leaves(nnx.state(self, nnx.Param))]
        if self.not_holomorphic and any(map(jnp.iscomplexobj, leaves)):
            raise ValueError(
                f"params are complex, and not holomorphic are: {', '.join(self.not_holomorphic)}. "
                f"These will do: mlp or resnet18, activation {' or '.join(_HOLOMORPHIC)}, norm none"
            )
        for step in self.steps:
            x = (getattr(self, step) if isinstance(step, str) else step)(x)
        return x


class _Parts:
    """What the layers of one network share."""

    def __init__(self, activation: Activation, norm: str, key: Array, dtype: Any):
        known = {fn: name for name, fn in _ACTIVATIONS.items()}
        name = known.get(activation) if callable(activation) else activation
        if name not in _ACTIVATIONS and not callable(activation):
            names = ", ".join(_ACTIVATIONS)
            raise ValueError(f"activation must be one of {names}, or a function, got {name!r}")
        if norm not in _NORMS:
            raise ValueError(f"norm must be one of {', '.join(_NORMS)}, got {norm!r}")
        self.dtype = jnp.dtype(dtype)
        if self.dtype not in (jnp.float32, jnp.float64):
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype}")
        if self.dtype == jnp.float64 != jnp.result_type(float):
            raise ValueError("dtype is float64, which JAX has off: set jax_enable_x64, or float32")
        self.activate: Any = _ACTIVATIONS[name] if name else activation
        self.gain = 2.0 if name in ("relu", "elu", "silu") else 1.0
        self.norm, self.rngs = norm, nnx.Rngs(key)
        parts = {f"activation {name}": name in _PIECEWISE, f"norm {norm}": norm != "none"}
        self.not_holomorphic = [part for part, is_one in parts.items() if is_one]

    def options(self, gain: float = 1) -> dict[str, Any]:
        """What a linear layer of NNX takes, bar its sizes."""
        start = jax.nn.initializers.variance_scaling(
            gain * self.gain, "fan_in", "truncated_normal", dtype=self.dtype
        )
        return {"kernel_init": start, "param_dtype": self.dtype, "rngs": self.rngs}

    def linear(self, inputs: int, outputs: int) -> nnx.Module:
        return _Linear(inputs, outputs, **self.options())


def _image_parts(outputs: int, channels: int, width: float, *rest: Any) -> _Parts:
    check_count("outputs", outputs)
    check_count("channels", channels)
    check_step_size("width", width)
    return _Parts(*rest)


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _same(x: Array) -> Array:
    return x


class _Linear(nnx.Linear):
    """NNX's, with complex products taken by parts."""

    def __call__(self, x: Array, out_sharding: Any = None) -> Array:
        product = _multiply(x, self.kernel[...])
        return product if self.bias is None else product + self.bias[...]


def _multiply(x: Array, w: Array) -> Array:
    """x·w. XLA:CPU takes ten times as long for complex matrices as for their real parts."""
    if not jnp.iscomplexobj(w):
        return x @ w
    if not jnp.iscomplexobj(x):
        return jax.lax.complex(x @ w.real, x @ w.imag)
    return jax.lax.complex(x.real @ w.real - x.imag @ w.imag, x.real @ w.imag + x.imag @ w.real)


class _BatchNorm(nnx.BatchNorm):
    """NNX's, with its statistics in the dtype of the parameters, where it has float32."""

    def __init__(self, size: int, *, param_dtype: Any, **options: Any):
        super().__init__(size, momentum=0.9, param_dtype=param_dtype, **options)
        self.mean = nnx.BatchStat(jnp.zeros(size, param_dtype))
        self.var = nnx.BatchStat(jnp.ones(size, param_dtype))

    def __call__(self, x: Array, *arguments: Any, **options: Any) -> Array:
        if jnp.finfo(x.dtype).bits < 32:
            raise ValueError(f"params must be float32 or float64 with batch norm, got {x.dtype}")
        return super().__call__(x, *arguments, **options)


_NORMS: dict[str, Callable[..., Any]] = {
    "none": lambda size, **options: _same,
    "batch": _BatchNorm,
    "layer": partial(nnx.GroupNorm, num_groups=1),
}


class _Convolution(nnx.Module):
    """A convolution that keeps the image's size, over the stride, and its norm."""

    def __init__(
        self,
        parts: _Parts,
        inputs: int,
        outputs: int,
        *,
        size: int = 3,
        stride: int = 1,
        gain: float = 1,
    ):
        self.conv = nnx.Conv(
            inputs,
            outputs,
            (size, size),
            strides=stride,
            padding=[(size // 2, size // 2)] * 2,
            use_bias=parts.norm == "none",
            conv_general_dilated=_convolve,
            **parts.options(gain),
        )
        self.norm = _NORMS[parts.norm](
            outputs, param_dtype=parts.dtype, use_fast_variance=False, rngs=parts.rngs
        )

    def __call__(self, x: Array) -> Array:
        return self.norm(self.conv(x))


def _convolve(x: Array, kernel: Array, strides: Any, padding: Any, **options: Any) -> Array:
    """A convolution of images; a product with patches where XLA:CPU wants a hundred times as long.

    It does for images smaller than the kernel, VGG's last, and is slow for kernels of one pixel.
    """
    size, stride = kernel.shape[0], strides[0]
    if 1 < size <= x.shape[1]:
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    ends = [n - size + 1 for n in x.shape[1:3]]
    patches = [
        x[:, i : i + ends[0] : stride, j : j + ends[1] : stride]
        for i in range(size)
        for j in range(size)
    ]
    return _multiply(jnp.concatenate(patches, -1), kernel.reshape(-1, kernel.shape[-1]))


class _Residual(nnx.Module):
    """x ↦ activation(second(activation(first(x))) + shortcut(x))."""

    def __init__(self, parts: _Parts, inputs: int, outputs: int, stride: int = 1):
        change = stride != 1 or inputs != outputs
        gain = 1 / 8 if parts.norm == "none" else 1
        self.first = _Convolution(parts, inputs, outputs, stride=stride)
        self.second = _Convolution(parts, outputs, outputs, gain=gain)
        self.shortcut: Any = (
            _Convolution(parts, inputs, outputs, size=1, stride=stride) if change else _same
        )
        self.activate = parts.activate

    def __call__(self, x: Array) -> Array:
        return self.activate(self.second(self.activate(self.first(x))) + self.shortcut(x))


def _halve(x: Array) -> Array:
    """2×2 maxima, of slices: XLA:CPU takes ten times as long for a window reduction's gradient."""
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


def _average(x: Array) -> Array:
    return x.mean((1, 2))
