"""Curvature: the Hessian of a loss, by products with it, never by its entries unless it is small.

Krylov methods here are Lanczos (real symmetric) and Arnoldi (complex symmetric) with full
reorthogonalisation, started at the vector of interest. When the Krylov space is exhausted, which
happens for any loss with fewer distinct eigenvalues than products, they stop there and the answer
is exact. (matfree 0.6.3 goes on with a spurious coupling: on the identity its tridiagonal matrix
has an off-diagonal 1/2 in the first row, hence our own thirty lines.)
"""

from ddlib.curvature.blocks import Block, block_search, blocks
from ddlib.curvature.eigenpairs import Eigen, eig_scaled, eigh, symmetric, top_eigenpairs
from ddlib.curvature.functions import matrix_function, spectral_sum, unravel_like
from ddlib.curvature.products import Matvec, gradient, hessian, hvp
from ddlib.curvature.spaces import Krylov, krylov
from ddlib.curvature.tracker import Track, tracker

__all__ = [
    "Block",
    "Eigen",
    "Krylov",
    "Matvec",
    "Track",
    "block_search",
    "blocks",
    "eig_scaled",
    "eigh",
    "gradient",
    "hessian",
    "hvp",
    "krylov",
    "matrix_function",
    "spectral_sum",
    "symmetric",
    "top_eigenpairs",
    "tracker",
    "unravel_like",
]
