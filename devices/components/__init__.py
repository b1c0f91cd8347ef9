"""What circuits cost: laws of energy, time and area, each with the node, supply and range for which it is known."""
