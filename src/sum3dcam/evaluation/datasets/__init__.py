"""The data sets of the paper in their own formats, each as labelled videos."""
