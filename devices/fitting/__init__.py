"""From measurements to a device: the table of measurements, the standard fits, and the device file they give."""
