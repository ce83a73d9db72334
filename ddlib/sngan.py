"""The SN-GAN pair of networks by itself: see `ddlib.gan`, which has these names too."""

from ddlib.gan.layers import DECAY
from ddlib.gan.networks import Discriminator, Generator
from ddlib.gan.sngan import SLOPE, discriminator, generator

__all__ = ["DECAY", "SLOPE", "Discriminator", "Generator", "discriminator", "generator"]
