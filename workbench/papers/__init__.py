"""The five papers as experiments: entries, running them, and parity cards."""

from .card import ParityCard as ParityCard
from .experiment import Experiment as Experiment
from .experiment import experiment as experiment
from .experiment import experiments as experiments
from .reproducing import Reproduction as Reproduction
from .reproducing import reproduce as reproduce
from .setting import Setting as Setting
