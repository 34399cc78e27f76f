"""The paper's tables: what each compares, on which data set, and what the paper printed."""
