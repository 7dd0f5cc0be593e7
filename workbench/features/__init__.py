"""Features: what a model saw in every image of a data set, and `extract`, which makes them."""

from workbench.features.container import Features as Features
from workbench.features.extraction import extract as extract
from workbench.features.posthoc import PostHoc as PostHoc
from workbench.features.posthoc import confidence as confidence
