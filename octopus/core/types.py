"""Array aliases used all over the house.

Belongs here: names for NumPy array types. Does not: classes with behaviour.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
DateArray = NDArray[np.datetime64]
