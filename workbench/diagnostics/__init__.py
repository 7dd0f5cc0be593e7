"""Diagnostics: functions of features that return numbers which draw and save themselves. One file per question."""

from . import accuracy as accuracy
from . import adapter_scales as adapter_scales
from . import changes as changes
from . import convergence as convergence
from . import cost as cost
from . import ensemble_curve as ensemble_curve
from . import intra_class as intra_class
from . import knn as knn
from . import projection as projection
from . import prompt_matching as prompt_matching
from . import separability as separability
from . import similarity as similarity
from . import weight_norms as weight_norms
from .accuracy import group_report as group_report
from .base import DIAGNOSTICS as DIAGNOSTICS
from .base import GROUP_COLOURS as GROUP_COLOURS
from .base import GROUP_MARKERS as GROUP_MARKERS
from .base import GROUP_ORDER as GROUP_ORDER
from .base import Result as Result
from .base import load_diagnostic as load_diagnostic
from .base import read_provenance as read_provenance
from .ensemble_curve import expansion_curve as expansion_curve
from .intra_class import intra_class_distances as intra_class_distances
from .knn import knn_accuracy as knn_accuracy
from .projection import project as project
from .similarity import class_similarity as class_similarity
