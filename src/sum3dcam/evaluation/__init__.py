"""How well labels and maps hold against ground truth."""
