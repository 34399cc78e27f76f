"""The load generator behind serving.py: what is sent, when, how, and what is made of the answers."""
