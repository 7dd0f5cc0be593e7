"""Why do my numbers differ? Two run folders laid side by side."""

from .diagnosis import Diagnosis as Diagnosis
from .diagnosis import Finding as Finding
from .diagnosis import doctor as doctor
