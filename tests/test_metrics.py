import hashlib
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ddlib import data
from ddlib import scorer as network
from ddlib.data import DatasetUnavailable
from ddlib.metrics import (
    Scores,
    Statistics,
    cifar_scorer,
    energy_distance,
    feature_statistics,
    frechet_distance,
    image_statistics,
    inception_score,
    inception_scorer,
    load_scorer,
    score,
)
from ddlib.metrics.inception import blank_inception, import_keras

SHIPPED_BYTES = 3_000_000


def gaussian(seed, d=6, rank=None, scorer=None):
    """A random mean, and a random covariance of the given rank."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(d, d if rank is None else rank))
    return Statistics(rng.normal(size=d), root @ root.T, 1000, scorer)


def rotation(seed, d=6):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def probabilities(seed, n=40, classes=7, sharpness=3.0):
    z = sharpness * np.random.default_rng(seed).normal(size=(n, classes))
    p = np.exp(z)
    return p / p.sum(1, keepdims=True)


# --- The Fréchet distance


def test_diagonal_covariances_have_a_closed_form():
    rng = np.random.default_rng(0)
    (mu, nu), (s, t) = rng.normal(size=(2, 5)), rng.uniform(0, 3, size=(2, 5))
    a, b = Statistics(mu, np.diag(s**2), 9), Statistics(nu, np.diag(t**2), 9)
    expected = ((mu - nu) ** 2).sum() + ((s - t) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_it_is_the_formula_of_the_paper(rank):
    """The trace of (A^½ B A^½)^½ is the sum of the roots of the eigenvalues of AB."""
    a, b = gaussian(1), gaussian(2, rank=rank)
    roots = np.sqrt(np.abs(np.linalg.eigvals(a.covariance @ b.covariance)))
    expected = ((a.mean - b.mean) ** 2).sum()
    expected += np.trace(a.covariance) + np.trace(b.covariance) - 2 * roots.sum()
    # the eigenvalues that should be 0 are rounding, and their roots that of rounding
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12 if rank == 6 else 1e-6)


def test_commuting_covariances_are_exact():
    q, rng = rotation(3), np.random.default_rng(4)
    s, t = rng.uniform(0, 3, size=(2, 6))
    a = Statistics(np.zeros(6), q * s**2 @ q.T, 9)
    b = Statistics(np.zeros(6), q * t**2 @ q.T, 9)
    assert frechet_distance(a, b) == pytest.approx(((s - t) ** 2).sum(), rel=1e-12)


def test_a_common_rotation_and_shift_change_nothing():
    a, b, q = gaussian(5), gaussian(6, rank=4), rotation(7)
    turned = [Statistics(q @ g.mean + 3, q @ g.covariance @ q.T, 9) for g in (a, b)]
    assert frechet_distance(*turned) == pytest.approx(frechet_distance(a, b), rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(0, 8))
def test_its_root_is_a_distance(seed, d, rank):
    a, b, c = (gaussian(seed + i, d, min(rank, d) if i else None) for i in range(3))
    near = [np.sqrt(frechet_distance(*pair)) for pair in ((a, b), (b, c), (a, c))]
    assert near[0] == pytest.approx(np.sqrt(frechet_distance(b, a)), rel=1e-6)
    assert near[2] <= (near[0] + near[1]) * (1 + 1e-6)
    assert 0 <= frechet_distance(a, a) <= 1e-25 * np.trace(a.covariance)


def test_it_has_the_units_of_squared_features():
    a, b = gaussian(8), gaussian(9)
    scaled = [Statistics(5 * g.mean, 25 * g.covariance, 9) for g in (a, b)]
    assert frechet_distance(*scaled) == pytest.approx(25 * frechet_distance(a, b), rel=1e-12)


def test_a_tiny_distance_is_not_lost_in_the_traces():
    """Traces of 6·10⁶ that differ by nothing one could see in double precision."""
    a = Statistics(np.zeros(6), 1e6 * np.eye(6), 9)
    b = Statistics(np.zeros(6), (1e3 + 1e-6) ** 2 * np.eye(6), 9)
    assert frechet_distance(a, b) == pytest.approx(6e-12, rel=1e-3)


def test_more_features_than_images_are_taken():
    x = np.random.default_rng(10).normal(size=(5, 40))
    a, b = feature_statistics(x), feature_statistics(x + 2.0)
    assert frechet_distance(a, b) == pytest.approx(40 * 4, rel=1e-10)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"scorer": "another"}, "different scorers, None and 'another'"),
        ({"mean": np.zeros(3), "covariance": np.eye(3)}, "differ in their features: 6 and 3"),
        ({"mean": np.zeros((6, 1))}, r"a mean of shape \(d,\)"),
        ({"covariance": np.eye(5)}, r"a covariance of shape \(d, d\)"),
        ({"covariance": np.triu(np.ones((6, 6)))}, "not symmetric"),
        ({"covariance": np.diag([1, 1, 1, 1, 1, -0.1])}, "negative eigenvalue -0.1"),
        ({"mean": np.full(6, np.nan)}, "b must be finite"),
    ],
)
def test_statistics_that_will_not_do(changed, said):
    with pytest.raises(ValueError, match=said):
        frechet_distance(gaussian(0), gaussian(1)._replace(**changed))


def test_statistics_are_those_of_numpy():
    x = np.random.default_rng(11).normal(size=(50, 4)).astype(np.float32) + 100
    found = feature_statistics(x, "eye")
    np.testing.assert_allclose(found.mean, x.astype(float).mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x.astype(float), rowvar=False), rtol=1e-12)
    assert (found.num_images, found.scorer) == (50, "eye")


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (np.zeros((1, 3)), "at least 2 images"),
        (np.zeros(3), "a matrix with one row for each image"),
        (np.zeros((0, 3)), "a matrix with one row for each image"),
        (np.array([[1.0, np.inf], [0.0, 0.0], [np.nan, 0.0]]), "finite; 2 of 3 rows are not"),
        (np.zeros((4, 3), complex), "real numbers, got complex128"),
    ],
)
def test_features_that_will_not_do(features, said):
    with pytest.raises(ValueError, match=said):
        feature_statistics(features)


# --- The energy distance


@pytest.mark.parametrize("seed", range(3))
def test_the_energy_distance_is_scipys_in_one_dimension(seed):
    """Which takes the root of it, and integrates distribution functions; 300 rows are two parts."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=300), rng.normal(loc=seed, size=17)
    expected = scipy.stats.energy_distance(x, y) ** 2
    found = energy_distance(x[:, np.newaxis], y[:, np.newaxis])
    assert float(found) == pytest.approx(expected, rel=1e-10)


def test_the_energy_distance_of_samples_is_that_of_their_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(5, 3))

    def mean(a, b):
        return np.mean([np.linalg.norm(p - q) for p in a for q in b])

    expected = 2 * mean(x, y) - mean(x, x) - mean(y, y)
    assert float(jax.jit(energy_distance)(x, y)) == pytest.approx(expected, rel=1e-12)
    assert float(energy_distance(x, x)) == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize(("x", "y"), [((3,), (3,)), ((3, 2), (3, 1)), ((0, 2), (3, 2))])
def test_samples_of_other_shapes_are_named(x, y):
    with pytest.raises(ValueError, match="x and y must have shapes"):
        energy_distance(np.zeros(x), np.zeros(y))


# --- The Inception score


@pytest.mark.parametrize("classes", [1, 2, 10])
def test_its_bounds_are_taken(classes):
    uniform = np.full((2 * classes, classes), 1 / classes)
    certain = np.tile(np.eye(classes), (2, 1))
    collapsed = np.tile(np.eye(classes)[:1], (8, 1))
    assert inception_score(uniform).mean == pytest.approx(1, abs=1e-12)
    assert inception_score(collapsed).mean == 1
    assert inception_score(certain).mean == pytest.approx(classes, rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 12), st.floats(0, 50))
def test_it_lies_between_one_and_the_number_of_classes(seed, n, classes, sharpness):
    value, std = inception_score(probabilities(seed, n, classes, sharpness))
    assert 1 <= value <= min(n, classes) * (1 + 1e-12) and std == 0


def test_it_is_the_mean_divergence():
    p = probabilities(0)
    divergence = (p * np.log(p / p.mean(0))).sum(1).mean()
    assert inception_score(p).mean == pytest.approx(np.exp(divergence), rel=1e-13)


def test_splits_are_scored_alone():
    p = probabilities(1)
    alone = [inception_score(part).mean for part in np.split(p, 4)]
    value, std = inception_score(p, 4)
    assert (value, std) == pytest.approx((np.mean(alone), np.std(alone)), rel=1e-13)


def test_neither_the_order_of_images_nor_of_classes_matters():
    p, rng = probabilities(2), np.random.default_rng(0)
    mixed = rng.permutation(rng.permutation(p, axis=0), axis=1)
    assert inception_score(mixed).mean == pytest.approx(inception_score(p).mean, rel=1e-13)


def test_single_precision_rows_are_normalised():
    p = probabilities(3)
    assert inception_score(p * 1.0005).mean == pytest.approx(inception_score(p).mean, rel=1e-13)


@pytest.mark.parametrize(
    ("given_", "splits", "said"),
    [
        (np.full((4, 3), 0.5), 1, "sum to 1, got row 0 with least entry 0.5 and sum 1.5"),
        (np.array([[0.5, 0.5], [1.5, -0.5]]), 1, "got row 1 with least entry -0.5"),
        (np.array([[0.5, np.nan]]), 1, "finite; 1 of 1 rows"),
        (np.eye(4)[0], 1, "a matrix"),
        (np.eye(4), 3, "must divide the number of images, 4, got 3"),
        (np.eye(4), 8, "must divide the number of images, 4, got 8"),
        (np.eye(4), 0, "num_splits must be an integer of at least 1"),
        (np.eye(4), 2.0, "num_splits must be an integer of at least 1"),
    ],
)
def test_probabilities_that_will_not_do(given_, splits, said):
    with pytest.raises(ValueError, match=said):
        inception_score(given_, splits)


# --- A scorer's file


def narrow(noise):
    """Parameters that are random, also where they start with zeros or ones."""
    params, state = network.start(jax.random.key(0), (4, 4, 4))
    rng = np.random.default_rng(1)
    params = {k: jnp.float32(v + noise * rng.normal(size=v.shape)) for k, v in params.items()}
    return params, state


@pytest.fixture(scope="module")
def weights():
    """A narrow network with random weights, folded."""
    return network.fold(*narrow(0.3))


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("scorer") / "small.safetensors"
    network.write(path, weights, {"name": "small", "test_accuracy": {32: 0.1}})
    return path


@pytest.fixture(scope="module")
def scorer(file):
    return load_scorer(file, batch_size=4)


def pictures(n=6, size=32, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, size, size, 3)).astype(np.float32)


def test_folding_keeps_the_function():
    """At running statistics that are the batch's own, both forms of the network agree."""
    params, state = narrow(0.3)
    x = pictures(16)
    logits, settled = jax.jit(network.train_logits)(params, state, x)
    # each call moves a tenth of the way, so the batch's statistics can be read off one move
    settled = {k: (v - 0.9 * state[k]) / 0.1 for k, v in settled.items()}
    folded = {k: jnp.float32(v) for k, v in network.fold(params, settled).items()}
    found, features = jax.jit(network.outputs)(folded, x)
    assert features.shape == (16, 4)
    scale = float(jnp.abs(logits).max())
    np.testing.assert_allclose(found, logits, atol=2e-2 * scale)  # ten layers of half precision


def test_the_shipped_network_is_as_cheap_as_its_page_says():
    work, side = 0, network.SIZE
    for layer in network.layers().values():
        side //= layer.stride
        work += layer.size**2 * layer.inputs * layer.outputs * side**2
    assert 23e6 < work < 25e6


def test_a_scorer_says_who_it_is(file, scorer):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (scorer.name, scorer.checksum) == (f"small-{digest[:8]}", digest)
    assert scorer.size == 32
    assert scorer.provenance == {"name": "small", "test_accuracy": {"32": 0.1}}


def test_probabilities_and_features(scorer):
    p, features = scorer.classify(pictures())
    assert (p.shape, features.shape) == ((6, 10), (6, 4))
    assert p.dtype == features.dtype == np.float32
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-6)
    assert p.std(0).max() > 1e-3, "the images look alike to it: these tests would see nothing"


@pytest.mark.parametrize("batch_size", [1, 4, 6, 100])
def test_the_size_of_batches_changes_nothing(file, scorer, batch_size):
    expected = scorer.classify(pictures())
    found = load_scorer(file, batch_size=batch_size).classify(pictures())
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16), (8, 8), (48, 48), (20, 32)])
def test_images_of_another_size_are_resized_bilinearly(scorer, shape):
    x = np.random.default_rng(1).uniform(size=(5, *shape, 3)).astype(np.float32)
    resized = np.asarray(jax.image.resize(x, (5, 32, 32, 3), "bilinear"))
    for one, other in zip(scorer.classify(x), scorer.classify(resized), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (2 * pictures() - 1, r"values in \[0, 1\], got -"),
        (255 * pictures(), r"values in \[0, 1\], got .* to 25"),
        (np.full((2, 32, 32, 3), np.nan), "images must be finite"),
        (pictures()[..., :1], r"\(n, height, width, 3\), got \(6, 32, 32, 1\)"),
        (pictures()[0], r"\(n, height, width, 3\), got \(32, 32, 3\)"),
        (pictures()[:0], r"\(n, height, width, 3\), got \(0, 32, 32, 3\)"),
    ],
)
def test_images_that_will_not_do(scorer, images, said):
    with pytest.raises(ValueError, match=said):
        scorer.classify(images)


def test_the_same_content_gives_the_same_file(file, weights, tmp_path):
    again = tmp_path / "again.safetensors"
    shuffled = dict(reversed(weights.items()))
    network.write(again, shuffled, {"test_accuracy": {32: 0.1}, "name": "small"})
    assert again.read_bytes() == file.read_bytes()


def test_a_tampered_file_is_refused(file, tmp_path):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    payload = bytearray(file.read_bytes())
    payload[-1] ^= 1
    other = tmp_path / "other.safetensors"
    other.write_bytes(payload)
    assert load_scorer(file, checksum=digest).checksum == digest
    with pytest.raises(ValueError, match=f"corrupt: sha256 .*, expected {digest}"):
        load_scorer(other, checksum=digest)
    assert load_scorer(other).name != load_scorer(file).name  # unchecked, it is another scorer


def test_files_that_will_not_do(weights, tmp_path):
    path = tmp_path / "odd.safetensors"

    def refused(payload, said):
        path.write_bytes(payload)
        with pytest.raises(ValueError, match=said):
            load_scorer(path)

    def saved(weights, **record):
        record = {"format": network.FORMAT, "name": "odd", **record}
        return safetensors.numpy.save(weights, {"ddlib": json.dumps(record)})

    refused(b"", "odd.safetensors is no scorer's file")
    refused(saved(weights)[:-10], "is no scorer's file")
    refused(safetensors.numpy.save(weights), "is no scorer's file")
    refused(saved(weights, format="another"), "another format")
    refused(saved({**weights, "more": np.zeros(3)}), "does not hold the scorer's network: .*more")
    refused(saved({"linear.bias": weights["linear.bias"]}), "does not hold the scorer's network")
    thin = {**weights, "linear.kernel": weights["linear.kernel"][:-1]}
    refused(saved(thin), "does not hold the scorer's network: .*linear.kernel")
    gone = {**weights, "linear.bias": np.full(10, np.nan, np.float16)}
    refused(saved(gone), "not finite: linear.bias")
    with pytest.raises(FileNotFoundError):
        load_scorer(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="batch_size"):
        load_scorer(path, batch_size=0)


# --- Scores name their scorer


def test_scores_are_the_formulas(scorer):
    real, made = pictures(12, seed=2), pictures(8, seed=3) ** 2
    reference = image_statistics(scorer, real)
    p, features = scorer.classify(made)
    assert reference.scorer == scorer.name
    assert score(scorer, made, reference, num_splits=2) == Scores(
        scorer=scorer.name,
        inception_score=inception_score(p, 2).mean,
        frechet_distance=frechet_distance(feature_statistics(features, scorer.name), reference),
        num_images=8,
        num_reference=12,
    )


def test_a_reference_of_another_scorer_is_refused(scorer, weights, tmp_path):
    other = tmp_path / "other.safetensors"
    network.write(other, weights, {"name": "small", "trained": "later"})
    reference = image_statistics(load_scorer(other), pictures())
    with pytest.raises(ValueError, match=f"from the scorer 'small-.*not from '{scorer.name}'"):
        score(scorer, pictures(), reference)
    with pytest.raises(ValueError, match="from the scorer None"):
        score(scorer, pictures(), reference._replace(scorer=None))


# --- The one that ships


def test_the_shipped_file():
    scorer = cifar_scorer()
    path = os.path.join(os.path.dirname(network.__file__), "scorers", "cifar10_jpeg.safetensors")
    assert os.path.getsize(path) <= SHIPPED_BYTES
    assert scorer.name.startswith("cifar10-jpeg-") and scorer.size == 32
    origin = scorer.provenance
    assert origin["dataset"]["name"] == "cifar10-jpeg" and not origin["dataset"]["stand_in"]
    assert origin["notebook"] == "train_scorer" and origin["profile"] == "standard"
    assert len(origin["commit"]) == 40 and not origin["dirty"]
    assert origin["test_accuracy"]["32"] > 0.85 and origin["test_accuracy"]["16"] > 0.8
    assert cifar_scorer() is scorer


def test_the_shipped_scorer_is_right_as_often_as_it_says():
    try:
        test = data.load("cifar10-jpeg", "test", subset=500)
    except DatasetUnavailable:
        pytest.skip("cifar10-jpeg is not at hand")
    scorer = cifar_scorer()
    assert test.checksum == scorer.provenance["dataset"]["checksum"]
    coarse = test.images.reshape(500, 16, 2, 16, 2, 3).mean((2, 4))
    for size, images in (("32", test.images), ("16", coarse)):
        expected = scorer.provenance["test_accuracy"][size]
        found = (scorer.classify(images)[0].argmax(1) == test.labels).mean()
        assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / 500)


def test_a_shipped_file_that_was_changed_is_refused(monkeypatch):
    monkeypatch.setattr("ddlib.metrics.scorers._SHIPPED_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"cifar10_jpeg\.safetensors is corrupt"):
        cifar_scorer.__wrapped__()


# --- Inception


def test_inception_says_what_is_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'ddlib\[metrics\]'"):
        inception_scorer()
    assert "KERAS_BACKEND" not in os.environ


def missing(name):
    raise ModuleNotFoundError(name)


def test_the_user_chooses_the_backend_of_keras():
    """In a process of its own, as Keras is imported once."""
    code = (
        "import os; from ddlib.metrics.inception import import_keras; keras = import_keras(); "
        "print(keras.backend.backend(), os.environ.get('KERAS_BACKEND'))"
    )
    environment = os.environ | {"KERAS_BACKEND": "numpy"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["numpy", "numpy"], done.stderr


# Keras's own, as it writes the old format, which is that of the weights on the network.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_inception_is_the_network_in_the_file(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    keras = import_keras()
    assert keras.backend.backend() == "jax" and "KERAS_BACKEND" not in os.environ
    model = blank_inception(keras)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:  # those of its batch norms stay
        fan_in = max(1, np.prod(variable.shape[:-1]))
        variable.assign(rng.normal(size=variable.shape) * np.sqrt(2 / fan_in))
    path = tmp_path / "random.h5"
    model.save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    scorer = inception_scorer(path, checksum=digest, batch_size=2)
    assert (scorer.name, scorer.size) == (f"inception-v3-keras-{digest[:8]}", 299)
    x = pictures(3, 32)
    p, features = scorer.classify(x)
    assert (p.shape, features.shape) == ((3, 1000), (3, 2048))
    resized = 2 * jax.image.resize(x, (3, 299, 299, 3), "bilinear") - 1
    np.testing.assert_allclose(p, model.predict_on_batch(np.asarray(resized)), rtol=1e-3, atol=1e-7)
    assert p.std(0).max() > 1e-5
    last = model.get_layer("predictions")
    logits = features @ np.asarray(last.kernel.value) + np.asarray(last.bias.value)
    np.testing.assert_allclose(p, jax.nn.softmax(logits), rtol=1e-3, atol=1e-7)

    with pytest.raises(ValueError, match=f"random.h5 is corrupt: sha256 {digest}"):
        inception_scorer(path, checksum="0" * 64)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="not those of Keras's InceptionV3"):
        inception_scorer(path)


def test_inception_without_its_weights_says_what_would_do(monkeypatch, tmp_path):
    monkeypatch.setenv("DDLIB_OFFLINE", "1")
    monkeypatch.setenv("DDLIB_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    with pytest.raises(DatasetUnavailable, match="has no inception_v3_weights") as caught:
        inception_scorer()
    assert "DDLIB_OFFLINE forbids the network" in str(caught.value)
    assert "cifar_scorer() needs no network" in str(caught.value)
    assert "stand-in" not in str(caught.value)
    (tmp_path / "inception_v3_weights_tf_dim_ordering_tf_kernels.h5").write_bytes(b"short")
    with pytest.raises(ValueError, match="is truncated: 5 bytes, expected 96112376"):
        inception_scorer()
