"""Diagnostics: functions of features that return numbers which draw and save themselves. One file per question."""

from . import accuracy as accuracy
from . import changes as changes
from . import cost as cost
from . import intra_class as intra_class
from . import knn as knn
from . import separability as separability
from .accuracy import group_report as group_report
from .base import DIAGNOSTICS as DIAGNOSTICS
from .base import GROUP_COLOURS as GROUP_COLOURS
from .base import GROUP_MARKERS as GROUP_MARKERS
from .base import GROUP_ORDER as GROUP_ORDER
from .base import Result as Result
from .base import load_diagnostic as load_diagnostic
from .base import read_provenance as read_provenance
from .intra_class import intra_class_distances as intra_class_distances
from .knn import knn_accuracy as knn_accuracy
