"""The technician's view: where the camera looks and what it sees there, without a picture of anybody."""
