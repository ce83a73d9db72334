"""Another name of `ddlib.scorer`."""

from ddlib.scorer import fold, outputs, start, train_logits, write

__all__ = ["fold", "outputs", "start", "train_logits", "write"]
