"""Whether pretraining and adaptation paid: arms that differ in the encoder they begin with, on the same folds."""
