"""What goes where: weights to cells, matrices to tiles, operators to devices."""
