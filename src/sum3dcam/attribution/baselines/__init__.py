"""The comparators that the paper names and that no artefact serves: eager torch with autograd, for evaluation alone."""
