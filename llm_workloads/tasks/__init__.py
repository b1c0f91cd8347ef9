"""What a model is asked beside perplexity: one file a task."""
