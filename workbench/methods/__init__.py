"""Methods: one file per paper; `create_method` builds one by name."""

from workbench.methods.base import METHODS as METHODS
from workbench.methods.base import Clock as Clock
from workbench.methods.base import Encoded as Encoded
from workbench.methods.base import Method as Method
from workbench.methods.base import Output as Output
from workbench.methods.base import Stage as Stage
from workbench.methods.base import create_method as create_method
from workbench.methods.base import method_class as method_class
from workbench.methods.base import rebuild_method as rebuild_method
