"""Image towers: timm vision transformers (plain and CLIP) and CLIP ResNets behind one interface."""

from .base import Backbone as Backbone
from .base import WeightsRecord as WeightsRecord
from .vision import Block as Block
from .vision import ResNet as ResNet
from .vision import ViT as ViT
from .vision import load_backbone as load_backbone
