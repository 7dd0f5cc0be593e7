"""Features: what a model saw in every image of a data set, `extract`, which makes them, `joined` of several splits."""

from workbench.features.container import Features as Features
from workbench.features.extraction import extract as extract
from workbench.features.joining import joined as joined
from workbench.features.joining import splits as splits
from workbench.features.posthoc import PostHoc as PostHoc
from workbench.features.posthoc import confidence as confidence
