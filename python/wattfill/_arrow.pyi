from typing import Any

import numpy as np
import numpy.typing as npt

COLUMNS: tuple[str, ...]

def schema() -> Any: ...
def batch(
    group: npt.NDArray[np.int64],
    power: npt.NDArray[np.float64],
    reason: npt.NDArray[np.uint8],
    bound_by: npt.NDArray[np.int64],
) -> Any: ...
def stream(batch_capsule: Any) -> Any: ...
def check_request(capsule: Any) -> None: ...
