"""Sources of frames and sound: cameras, streams, files and the simulator, all behind two small protocols."""
