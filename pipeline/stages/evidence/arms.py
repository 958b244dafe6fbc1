"""Name the experimental arms that `evidence` compares."""

ADAPTED, IMAGENET, SCRATCH = "adapted", "imagenet", "scratch"
