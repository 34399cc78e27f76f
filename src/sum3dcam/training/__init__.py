"""Training on the rendered actions: cached clips, stages from easy to full, resume, a learning curve."""
