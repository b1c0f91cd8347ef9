"""What can hold a matrix and multiply by it: cells, converters, macros; their noise, precision and energy."""
