"""Discretisation drift in JAX: what a finite step does that the flow does not.

Each module is one room of the library; import the room you need::

    from ddlib import drift, games, methods

``ddlib.diagnose`` says what a step of gradient descent does to a loss, and why training blows up.

The rooms take functions and return functions. They know nothing of notebooks, plots or devices.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "diagnose":  # imported when asked for: most rooms need no eigenpairs
        from ddlib.diagnosis import diagnose

        return diagnose
    raise AttributeError(f"module 'ddlib' has no attribute {name!r}")
