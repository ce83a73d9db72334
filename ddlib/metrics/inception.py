"""Inception-v3 as a scorer, with the weights that Keras has for ImageNet."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddlib._check import check_count
from ddlib.data import files, sources
from ddlib.metrics.scorers import Scorer, in_batches, resized

# Keras's file for ImageNet, with the md5 that its source publishes.
_FILE = files.File(
    "inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
    96_112_376,
    "md5:9a0d58056eeedaa3f26cb7ebd46da564",
)
_MIRRORS = (
    "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/",
    "https://github.com/fchollet/deep-learning-models/releases/download/v0.5/",
)


def inception_scorer(
    weights: str | os.PathLike[str] | None = None,
    *,
    checksum: str | None = None,
    batch_size: int = 32,
) -> Scorer:
    """Inception-v3 (Szegedy et al., 2016) trained on ImageNet, as Keras has it.

    1,000 classes, 2,048 features, 5.7 billion multiply-adds an image, 240 times `cifar_scorer`'s.
    It is not the network of 2015 that the papers' scores rest on: other weights, resized otherwise.
    Scores by it can be compared with each other, not with a published 7.5.

    It needs the extra `metrics` (Keras 3). Keras is imported here, on its JAX backend unless
    KERAS_BACKEND says otherwise or Keras is there already.

    Args:
      weights: a .h5 file of Keras's InceptionV3 with its top; None: the one of ImageNet, looked for
        in the folder that DDLIB_DATA names, then in this user's cache, then on the network.
      checksum: the sha256 that `weights` must have; None: any.
      batch_size: how many images are computed on at a time.

    Raises:
      ImportError: the extra is not installed.
      DatasetUnavailable: the weights are not at hand, and no mirror answers (a FileNotFoundError).
      ValueError: the file has another checksum, or holds another network's weights.
    """
    check_count("batch_size", batch_size)
    keras = import_keras()
    if weights is None:
        payload, source = _imagenet_weights()
    else:
        payload, source = Path(weights).read_bytes(), "the caller's file"
    digest = hashlib.sha256(payload).hexdigest()
    if checksum is not None and digest != checksum:
        raise ValueError(f"{weights} is corrupt: sha256 {digest}, expected {checksum}")
    model = blank_inception(keras)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "inception.h5")  # Keras reads files; this one holds what was checked
        file.write_bytes(payload)
        try:
            model.load_weights(file)
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"weights are not those of Keras's InceptionV3: {error}") from error
    both = keras.Model(model.input, [model.output, model.get_layer("avg_pool").output])

    @jax.jit
    def prepared(x: Any) -> Any:
        return 2 * resized(x, 299) - 1

    return Scorer(
        name=f"inception-v3-keras-{digest[:8]}",
        checksum=digest,
        size=299,
        provenance={"name": "inception-v3-keras", "keras": keras.__version__, "source": source},
        classify=in_batches(lambda x: both.predict_on_batch(np.asarray(prepared(x))), batch_size),
    )


def import_keras() -> Any:
    """Keras, on JAX where the choice is ours: it reads the variable when first imported."""
    ours = "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ
    if ours:
        os.environ["KERAS_BACKEND"] = "jax"
    try:
        return importlib.import_module("keras")
    except ModuleNotFoundError as error:
        raise ImportError(
            "inception_scorer needs Keras, the extra `metrics`: pip install 'ddlib[metrics]'"
        ) from error
    finally:
        if ours:
            del os.environ["KERAS_BACKEND"]


def blank_inception(keras: Any) -> Any:
    """The network for images in [−1, 1], with kernels of zeros.

    A minute would go by while JAX compiles a random draw for each kernel's shape.
    """
    with keras.utils.custom_object_scope({"glorot_uniform": keras.initializers.Zeros}):
        return keras.applications.InceptionV3(weights=None)


def _imagenet_weights() -> tuple[bytes, str]:
    try:
        payloads, source = sources.obtain(
            "inception-v3",
            {"all": (_FILE,)},
            "all",
            None,
            files.cache("inception-v3"),
            _MIRRORS,
        )
    except sources.DatasetUnavailable as error:
        tried = str(error).partition(", or ask for a labelled stand-in")[0]  # there is none
        raise sources.DatasetUnavailable(
            f"{tried}, or give the file: inception_scorer(path). cifar_scorer() needs no network."
        ) from error
    return payloads[_FILE.name], source
