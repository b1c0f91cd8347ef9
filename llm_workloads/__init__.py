"""What must be computed: transformer models, checkpoints, tokenizers, operators, tasks."""
