"""Training: the one loop, which knows no method by name.

Two decisions make a run continue bit for bit after any interruption. The order of the images in an epoch is a function
of (seed, stage, sampler, epoch), and everything random inside a step (dropout, mixup, noise in a loss) starts from
(seed, stage, epoch, step); augmentation is a function of (seed, epoch, image) in the data set. So a checkpoint needs
weights, optimiser state and a position, and no random-number state.
"""

from workbench.training.fit import fit as fit
from workbench.training.fit import resume as resume
from workbench.training.head import FittedHead as FittedHead
from workbench.training.head import fit_head as fit_head
from workbench.training.head import gradient_shares as gradient_shares
from workbench.training.head import logit_gradients as logit_gradients
from workbench.training.importing import import_weights as import_weights
from workbench.training.loop import OnEpoch as OnEpoch
from workbench.training.loop import OnStep as OnStep
from workbench.training.plane import Plane as Plane
from workbench.training.plane import three_clouds as three_clouds
