"""Schedules: the commands of a product one by one, under the intervals that the memory demands between them."""
