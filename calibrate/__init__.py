"""`--calibrate`: what this client could drive on this machine, found before a run against emulators."""

from calibrate.ceiling import Calibration, Mix
from calibrate.shape import Shape, shape_of, shape_of_config
from calibrate.trial import calibrate

__all__ = ["Calibration", "Mix", "Shape", "calibrate", "shape_of", "shape_of_config"]
