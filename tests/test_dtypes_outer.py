"""One table of types: networks, losses, GANs, scores and data keep the type of what they are given
(float32 stays float32 with x64 on) or refuse it by name.

A row is a function of a dtype and what becomes of each: "kept", another dtype that is documented,
or the argument that the error names.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ddbook.sweeps.checkpoints import restore, save

from ddlib import gan, metrics, nets, sngan
from ddlib.data import channel_statistics, normalise
from ddlib.games import Players
from ddlib.loop import run_steps
from ddlib.regularizers import cancel_interaction, sga
from ddlib.sweep import first_nonfinite

TYPES = ("float16", "bfloat16", "float32", "float64", "int32", "complex64")
KEY = jax.random.key(0)
SEEN = jax.eval_shape  # what would come out, nothing compiled


def cast(tree, dtype):
    """A tree of arrays as another type; the real numbers in it only."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else x,
        jax.tree.map(jnp.asarray, tree),
    )


def typed(shapes, dtype):
    """The same of shapes, all numbers."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), shapes)


def types(tree):
    """The types of the numbers in a tree, but for counters and keys."""
    found = {jnp.dtype(x.dtype) for x in jax.tree.leaves(tree)}
    return {str(x) for x in found if jnp.issubdtype(x, jnp.inexact)}


# --- Networks and losses


@functools.cache
def net(kind, **options):
    """Shapes of a network's parameters and state, and its functions: no number is drawn."""
    made = []

    def draw(key):
        make = {"mlp": functools.partial(nets.mlp, 3, [4], 2), "vgg": nets.vgg11}
        model = make.get(kind, nets.resnet18)(**options, key=key)
        params, state, apply = nets.stateful(model)
        made.append((apply, nets.functional(model)[1]))
        return params, state

    return *SEEN(draw, KEY), *made[0]


def applied(kind, shape, what="params", **options):
    def of(dtype):
        params, _, _, apply = net(kind, **options)
        types = (dtype, "float64") if what == "params" else ("float32", dtype)
        return SEEN(apply, typed(params, types[0]), jax.ShapeDtypeStruct((2, *shape), types[1]))

    return of


def trained(kind, shape, **options):
    def of(dtype):
        params, state, apply, _ = net(kind, **options)
        x = jax.ShapeDtypeStruct((2, *shape), "float64")
        return SEEN(
            functools.partial(apply, train=True), typed(params, dtype), typed(state, dtype), x
        )

    return of


def same(params, x):
    return params


IMAGE, WIDTH = (32, 32, 3), {"width": 1 / 64}
PARAMS = {"int32": "params", "complex64": "params"}  # relu and pooling are not holomorphic
HALVES = {"float16": "params", "bfloat16": "params"}
DATA = {"float16": "float32", "bfloat16": "float32", "float64": "float32", "int32": "float32"}
DATA = {**DATA, "complex64": "x"}  # as the parameters are: data make no other network
CLASSES = np.array([0, 1])
NETS = {
    "mlp": (applied("mlp", (3,)), {"int32": "params"}),  # tanh is holomorphic
    "mlp of data": (applied("mlp", (3,), "x"), DATA),
    "vgg11": (applied("vgg", IMAGE, **WIDTH), PARAMS),
    "vgg11, layer": (applied("vgg", IMAGE, norm="layer", **WIDTH), PARAMS),
    "vgg11, batch": (applied("vgg", IMAGE, norm="batch", **WIDTH), {**PARAMS, **HALVES}),
    "resnet18": (applied("res", IMAGE, activation="relu", **WIDTH), PARAMS),
    "resnet18 of data": (applied("res", IMAGE, "x", norm="batch", **WIDTH), DATA),
    "resnet18, batch": (trained("res", IMAGE, norm="batch", **WIDTH), {**PARAMS, **HALVES}),
    "cross_entropy": (
        lambda dtype: nets.cross_entropy(same)(jnp.ones((2, 3), dtype), (0, CLASSES)),
        {"int32": "logits"},
    ),
    "labels": (
        lambda dtype: nets.cross_entropy(same)(
            jnp.ones((2, 3), jnp.float32), (0, jnp.ones(2, dtype))
        ),
        {**dict.fromkeys(TYPES, "labels"), "int32": "float32"},
    ),
    "mean_squared_error": (
        lambda dtype: nets.mean_squared_error(same)(jnp.ones((2, 3), dtype), (0, np.ones((2, 3)))),
        {"int32": "outputs"},
    ),
    "targets": (
        lambda dtype: nets.mean_squared_error(same)(
            jnp.ones((2, 3), jnp.float32), (0, jnp.ones((2, 3), dtype))
        ),
        {**DATA, "complex64": "y"},
    ),
    **{
        f"{make.__name__} made": (
            lambda dtype, make=make, sizes=sizes: nets.functional(
                make(*sizes, key=KEY, dtype=dtype)
            )[0],
            dict.fromkeys(("float16", "bfloat16", "int32", "complex64"), "dtype"),
        )
        for make, sizes in ((nets.mlp, (2, [2], 1)),)
    },
}


# --- Games of networks


GAMES = {
    "perceptrons": gan.Game(gan.mlp_networks(widths=(3,), latents=2), gan.wasserstein()),
    "images": gan.Game(gan.sngan_networks(size=8, width=1 / 32, latents=2), gan.saturating()),
}
SHAPES = {"perceptrons": (2,), "images": (8, 8, 3)}
NUMBER = 4
REFUSED = ("float16", "bfloat16", "int32", "complex64")


@functools.cache
def begun(name):
    """Players and memory: shapes alone are drawn for images, which take a while."""
    shapes = SEEN(functools.partial(gan.start, GAMES[name]), KEY)
    return jax.tree.map(lambda x: jnp.full(x.shape, 0.1), shapes)


def minibatch(name, dtype="float64", axes=()):
    made = gan.Batch(
        jnp.ones((*axes, NUMBER, *SHAPES[name])),
        jnp.ones((*axes, NUMBER, 2)),
        jnp.ones((*axes, NUMBER)),
    )
    return jax.tree.map(lambda x: x.astype(dtype), made)


def played(function, name, what="players", **options):
    def of(dtype):
        players, memory = begun(name)
        if what == "players":
            players, memory = (jax.tree.map(lambda x: x.astype(dtype), y) for y in begun(name))
        if what == "memory":
            memory = jax.tree.map(lambda x: x.astype(dtype), memory)
        batch = minibatch(name, dtype if what == "batch" else "float64")
        return SEEN(lambda *given: function(GAMES[name], *given, **options), players, memory, batch)

    return of


def setting(dtype):
    rates = Players(*(jnp.asarray(0.1, dtype) for _ in range(2)))
    return gan.Setting(
        rates, jax.tree.map(lambda x: jnp.asarray(x, dtype), cancel_interaction(rates))
    )


def states(name, dtype, update, optimizers=None):
    """A state whose numbers are all of a type, its setting in float64."""
    make = functools.partial(
        gan.init, GAMES[name], setting=setting("float64"), update=update, optimizers=optimizers
    )
    return jax.tree.map(
        lambda x: (
            jnp.full(x.shape, 0.1, dtype)
            if jnp.issubdtype(x.dtype, jnp.inexact)
            else jnp.zeros(x.shape, x.dtype)
        ),
        SEEN(make, KEY),
    )._replace(setting=setting("float64"))


def stepped(name, method, **options):
    """What becomes of the players, of what an optimiser keeps and of the networks' memory."""

    def of(dtype):
        update = gan.Update(method)
        state = states(name, dtype, update, options.get("optimizers"))
        step = gan.make_step(GAMES[name], update, **options)
        after = SEEN(step, state, minibatch(name, "float64", (update.num_batches,)))
        shapes = jax.tree.map(lambda x: (x.shape, x.dtype), after)
        assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), state) or dtype in REFUSED
        return after._replace(setting=None)

    return of


def adam(rate):
    import optax

    return optax.adam(rate, b1=0.5)


TERMS = {"terms": cancel_interaction(Players(np.float64(0.1), np.float64(0.2)))}
REFUSES = dict.fromkeys(REFUSED, "players and memory")
BATCHES = {
    **dict.fromkeys(("float16", "bfloat16", "float32"), "float64"),
    **dict.fromkeys(("int32", "complex64"), "batch.real"),
}
GANS = {
    **{f"losses, {name}": (played(gan.losses, name), REFUSES) for name in GAMES},
    "losses of a batch": (played(gan.losses, "images", "batch"), BATCHES),
    "gradients of a batch": (played(gan.gradients, "perceptrons", "batch"), BATCHES),
    "memory of another type": (
        played(gan.losses, "images", "memory"),
        dict.fromkeys([*REFUSED, "float32"], "players and memory"),
    ),
    **{f"gradients, {name}": (played(gan.gradients, name), REFUSES) for name in GAMES},
    "regularized_gradients": (
        played(gan.regularized_gradients, "perceptrons", **TERMS),
        REFUSES,
    ),
    "regularized_gradients, aligned": (
        played(gan.regularized_gradients, "perceptrons", terms=sga(np.float64(0.1)), align=True),
        REFUSES,
    ),
    **{
        f"a step, {method}": (
            stepped("perceptrons", method),
            dict.fromkeys(REFUSED, "players and memory"),
        )
        for method in gan.METHODS
    },
    "a step with terms": (stepped("perceptrons", "simultaneous", terms=True), REFUSES),
    "a step of images": (stepped("images", "simultaneous"), REFUSES),
    "a step with Adam": (
        stepped("perceptrons", "alternating", optimizers=Players(adam, adam)),
        REFUSES,
    ),
    "draw_batches": (
        lambda dtype: gan.draw_batches(
            jnp.ones((5, 2)), states("perceptrons", dtype, gan.SIMULTANEOUS), 2, 4, 1
        ),
        dict.fromkeys(REFUSED, "state.players"),
    ),
    "data": (
        lambda dtype: gan.draw_batches(
            jnp.ones((5, 2), dtype), states("perceptrons", "float32", gan.SIMULTANEOUS), 2, 4, 1
        ),
        {
            **dict.fromkeys(("float16", "bfloat16", "float64"), "float32"),
            **dict.fromkeys(("int32", "complex64"), "data"),
        },
    ),
}


# --- The networks by themselves


TINY = {"size": 8, "width": 1 / 32}


def generated(dtype, what="theta"):
    network = sngan.generator(**TINY, latents=2)
    theta, statistics = SEEN(network.init, KEY)
    if what == "theta":
        theta, statistics = (typed(y, dtype) for y in (theta, statistics))
    z = jax.ShapeDtypeStruct((3, 2), "float64" if what == "theta" else dtype)
    return SEEN(functools.partial(network.apply, train=True), theta, statistics, z)


def judged(dtype, what="phi"):
    network = sngan.discriminator(**TINY)
    phi, vectors = SEEN(network.init, KEY)
    if what == "phi":
        phi, vectors = (typed(y, dtype) for y in (phi, vectors))
    x = jax.ShapeDtypeStruct((3, 8, 8, 3), "float64" if what == "phi" else dtype)
    return SEEN(network.apply, phi, vectors, x), SEEN(network.refresh, phi, vectors)


HALF_UP = dict.fromkeys(("float16", "bfloat16", "float32"), "float64")  # the networks' own
SNGANS = {
    "generator": (generated, dict.fromkeys(REFUSED, "theta and statistics")),
    "latents": (
        functools.partial(generated, what="z"),
        {**HALF_UP, "int32": "z", "complex64": "z"},
    ),
    "discriminator": (judged, dict.fromkeys(REFUSED, "phi and vectors")),
    "images": (
        functools.partial(judged, what="x"),
        {**HALF_UP, "int32": "images", "complex64": "images"},
    ),
}


# --- Steps, scores, data


def normalised(dtype):
    return normalise(np.asarray(jnp.ones((2, 4, 4, 3), dtype)), [0.5] * 3, [2.0] * 3)


def scored(dtype):
    return metrics.cifar_scorer().classify(np.asarray(jnp.full((2, 32, 32, 3), 0, dtype)))


def frechet(dtype):
    rows = np.asarray(jnp.eye(3, dtype=dtype))
    mean = np.asarray(jnp.zeros(3, dtype))
    return np.asarray(metrics.frechet_distance(*(metrics.Statistics(mean, rows, 9),) * 2))


ALWAYS_DOUBLE = dict.fromkeys(("float16", "bfloat16", "float32", "int32"), "float64")  # said there
OTHERS = {
    "run_steps": (
        lambda dtype: run_steps(
            lambda t, y: y * 2, jnp.ones(3, dtype), 2, observe=lambda y: y, every=2
        ),
        {"int32": "integers"},  # counters
    ),
    "inception_score": (
        lambda dtype: np.asarray(metrics.inception_score(np.asarray(jnp.eye(3, dtype=dtype)))),
        {**ALWAYS_DOUBLE, "complex64": "probabilities"},
    ),
    "feature_statistics": (
        lambda dtype: metrics.feature_statistics(np.asarray(jnp.eye(3, dtype=dtype)))[:2],
        {**ALWAYS_DOUBLE, "complex64": "features"},
    ),
    "frechet_distance": (frechet, {**ALWAYS_DOUBLE, "complex64": "a must"}),
    "a scorer": (
        scored,
        {
            **dict.fromkeys(("float16", "bfloat16", "float64"), "float32"),  # said there
            **dict.fromkeys(("int32", "complex64"), "images"),
        },
    ),
    "normalise": (
        normalised,
        {"int32": "float32", "bfloat16": "images", "complex64": "images"},
    ),
    "channel_statistics": (
        lambda dtype: channel_statistics(np.asarray(jnp.ones((2, 4, 4, 3), dtype))),
        {**ALWAYS_DOUBLE, "bfloat16": "images", "complex64": "images"},
    ),
}


TABLE = {**NETS, **GANS, **SNGANS, **OTHERS}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("row", TABLE)
def test_a_type_is_kept_or_refused_by_name(row, dtype):
    function, exceptions = TABLE[row]
    expected = exceptions.get(dtype, dtype)
    if expected == "integers":
        found = function(dtype)
        assert {str(jnp.dtype(x.dtype)) for x in jax.tree.leaves(found)} == {dtype}
    elif expected in TYPES:
        assert types(function(dtype)) == {expected}
    else:
        with pytest.raises(ValueError, match=f"^{expected}"):
            function(dtype)


# --- What the table says, by numbers


def test_a_state_in_single_precision_trains_in_it_with_x64_on():
    """To the bit as without x64, but for the draws, which are given here."""
    game = GAMES["perceptrons"]._replace(loss=gan.saturating())
    state = cast(gan.init(game, KEY, gan.Setting(Players(0.1, 0.05))), "float32")
    batches = cast(minibatch("perceptrons", "float64", (1,)), "float64")
    step = jax.jit(
        gan.make_step(game), compiler_options={"xla_backend_optimization_level": 0}
    )  # what takes its time is the compiler
    with jax.enable_x64(False):
        expected = jax.tree.map(np.asarray, step(cast(state, "float32"), cast(batches, "float32")))
    found = step(state, batches)
    assert types(found) == {"float32"}
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_training_and_samples_are_of_the_states_type():
    game = GAMES["perceptrons"]
    for dtype in ("float32", "float64"):
        state = cast(gan.init(game, KEY, gan.Setting(Players(0.1, 0.05))), dtype)
        after, _ = gan.train(game, state, np.ones((5, 2)), 2, batch_size=4, every=2)
        assert types(after) == {dtype}
        assert gan.sample(game, after, KEY, 3).dtype == dtype


@pytest.mark.parametrize("data", [np.ones((5, 2), np.uint8), np.ones((5, 2), complex)])
def test_data_that_are_no_real_numbers_are_named(data):
    game = GAMES["perceptrons"]
    state = gan.init(game, KEY, gan.Setting(Players(0.1, 0.05)))
    with pytest.raises(ValueError, match="data must hold real floating-point numbers, got"):
        gan.train(game, state, data, 2, batch_size=4)


def test_an_image_of_bytes_is_no_image_of_numbers():
    """Nearly black, it would pass for one."""
    with pytest.raises(ValueError, match=r"images must be floating-point numbers in \[0, 1\]"):
        metrics.cifar_scorer().classify(np.ones((2, 32, 32, 3), np.uint8))


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_comes_back_from_a_checkpoint(tmp_path, dtype):
    state = gan.State(*[None] * 6, jnp.array(3), jnp.ones(2, dtype))
    save(tmp_path, state, {})
    assert restore(tmp_path, state, {}).state.diverged_at.dtype == dtype


@pytest.mark.parametrize("dtype", TYPES)
def test_divergence_is_seen_in_every_type(dtype):
    values = np.asarray(jnp.ones((2, 1), dtype))
    assert first_nonfinite(values, np.array([0, 5])).tolist() == [-1]
    if dtype != "int32":
        values = np.asarray(jnp.array([[1.0], [jnp.inf]]).astype(dtype))
        assert first_nonfinite(values, np.array([0, 5])).tolist() == [5]
