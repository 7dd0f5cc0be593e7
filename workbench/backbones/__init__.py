"""Image towers (timm ViTs, plain and CLIP, and CLIP ResNets) and text towers (open_clip), each behind one interface."""

from .base import Backbone as Backbone
from .base import WeightsRecord as WeightsRecord
from .class_vectors import ClassVectors as ClassVectors
from .class_vectors import load_class_vectors as load_class_vectors
from .reading import context_length as context_length
from .reading import embed_tokens as embed_tokens
from .reading import encode_prompts as encode_prompts
from .reading import token_width as token_width
from .templates import TEMPLATES as TEMPLATES
from .templates import SentenceEncoder as SentenceEncoder
from .templates import check_joint_space as check_joint_space
from .templates import check_templates as check_templates
from .templates import class_embeddings as class_embeddings
from .templates import class_sentences as class_sentences
from .templates import clean_class_name as clean_class_name
from .templates import joint_embeddings as joint_embeddings
from .text import TextTower as TextTower
from .text import load_text_tower as load_text_tower
from .vision import Block as Block
from .vision import ResNet as ResNet
from .vision import ViT as ViT
from .vision import load_backbone as load_backbone
