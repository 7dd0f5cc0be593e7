"""Training: the one loop, which knows no method by name.

Two decisions make a run continue bit for bit after any interruption. The order of the images in an epoch is a function
of (seed, stage, sampler, epoch), and everything random inside a step (dropout, mixup, noise in a loss) starts from
(seed, stage, epoch, step); augmentation is a function of (seed, epoch, image) in the data set. So a checkpoint needs
weights, optimiser state and a position, and no random-number state.
"""

from workbench.training.fit import fit as fit
from workbench.training.fit import resume as resume
from workbench.training.importing import import_weights as import_weights
from workbench.training.loop import OnEpoch as OnEpoch
from workbench.training.loop import OnStep as OnStep
