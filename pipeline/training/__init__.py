"""What training a fold takes, shared by `adapt`, `finetune` and `evidence`."""
