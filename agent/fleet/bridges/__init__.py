"""What the fleet says, in the words of other systems: Home Assistant, ONVIF, Prometheus."""
