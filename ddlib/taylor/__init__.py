"""Taylor series of any JAX function along a line in one real variable.

Backward error analysis differentiates a step several times in the scalar h. Nested forward mode is
right but doubles the program at every order. Here the program is evaluated once in the arithmetic
of truncated power series: linear primitives act on every coefficient, products convolve them, a
few functions have their recurrences (Griewank and Walther 2008, Chapter 13), loops and branches run
their bodies in this arithmetic, and whatever else occurs is expanded by nested forward mode *of
that primitive alone*.

Comparisons, and with them branches, kinks and the ends of loops, are taken at t = 0, as JAX takes
them. The steps of `scan_compose` are expanded for small positive t instead, since at t = 0 a step
does nothing and whatever it compares may tie. There series compare by their first coefficients
that differ; what depends on t alone is compared at a given t > 0; and a loop that ends at t = 0 but
would go on at that t runs until its series has settled (see `ddlib.taylor.control`).

`stop_gradient` is the identity here, and `custom_vjp` its plain function. They say what a loss's
gradient should be, and that has happened by the time the step exists; the step's value still
depends on h through them. A `custom_jvp` is expanded by its own rule.
"""

from ddlib.taylor.control import TURNS
from ddlib.taylor.expansion import coefficients, compose, scan_compose
from ddlib.taylor.series import SMALL, Series

__all__ = ["SMALL", "TURNS", "Series", "coefficients", "compose", "scan_compose"]
