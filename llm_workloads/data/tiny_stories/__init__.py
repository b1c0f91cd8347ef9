"""The model `tiny-stories`: configuration, weights, tokenizer and model card."""
