"""What a notebook opens with: its settings, its claims, and where its tables go.

from ddbook import page
run = page.open("two_player_games", profile, parameters)
s, claims = run.settings, run.claims
"""

from ddbook.page.card import Card
from ddbook.page.colours import COLORS, FLOW_COLORS
from ddbook.page.run import Run, open
from ddbook.page.tables import Table

__all__ = ["COLORS", "FLOW_COLORS", "Card", "Run", "Table", "open"]
