"""The shipped model, its tokenizer and its card."""
