"""Shot groups, group accuracies, and how far they can be trusted: intervals and paired differences. All in [0, 1].

Shapes throughout: predicted (N,) int64, or (S, N) for S training seeds on the same test images; labels (N,) int64;
groups (C,) of "many" | "medium" | "few", from `shot_groups` (or index ranges of a manifest) and nowhere else.

Where an interval comes from. The images of one class share what makes the class easy or hard, so they are not
independent evidence about a group: the class is the unit that is resampled, with all its test images. An interval of a
group therefore speaks of "classes like these"; for exactly these classes it is wide, never too narrow. It holds for
the trained models at hand; only `seed_interval` speaks of training again. Every interval names what it estimates.

- below 40 classes: Student t over the class accuracies; for shares of images, a ratio of sums, over its jackknife
  values, with the degrees of freedom of (sum of sizes)^2 / (sum of squared sizes) classes: large classes weigh more;
- from 40 classes: bootstrap over classes, percentiles widened by the t / normal factor that a small sample needs
  (Hesterberg, The American Statistician 2015, "expanded percentile");
- fewer than 5 classes: computed, and flagged `too_small`; one class or seed: no bounds (nan);
- classes that do not differ at all: the spread over classes says nothing and images become the unit.
"""

from .groups import ACCURACIES as ACCURACIES
from .groups import GROUPS as GROUPS
from .groups import ClassMeans as ClassMeans
from .groups import class_accuracies as class_accuracies
from .groups import class_means as class_means
from .groups import group_accuracy as group_accuracy
from .groups import shot_groups as shot_groups
from .intervals import BOOTSTRAP_FROM as BOOTSTRAP_FROM
from .intervals import NO_SPREAD as NO_SPREAD
from .intervals import TRUSTED_FROM as TRUSTED_FROM
from .intervals import Interval as Interval
from .intervals import class_intervals as class_intervals
from .intervals import group_interval as group_interval
from .intervals import leave_one_out as leave_one_out
from .intervals import seed_interval as seed_interval
from .intervals import wilson_interval as wilson_interval
from .pairs import Difference as Difference
from .pairs import McNemar as McNemar
from .pairs import mcnemar as mcnemar
from .pairs import paired_difference as paired_difference
from .pairs import paired_values as paired_values
from .real import read_real_labels as read_real_labels
from .real import real_accuracy as real_accuracy
from .real import real_decisions as real_decisions
