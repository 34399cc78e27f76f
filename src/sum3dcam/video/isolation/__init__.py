"""Decoding in processes of their own, which a hostile file may kill but not use."""
