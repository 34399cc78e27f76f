"""Training on rendered actions or a data set's videos: what is learnt from, in which order, and a loop that resumes."""
