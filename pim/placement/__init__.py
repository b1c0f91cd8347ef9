"""Where operators should go: what every group of them costs and loses on each device, and the search among these."""
