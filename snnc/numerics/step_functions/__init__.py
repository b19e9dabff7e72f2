"""From a function of one number to a step function: which levels its values get, and where each begins.

An activation ``y = f(x)`` is carried by counts ``N = clip(round(y / step), lowest, highest)``. ``step``,
``lowest`` and ``highest`` are chosen by least squares over activations (:mod:`.levels`). ``N`` changes where
``f`` crosses the middle between two levels (:mod:`.curve`).
"""

from snnc.numerics.step_functions.choice import Measured as Measured
from snnc.numerics.step_functions.choice import carried as carried
from snnc.numerics.step_functions.choice import with_levels_of as with_levels_of
from snnc.numerics.step_functions.curve import StepFunction as StepFunction
from snnc.numerics.step_functions.curve import step_function as step_function
from snnc.numerics.step_functions.levels import Levels as Levels
from snnc.numerics.step_functions.levels import choose_levels as choose_levels
