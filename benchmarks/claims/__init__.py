"""The paper's two claims measured on rendered actions: gates make labels better, Sum3DCAM makes boxes better."""
