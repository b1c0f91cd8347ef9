"""What products and models cost: ledgers by family of device, of plans, of loading, and what they hang on."""
