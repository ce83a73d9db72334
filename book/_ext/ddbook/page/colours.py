"""One colour a method, the same on every page."""

from __future__ import annotations

COLORS = {
    "flow": "#000000",
    "euler": "#D55E00",  # simultaneous Euler with one player
    "simultaneous": "#D55E00",
    "alternating": "#0072B2",
    "modified": "#009E73",
    "published": "#E69F00",
    "heun": "#CC79A7",
    "rk4": "#56B4E9",
    "midpoint": "#7F7F7F",
    "regularized": "#882255",
}
"""One colour a method, the same on every page; all can be told apart by the colour-blind."""

FLOW_COLORS = {
    "gradient descent": "#D55E00",  # as "euler" above
    "NGF": "#000000",  # as "flow"
    "IGR": "#E69F00",
    "third order": "#CC79A7",
    "PF": "#009E73",  # as "modified"
    "PF + non-principal": "#0072B2",
}
"""The same for the flows of gradient descent, which never share a page with the game's methods."""
