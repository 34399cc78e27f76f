"""What made the network say so: grids in the graph, and from them maps and boxes in plain numpy."""
