"""Networks and their training: a library of plain functions on tensors."""
