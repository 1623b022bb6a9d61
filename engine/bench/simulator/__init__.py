"""An inference server of known capacity: the truth that measurements are checked against."""
