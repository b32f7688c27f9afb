"""What a technician wants to know of a device: one file a subject, each a function that looks and says what it found.

The doctor stands above both processes and belongs to neither: it opens what nobody holds, asks the running agent for
what it holds, and changes nothing. Nothing but the command line may import it.
"""
