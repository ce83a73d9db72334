"""Discretisation drift in JAX: what a finite step does that the flow does not.

Each module is one room of the library; import the room you need::

    from ddlib import drift, games, methods

The rooms take functions and return functions. They know nothing of notebooks, plots or devices.
"""

__version__ = "0.1.0"
